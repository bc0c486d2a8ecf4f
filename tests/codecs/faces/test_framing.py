"""Streams of a frame and its faces: byte by byte, there and back, and damaged."""

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.faces.framing import (
    MOST_FACES,
    MOST_STEPS,
    CodedFace,
    FaceRegion,
    SplitStream,
    join_stream,
    quantise,
    split_stream,
)

REGION = FaceRegion(x_min=-1.25, y_min=50.0, side=32.0, angle_degrees=90.0, score=0.8, is_outside=True)


def face(stream: bytes = b"abc", *, region: FaceRegion = REGION) -> CodedFace:
    return CodedFace(region=region, stream=stream)


def changed(name: str, value: float) -> FaceRegion:
    """Return the region with another number."""
    return dataclasses.replace(REGION, **{name: value})  # type: ignore[arg-type]  # none of these is the flag


def pixels(largest: float) -> st.SearchStrategy[float]:
    return st.floats(-largest, largest, allow_subnormal=False)


regions = st.builds(
    FaceRegion,
    x_min=pixels(9000),
    y_min=pixels(9000),
    side=st.floats(0.001, 9000),
    angle_degrees=st.floats(-720, 720),
    score=st.floats(0, 1),
    is_outside=st.booleans(),
)


def test_a_frame_without_faces_costs_one_byte() -> None:
    assert join_stream(b"frame", []) == b"\x00frame"
    assert split_stream(b"\x00") == SplitStream(frame=b"", faces=())


def test_a_face_is_written_byte_by_byte_as_the_format_page_says() -> None:
    """Left -5 quarters is zigzag 9; top 200 is 400 = 0x190, low seven bits first; side 128; 64 of 256 angles."""
    expected = bytes([1, 9, 0x90, 0x03, 0x80, 0x01, 64, 204, 2 * 3 + 1]) + b"abc" + b"frame"

    assert join_stream(b"frame", [face()]) == expected
    assert split_stream(expected).faces[0].region == quantise(REGION)


def test_lengths_from_64_on_take_two_bytes() -> None:
    """Double the length and the flag: 2 * 63 + 1 = 127 is one byte yet, 2 * 64 = 128 is two."""
    for stream, is_outside, expected in (
        (bytes(63), True, b"\x7f"),
        (bytes(64), False, b"\x80\x01"),
        (bytes(300), True, b"\xd9\x04"),
    ):
        joined = join_stream(b"", [face(stream, region=dataclasses.replace(REGION, is_outside=is_outside))])
        assert joined[8 : 8 + len(expected)] == expected
        assert len(joined) == 8 + len(expected) + len(stream)


def test_regions_are_rounded_to_quarters_of_pixels_and_256ths_of_a_turn() -> None:
    region = FaceRegion(x_min=0.13, y_min=-0.13, side=0.01, angle_degrees=-1.0, score=0.5, is_outside=False)

    assert quantise(region) == FaceRegion(
        x_min=0.25, y_min=-0.25, side=0.25, angle_degrees=255 * 360 / 256, score=128 / 255, is_outside=False
    )
    assert quantise(dataclasses.replace(region, angle_degrees=359.9)).angle_degrees == 0


def test_borders_of_a_region_follow_from_corner_and_side() -> None:
    assert (REGION.x_max, REGION.y_max) == (30.75, 82.0)


@given(st.lists(st.builds(CodedFace, region=regions, stream=st.binary(max_size=200)), max_size=6), st.binary())
def test_what_was_joined_is_split_into_the_same(faces: list[CodedFace], frame: bytes) -> None:
    split = split_stream(join_stream(frame, faces))

    assert split.frame == frame
    assert [each.stream for each in split.faces] == [each.stream for each in faces]
    assert [each.region for each in split.faces] == [quantise(each.region) for each in faces]
    for before, after in zip(faces, split.faces, strict=True):
        assert abs(after.region.x_min - before.region.x_min) <= 1 / 8
        assert abs(after.region.score - before.region.score) <= 1 / 510 + 1e-9


@given(regions)
def test_a_region_that_was_rounded_once_stays(region: FaceRegion) -> None:
    assert quantise(quantise(region)) == quantise(region)


@given(st.binary(max_size=60))
def test_any_bytes_are_split_in_one_way_or_refused(stream: bytes) -> None:
    """What is split joins to the very same bytes: no stream has two forms."""
    try:
        split = split_stream(stream)
    except BitstreamError:
        return
    assert join_stream(split.frame, split.faces) == stream


def test_damaged_streams_are_split_or_refused() -> None:
    """Bits flipped, cut and put in: never anything but a `BitstreamError`, and nothing that would not join again."""
    good = join_stream(
        bytes(range(40)), [face(bytes(90)), face(b"", region=changed("x_min", 4000.0)), face(bytes(range(200)))]
    )
    rng = random.Random(0)
    refused = 0

    for _ in range(4000):
        damaged = bytearray(good)
        place = rng.randrange(len(damaged))
        match rng.randrange(3):
            case 0:
                damaged[place] ^= 1 << rng.randrange(8)
            case 1:
                del damaged[place:]
            case 2:
                damaged[place:place] = rng.choice([rng.randbytes(3), b"\xff" * 9, b"\x80" * 4])
        try:
            split = split_stream(bytes(damaged))
        except BitstreamError:
            refused += 1
        else:
            assert join_stream(split.frame, split.faces) == bytes(damaged)

    assert refused > 500


HEAD = bytes([1, 9, 8, 8])
"""One face: left, top and side."""


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (b"", "the number of faces has 1 bytes, and the stream ends after 0"),
        (b"\x80", "the number of faces has 1 bytes, and the stream ends after 0"),
        (b"\x80\x00", "the number of faces is written with more bytes than it needs"),
        (b"\x80\x20", "the number of faces must be at most 4095 as it is stored, got 4096"),
        (b"\xff" * 9, "the number of faces has more than 5 bytes"),
        (b"\x02", "the left border of face 0 of 2 has 1 bytes"),
        (
            b"\x01\x82\x80\x80\x01",
            "the left border of face 0 of 1 must be at most 2097152 as it is stored, got 2097154",
        ),
        (b"\x01\x00\x81\x00", "the upper border of face 0 of 1 is written with more bytes than it needs"),
        (b"\x01\x09\x08\x00\x00\x00\x00", "the side of face 0 of 1 is 0"),
        (b"\x01\x09\x08\x81\x80\x40", "the side of face 0 of 1 must be at most 1048576 as it is stored, got 1048577"),
        (HEAD + b"\x00", "angle and score of face 0 of 1 has 2 bytes, and the stream ends after 1"),
        (HEAD + b"\x00\x00\x07ab", "the stream of face 0 of 1 has 3 bytes, and the stream ends after 2"),
        (HEAD + b"\x00\x00\xff\xff\xff\xff\x0f", "the stream of face 0 of 1 has 2147483647 bytes, and"),
        (HEAD + b"\x00\x00\x80\x80\x80\x80\x10", "the length of face 0 of 1 must be at most 4294967295"),
    ],
)
def test_what_is_wrong_is_named(stream: bytes, problem: str) -> None:
    with pytest.raises(BitstreamError, match=f"^{problem}"):
        split_stream(stream)


def test_the_second_of_two_faces_is_named() -> None:
    stream = join_stream(b"", [face(), face(bytes(9))])

    with pytest.raises(BitstreamError, match="the stream of face 1 of 2 has 9 bytes, and the stream ends after 8"):
        split_stream(stream[:-1])


def test_as_many_faces_as_can_be_are_joined_and_no_more() -> None:
    most = [face(b"")] * MOST_FACES

    assert len(split_stream(join_stream(b"", most)).faces) == MOST_FACES
    with pytest.raises(CodecError, match="at most 4095 faces, got 4096"):
        join_stream(b"", [*most, face()])


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("x_min", float("nan"), "finite"),
        ("score", float("inf"), "finite"),
        ("score", 1.01, "score must be 0 to 1, got 1.01"),
        ("score", -0.01, "score must be 0 to 1"),
        ("side", 0.0, "sides above 0"),
        ("side", -4.0, "sides above 0"),
        ("side", 262145.0, "lie within 262144 pixels"),
        ("y_min", -262145.0, "lie within 262144 pixels"),
    ],
)
def test_regions_that_can_not_be_stored_are_refused(name: str, value: float, problem: str) -> None:
    with pytest.raises(CodecError, match=problem):
        quantise(changed(name, value))
    with pytest.raises(CodecError, match=problem):
        join_stream(b"", [face(region=changed(name, value))])


def test_the_largest_numbers_come_back() -> None:
    most = MOST_STEPS / 4

    region = FaceRegion(x_min=-most, y_min=most, side=most, angle_degrees=0, score=1, is_outside=False)

    assert split_stream(join_stream(b"", [CodedFace(region=region, stream=b"")])).faces[0].region == region
