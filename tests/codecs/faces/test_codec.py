"""The codec of frames and faces: to who reads features it is dicm."""

import dataclasses
from pathlib import Path

import pytest
import torch

from framevault.codecs.base import Codec, SupportsLatents, SupportsRepeats, SupportsThinning
from framevault.codecs.dicm.codec import DicmCodec, grid_of, load_dicm
from framevault.codecs.errors import BitstreamError, CheckpointError, CodecError
from framevault.codecs.faces.codec import FacesCodec, load_faces
from framevault.codecs.faces.framing import CodedFace, join_stream, split_stream
from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, frames_spec, thinned, thinned_faces
from framevault.codecs.testing import CodecTests, ThinningTests, smooth_frames
from tests.codecs.dicm.moving_toy import random_segment
from tests.codecs.faces.joining import JoiningCodec, made_up_faces, with_faces

SIZE = {"height": 48, "width": 80}
VIDEO = CodecSpec(name="dicm+hsc", quality=8)


def joining(spec: CodecSpec) -> JoiningCodec:
    return JoiningCodec(spec, load_dicm(frames_spec(spec)))


class TestFacesBesideVideo(CodecTests):
    """With predicted frames."""

    spec = VIDEO

    @pytest.fixture(scope="class")
    @classmethod
    def codec(cls) -> Codec:
        return joining(cls.spec)

    # One zero byte is a frame without faces that equals the one before it.
    @pytest.mark.parametrize("damage", [b"", b"\xff" * 7, b"\x00" * 99])
    def test_a_stream_that_is_no_stream_is_named(self, codec: Codec, damage: bytes) -> None:
        """The error says which stream of the call it is."""
        super().test_a_stream_that_is_no_stream_is_named(codec, damage)


class TestThinningBesideFaces(ThinningTests):
    """Frames lose slices, faces nothing."""

    spec = VIDEO

    @pytest.fixture(scope="class")
    @classmethod
    def codec(cls) -> Codec:
        return joining(cls.spec)


@pytest.fixture(scope="module")
def codec() -> FacesCodec:
    return load_faces(VIDEO)


@pytest.fixture(scope="module")
def dicm() -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", quality=8))


@pytest.fixture(scope="module")
def plain(dicm: DicmCodec) -> list[bytes]:
    """Streams of frames alone; the third one equals the second."""
    frames_nchw = smooth_frames(5, **SIZE)
    frames_nchw[2] = frames_nchw[1]
    return dicm.encoder(**SIZE).encode(frames_nchw)


@pytest.fixture(scope="module")
def joined(plain: list[bytes]) -> list[bytes]:
    return with_faces(plain)


def test_it_can_what_dicm_can(codec: FacesCodec) -> None:
    decoder = codec.decoder(**SIZE)

    assert isinstance(codec, SupportsThinning)
    assert isinstance(decoder, SupportsRepeats)
    assert isinstance(decoder, SupportsLatents)


def test_features_and_latents_are_those_of_dicm_to_the_bit(
    codec: FacesCodec, dicm: DicmCodec, plain: list[bytes], joined: list[bytes]
) -> None:
    assert torch.equal(codec.decoder(**SIZE).decode(joined), dicm.decoder(**SIZE).decode(plain))
    for found, expected in (
        (codec.decoder(**SIZE).decode_changes(joined), dicm.decoder(**SIZE).decode_changes(plain)),
        (codec.decoder(**SIZE).decode_latent_changes(joined), dicm.decoder(**SIZE).decode_latent_changes(plain)),
    ):
        assert torch.equal(found.decoded, expected.decoded)
        assert found.rows == expected.rows
        assert len(found.decoded) < len(joined)


def test_calls_go_on_where_the_last_one_ended(codec: FacesCodec, joined: list[bytes]) -> None:
    """Predicted frames lean on those of the call before."""
    decoder = codec.decoder(**SIZE)

    apart = [*decoder.decode(joined[:2]), *decoder.decode_changes(joined[2:]).decoded]

    assert len(apart) >= 3
    torch.testing.assert_close(apart[0], codec.decoder(**SIZE).decode(joined)[0], rtol=1e-4, atol=1e-4)


def test_a_frame_stands_alone_if_it_does_without_its_faces(
    codec: FacesCodec, dicm: DicmCodec, plain: list[bytes], joined: list[bytes]
) -> None:
    found = [codec.is_independent(stream) for stream in joined]

    assert found == [dicm.is_independent(stream) for stream in plain]
    assert set(found) == {True, False}
    with pytest.raises(BitstreamError, match="the number of faces"):
        codec.is_independent(b"")


def test_thinned_frames_are_those_of_dicm_and_keep_their_faces(
    codec: FacesCodec, dicm: DicmCodec, plain: list[bytes], joined: list[bytes]
) -> None:
    thin_streams = codec.thinner(**SIZE, slices=2).thin(joined)

    parts = [split_stream(stream) for stream in thin_streams]
    assert [part.frame for part in parts] == dicm.thinner(**SIZE, slices=2).thin(plain)
    assert [part.faces for part in parts] == [split_stream(stream).faces for stream in joined]
    assert isinstance(load_codec(thinned(VIDEO, slices=2)), FacesCodec)


@pytest.fixture(scope="module")
def real(codec: FacesCodec, plain: list[bytes]) -> list[bytes]:
    """Streams of frames with two faces each, but for the fourth, which has none; one face has no bytes."""
    streams = codec.faces.encoder(height=128, width=128).encode(smooth_frames(10, 128, 128))
    streams[5] = b""
    regions = [face.region for face in made_up_faces(1, number=2)]
    coded = iter([CodedFace(region=regions[number % 2], stream=each) for number, each in enumerate(streams)])
    return [join_stream(frame, [next(coded) for _ in range(2 * (n != 3))]) for n, frame in enumerate(plain)]


def faces_of(streams: list[bytes]) -> list[CodedFace]:
    return [face for stream in streams for face in split_stream(stream).faces]


def test_thinned_faces_are_those_of_hsc_and_their_frames_stay(codec: FacesCodec, real: list[bytes]) -> None:
    thin_streams = codec.part_thinner(**SIZE, face_slices=3).thin(real)

    reader = load_codec(thinned_faces(VIDEO, slices=3))
    assert isinstance(reader, FacesCodec)
    before, after = faces_of(real), faces_of(thin_streams)
    assert [split_stream(each).frame for each in thin_streams] == [split_stream(each).frame for each in real]
    assert [face.region for face in after] == [face.region for face in before]
    streams = [face.stream for face in after]
    assert streams == codec.faces.thinner(height=128, width=128, slices=3).thin([face.stream for face in before])
    assert [len(stream) == 0 for stream in streams] == [n == 5 for n in range(8)]
    assert sum(map(len, streams)) < sum(len(face.stream) for face in before)
    size = {"height": 128, "width": 128}
    expected = codec.faces.decoder(**size).decode_latents([face.stream for face in before], slices=3)
    found = reader.faces.decoder(**size).decode_latents(streams)
    assert torch.equal(found.core_nk, expected.core_nk)
    torch.testing.assert_close(found.feature_nchw, expected.feature_nchw)
    assert torch.equal(reader.decoder(**SIZE).decode(thin_streams), codec.decoder(**SIZE).decode(real))


def test_faces_and_frames_are_thinned_together_as_one_after_the_other(codec: FacesCodec, real: list[bytes]) -> None:
    both = codec.part_thinner(**SIZE, slices=1, face_slices=0).thin(real)

    between = load_codec(thinned_faces(VIDEO, slices=4))
    assert isinstance(between, FacesCodec)
    few = codec.part_thinner(**SIZE, face_slices=4).thin(real)
    assert between.part_thinner(**SIZE, slices=1, face_slices=0).thin(few) == both
    with pytest.raises(CodecError, match="slices must be 0 to 3, fewer than the 4 of the streams, got 4"):
        between.part_thinner(**SIZE, face_slices=4)


@pytest.mark.parametrize("version", [9, 13])
@pytest.mark.parametrize("slices", [None, 1])
@pytest.mark.parametrize("face_slices", [None, 0])
def test_moved_frames_are_those_of_dicm_whatever_was_thinned(
    moving_path: Path, version: int, slices: int | None, face_slices: int | None
) -> None:
    """Versions 9 to 12, and 13 to 16."""
    grid = grid_of(**SIZE)
    moving = load_dicm(CodecSpec(name="dicm", weights=str(moving_path), bitstream_version=version))
    plain, _ = random_segment(moving, 14, grid=grid, seed=1)
    whole = CodecSpec(name="dicm+hsc", weights=str(moving_path), bitstream_version=version)
    few, spec = moving, whole
    codec = load_faces(whole)
    streams = [join_stream(frame, []) for frame in plain]
    if slices is not None:
        spec, few = thinned(spec, slices=slices), load_dicm(thinned(moving.spec, slices=slices))
        streams = codec.thinner(**SIZE, slices=slices).thin(streams)
        plain = moving.thinner(**SIZE, slices=slices).thin(plain)
    if face_slices is not None:
        spec = thinned_faces(spec, slices=face_slices)

    reader = load_faces(spec)

    offset = {(None, None): 0, (1, None): 1, (None, 0): 2, (1, 0): 3}[slices, face_slices]
    assert spec.bitstream_version == version + offset
    assert [split_stream(stream).frame for stream in streams] == plain
    assert [reader.is_independent(stream) for stream in streams] == [few.is_independent(stream) for stream in plain]
    assert torch.equal(reader.decoder(**SIZE).decode(streams), few.decoder(**SIZE).decode(plain))


def test_a_damaged_face_is_named_by_frame_and_number(
    codec: FacesCodec, real: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_stream(real[2])
    damaged = join_stream(split.frame, [split.faces[0], dataclasses.replace(split.faces[1], stream=b"\xff" * 9)])
    streams = [*real[:2], damaged, *real[3:]]

    for at_once in (64, 4):
        monkeypatch.setattr("framevault.codecs.faces.codec.FACES_AT_ONCE", at_once)
        with pytest.raises(BitstreamError, match=r"^stream 2 of the call: face 1: (?!stream)"):
            codec.part_thinner(**SIZE, face_slices=2).thin(streams)


def test_a_stream_without_sound_faces_is_named_and_nothing_leans_on_what_was_before(
    codec: FacesCodec, joined: list[bytes]
) -> None:
    decoder, thinner = codec.decoder(**SIZE), codec.thinner(**SIZE, slices=1)
    decoder.decode(joined[:1])
    thinner.thin(joined[:1])
    damaged = joined[3][:20]

    for read in (decoder.decode, decoder.decode_changes, decoder.decode_latent_changes, thinner.thin):
        with pytest.raises(BitstreamError, match="stream 1 of the call: the stream of face 1 of 3 has 121 bytes"):
            read([joined[0], damaged])
        with pytest.raises(BitstreamError, match="which was not decoded"):
            read(joined[1:2])


def test_encoding_asks_for_faces_first(codec: FacesCodec) -> None:
    with pytest.raises(CodecError, match="encode with FaceEncoder of workers/face_encoder"):
        codec.encoder(**SIZE)


def test_faces_decode_with_the_codec_that_made_them(codec: FacesCodec, plain: list[bytes]) -> None:
    """Real ones, of the shipped checkpoints."""
    hsc = codec.faces
    streams = hsc.encoder(height=128, width=128).encode(smooth_frames(2, 128, 128))
    regions = [face.region for face in made_up_faces(1, number=2)]
    faces = [CodedFace(region=region, stream=stream) for region, stream in zip(regions, streams, strict=True)]

    split = split_stream(join_stream(plain[0], faces))

    assert [face.stream for face in split.faces] == streams
    assert hsc.decoder(height=128, width=128).decode([face.stream for face in split.faces]).shape == (2, 3, 128, 128)


def test_who_reads_features_needs_no_weights_for_faces(tmp_path: Path, plain: list[bytes], joined: list[bytes]) -> None:
    """Those are read when faces are asked for, once."""
    missing = CodecSpec(name="hsc", weights=str(tmp_path / "none.safetensors"))
    codec = load_faces(dataclasses.replace(VIDEO, faces=missing))

    assert codec.decoder(**SIZE).decode(joined).shape[0] == len(plain)
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        _ = codec.faces


def test_both_are_loaded_as_the_spec_says(toy_path: Path, toy_hsc_path: Path) -> None:
    faces = CodecSpec(name="hsc", weights=str(toy_hsc_path), quality=2)
    spec = CodecSpec(name="dicm+hsc", weights=str(toy_path), quality=7, bitstream_version=1, faces=faces)

    codec = load_codec(spec)

    assert isinstance(codec, FacesCodec)
    assert isinstance(codec.faces, HscCodec)
    assert codec.faces is codec.faces
    assert codec.faces.spec == faces
    assert codec.frames.spec == CodecSpec(name="dicm", weights=str(toy_path), quality=7, bitstream_version=1)
