"""Packs: what goes in comes out, in few bytes, and whatever is not a pack is refused in words."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import numpy as np
import pytest
from google_crc32c import value as crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from framevault.storage.errors import PackError, UnsupportedPackError
from framevault.storage.pack_envelope import TRAILER
from framevault.storage.pack_ranges import read_pack_table, read_payloads
from framevault.storage.packs import (
    Pack,
    PackHeader,
    PackWriter,
    read_pack,
)
from framevault.storage.store import open_store
from tests.storage.pack_forging import Forgery
from tests.storage.samples import pack_header, sample_pack

MOST_TABLE_BYTES_PER_FRAME = 8
"""The design's promise."""

LARGEST_PTS = 2**63 - 1

Frame = tuple[bytes, int, bool, bool]
"""Stream, pts, keyframe flag and whether it is independent."""


@st.composite
def frames_of_any_kind(draw: st.DrawFn) -> list[Frame]:
    pts = sorted(draw(st.sets(st.integers(-LARGEST_PTS, LARGEST_PTS), min_size=1, max_size=40)))
    return [
        (draw(st.binary(max_size=50)), each, draw(st.booleans()), number == 0 or draw(st.booleans()))
        for number, each in enumerate(pts)
    ]


def make_pack(frames: list[Frame]) -> bytes:
    writer = PackWriter(pack_header())
    for payload, pts, is_keyframe, is_independent in frames:
        writer.add(payload, pts=pts, is_keyframe=is_keyframe, is_independent=is_independent)
    return writer.finish()


def content(pack: Pack) -> tuple[PackHeader, list[Frame]]:
    frames = [
        (pack.payload(frame.frame_number), frame.pts, frame.is_keyframe, frame.is_independent) for frame in pack.frames
    ]
    return pack.header, frames


@given(frames=frames_of_any_kind())
def test_what_goes_in_comes_out(frames: list[Frame]) -> None:
    pack = read_pack(make_pack(frames))

    assert content(pack) == (pack_header(), frames)
    assert [frame.frame_number for frame in pack.frames] == list(range(len(frames)))


def test_the_same_frames_give_the_same_bytes() -> None:
    assert sample_pack() == sample_pack()


def test_the_example_of_the_format_page_is_true() -> None:
    pack = make_pack([(b"a" * 100, 0, True, True), (b"b" * 350, 512, False, False), (b"c" * 101, 1025, False, False)])

    table_length, num_frames, _, _, first_pts, pts_step, smallest, bits, *_ = TRAILER.unpack(pack[-48:])
    table = pack[-48 - table_length : -48]

    assert (table_length, num_frames, first_pts, pts_step, smallest, bits) == (19, 3, 0, 512, 100, 8)
    assert table[:3] == bytes.fromhex("00fa01")
    assert table[3:15] == b"".join(crc32c(each).to_bytes(4, "little") for each in (b"a" * 100, b"b" * 350, b"c" * 101))
    assert table[15:] == bytes.fromhex("00020708")


@settings(max_examples=60)
@given(
    num_frames=st.integers(1, 200),
    seed=st.integers(0, 2**32),
    step=st.sampled_from([1, 40, 512, 1001, 3003, 90_000]),
    jitter=st.integers(0, 30),
    keyframe_share=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    independent_share=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
)
def test_the_table_takes_at_most_8_bytes_a_frame(
    num_frames: int, seed: int, step: int, jitter: int, keyframe_share: float, independent_share: float
) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(100, 60_000, num_frames)
    pts = np.cumsum(random.integers(max(1, step - jitter), step + jitter + 1, num_frames))
    keyframes = random.random(num_frames) < keyframe_share
    independent = random.random(num_frames) < independent_share
    independent[0] = True
    frames = [
        (bytes(length), int(p), bool(key), bool(free))
        for length, p, key, free in zip(lengths, pts, keyframes, independent, strict=True)
    ]

    pack = make_pack(frames)

    assert table_bytes(pack) <= MOST_TABLE_BYTES_PER_FRAME * num_frames


def table_bytes(pack: bytes) -> int:
    return int(TRAILER.unpack(pack[-TRAILER.size :])[0])


def test_a_steady_segment_of_similar_streams_takes_about_6_bytes_a_frame_of_table() -> None:
    pack = sample_pack(num_frames=128, sizes=(100, 400))

    assert table_bytes(pack) == (128 * 9) // 8 + 128 * 4 + 127 + 64


def test_an_error_names_the_damaged_frame_and_costs_no_other() -> None:
    data = bytearray(sample_pack(num_frames=5))
    offset = read_pack(bytes(data)).frames[3].offset
    data[offset + 4] ^= 1

    pack = read_pack(bytes(data), key="packs/ab/x.fvp")

    with pytest.raises(PackError, match=r"packs/ab/x\.fvp: frame 3 must have CRC32C"):
        pack.payload(3)
    with pytest.raises(PackError, match="frame 3"):
        pack.check_payloads()
    assert pack.payload(2)
    assert pack.payload(4)


def test_every_flipped_bit_is_found() -> None:
    data = sample_pack(num_frames=4)

    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(PackError):
            read_pack(bytes(damaged)).check_payloads()


def test_every_truncation_is_found() -> None:
    data = sample_pack(num_frames=4)

    for length in range(len(data)):
        with pytest.raises(PackError, match=r"^packs/x\.fvp: "):
            read_pack(data[:length], key="packs/x.fvp")


@settings(max_examples=400)
@given(edits=st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_a_mutated_pack_is_refused_or_means_the_same(edits: list[tuple[int, bytes]]) -> None:
    original = sample_pack(num_frames=6, sizes=(0, 30))
    data = bytearray(original)
    for position, replacement in edits:
        start = position % len(data)
        data[start : start + len(replacement)] = replacement

    try:
        found = content(read_pack(bytes(data)))
    except PackError:
        return
    assert found == content(read_pack(original))


def test_a_header_that_requires_something_unknown_is_refused_in_words() -> None:
    header = pack_header().to_json().replace(b'"requires":[]', b'"requires":["crops"]')

    with pytest.raises(UnsupportedPackError, match="header: needs 'crops', which this framevault does not know"):
        read_pack(Forgery(header=header, table=b"\0\0\0\0\7", num_frames=1).to_bytes())


def test_members_of_a_header_that_nobody_knows_are_ignored() -> None:
    header = pack_header().to_json()[:-1] + b',"zebra":{"crc32c":[1e300,{}]}}'

    assert read_pack(Forgery(header=header, table=b"\0\0\0\0\7", num_frames=1).to_bytes()).header == pack_header()


@pytest.mark.parametrize("lengths", [[0], [0, 0, 0], [0, 5, 0], [5, 0, 0], [0, 0, 5]])
def test_streams_may_have_no_bytes(lengths: list[int]) -> None:
    frames = [(b"x" * length, number, number == 0, number == 0) for number, length in enumerate(lengths)]
    data = make_pack(frames)
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.create("packs/x.fvp", data)

    table = read_pack_table(store, "packs/x.fvp", size_bytes=len(data))

    assert content(read_pack(data)) == (pack_header(), frames)
    for wanted in ([number] for number in range(len(lengths))):
        assert read_payloads(store, table, frame_numbers=wanted) == [b"x" * lengths[wanted[0]]]
    assert read_payloads(store, table, frame_numbers=range(len(lengths))) == [stream for stream, *_ in frames]


def test_a_pack_that_begins_with_a_dependent_frame_is_never_written() -> None:
    writer = PackWriter(pack_header())

    with pytest.raises(PackError, match="the first frame must be independent"):
        writer.add(b"x", pts=0, is_keyframe=True, is_independent=False)


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"coded_height": 0}, "coded_height"),
        ({"coded_width": 2**40}, "coded_width"),
        ({"time_base": (1, 0)}, "time_base"),
        ({"video_id": "x" * 32}, "video_id"),
        ({"quality": -1}, "quality"),
        ({"bitstream_version": 0}, "bitstream_version"),
        ({"codec": "Raw"}, "codec"),
        ({"weights_digest": ""}, "weights_digest"),
        ({"rotation_degrees": 45}, "rotation_degrees"),
        ({"settings": {"deep": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}}, "settings may be 16 deep"),
        ({"settings": {"long": "x" * 2**20}}, "the header have 1048576 bytes"),
    ],
)
def test_a_header_that_could_not_be_read_back_is_never_written(change: dict[str, object], member: str) -> None:
    header = replace(pack_header(), **change)  # type: ignore[arg-type] # the wrong types are the point

    with pytest.raises(PackError, match=member):
        PackWriter(header)


def test_an_empty_pack_and_pts_that_do_not_rise_are_refused() -> None:
    writer = PackWriter(pack_header())
    with pytest.raises(PackError, match="at least one frame"):
        writer.finish()

    writer.add(b"x", pts=5, is_keyframe=True, is_independent=True)

    with pytest.raises(PackError, match="pts must rise, got 5 after 5"):
        writer.add(b"y", pts=5, is_keyframe=False, is_independent=True)


@given(frames=frames_of_any_kind(), outside=st.sets(st.integers(0, 39)))
def test_frames_outside_the_domain_come_out_as_such(frames: list[Frame], outside: set[int]) -> None:
    writer = PackWriter(pack_header())
    for number, (payload, pts, is_keyframe, is_independent) in enumerate(frames):
        writer.add(
            payload, pts=pts, is_keyframe=is_keyframe, is_independent=is_independent, is_outside=number in outside
        )

    pack = read_pack(writer.finish())

    assert [frame.is_outside for frame in pack.frames] == [number in outside for number in range(len(frames))]
    assert (b"outside_domain" in pack.data) == any(frame.is_outside for frame in pack.frames)


def test_frames_that_the_given_header_names_stay_outside() -> None:
    """As when a pack is written again at a lower rate."""
    writer = PackWriter(replace(pack_header(), outside_domain=((0, 1), (2, 2))))
    for number in range(5):
        writer.add(b"x", pts=number, is_keyframe=True, is_independent=True, is_outside=number == 1)

    pack = read_pack(writer.finish())

    assert pack.header.outside_domain == ((0, 4),)
    assert [frame.is_outside for frame in pack.frames] == [True, True, True, True, False]


@pytest.mark.parametrize(
    "runs", ["[[0, 2]]", "[[1, 1]]", "[[0, 0]]", "[[0]]", "[0]", '[["0", 1]]', "[[0, 1], [0, 1]]", "{}"]
)
def test_runs_of_frames_that_can_not_be_are_refused(runs: str) -> None:
    header = json.loads(pack_header().to_json()) | {"outside_domain": json.loads(runs)}
    table = crc32c(b"x").to_bytes(4, "little") + b"\7"
    forged = Forgery(
        header=json.dumps(header).encode(), payloads=b"x", table=table, num_frames=1, smallest_length=1
    ).to_bytes()

    with pytest.raises(PackError, match="outside_domain"):
        read_pack(forged)


def test_another_version_is_refused_in_words() -> None:
    data = bytearray(sample_pack())
    data[4] = 7

    with pytest.raises(UnsupportedPackError, match="is a pack of version 7, this framevault reads version 1"):
        read_pack(bytes(data))


def test_a_pack_of_version_0_is_refused_and_told_what_to_do() -> None:
    data = bytearray(sample_pack())
    data[4] = 0

    with pytest.raises(UnsupportedPackError, match=r"is of version 0, .* compress the sources again"):
        read_pack(bytes(data))
