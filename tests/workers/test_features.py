"""Features of stored segments."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch

from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.registry import load_codec
from framevault.codecs.spec import CodecSpec, codec_fingerprint, weights_digest
from framevault.storage.packs import Pack, PackHeader, PackWriter, read_pack
from framevault.workers.features import FeatureBatch, FeatureReader, FeatureSettings, look_over
from tests.storage.samples import pack_header

HEIGHT, WIDTH = 16, 24
SETTINGS = FeatureSettings(device="cpu", batch_size=2)


def frames(num: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)


def header_of(spec: CodecSpec) -> PackHeader:
    return dataclasses.replace(
        pack_header(),
        codec=spec.name,
        bitstream_version=spec.bitstream_version,
        codec_fingerprint=codec_fingerprint(spec),
        quality=spec.quality,
        coded_height=HEIGHT,
        coded_width=WIDTH,
    )


def pack_of(spec: CodecSpec, streams: list[bytes], *, fingerprint: str | None = None) -> Pack:
    header = header_of(spec)
    writer = PackWriter(header if fingerprint is None else dataclasses.replace(header, codec_fingerprint=fingerprint))
    for number, stream in enumerate(streams):
        writer.add(stream, pts=number, is_keyframe=number == 0, is_independent=True)
    return read_pack(writer.finish())


def sound(reader: FeatureReader, pack: Pack) -> Iterator[FeatureBatch]:
    """Give the batches of a segment without damage."""
    for batch in reader.batches(pack):
        assert isinstance(batch, FeatureBatch)
        yield batch


@pytest.fixture(scope="module")
def raw() -> Pack:
    spec = CodecSpec(name="raw")
    return pack_of(spec, load_codec(spec).encoder(height=HEIGHT, width=WIDTH).encode(frames()))


def test_a_raw_segment_goes_through_the_given_head_in_batches(raw: Pack) -> None:
    reader = FeatureReader(SETTINGS, head=lambda frames_nchw: frames_nchw[:, :1].float())

    batches = list(sound(reader, raw))

    assert [len(batch.features_nchw) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([batch.features_nchw for batch in batches]), frames()[:, :1].float())
    assert all(batch.decode_s >= 0 for batch in batches)


def test_a_raw_segment_without_a_given_head_gets_the_shipped_codecs(raw: Pack) -> None:
    reader = FeatureReader(SETTINGS)

    features_nchw = torch.cat([batch.features_nchw for batch in sound(reader, raw)])

    assert features_nchw.shape == (5, 24, 4, 6)
    torch.testing.assert_close(features_nchw, reader.shipped_head().head_features(frames()), rtol=1e-3, atol=1e-3)


def test_large_frames_come_in_smaller_batches(raw: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framevault.workers.features.FEATURE_PIXELS_PER_BATCH", {"cpu": HEIGHT * WIDTH})
    reader = FeatureReader(SETTINGS, head=lambda frames_nchw: frames_nchw.float())

    assert [len(batch.features_nchw) for batch in sound(reader, raw)] == [1] * 5


def test_a_damaged_stream_is_named_and_costs_itself_alone(raw: Pack) -> None:
    damaged = pack_of(CodecSpec(name="raw"), [raw.payload(0), b"junk", raw.payload(2)])
    reader = FeatureReader(SETTINGS, head=lambda frames_nchw: frames_nchw.float())

    looked = look_over(reader.batches(damaged), lambda features_nchw: features_nchw)

    assert looked.frame_numbers == [0, 2]
    assert torch.equal(torch.cat(looked.results)[looked.rows], frames(3)[[0, 2]].float())
    (fault,) = looked.faults
    assert (fault.first_frame, fault.last_frame) == (1, 1)
    assert "frame 1: " in fault.reason


def test_a_segment_without_one_sound_frame_is_an_error_that_says_why() -> None:
    damaged = pack_of(CodecSpec(name="raw"), [b"junk", b"more"])
    reader = FeatureReader(SETTINGS, head=lambda frames_nchw: frames_nchw.float())

    with pytest.raises(BitstreamError, match="no frame can be decoded: frame 0: "):
        look_over(reader.batches(damaged), len)


@pytest.fixture(scope="module")
def coded() -> Pack:
    spec = CodecSpec(name="dicm")
    still = torch.cat([frames(1), frames(1), frames(1)])
    return pack_of(spec, load_codec(spec).encoder(height=HEIGHT, width=WIDTH).encode(still))


def test_latents_come_in_the_place_of_features_if_they_are_wanted(coded: Pack) -> None:
    reader = FeatureReader(SETTINGS, latents_of=weights_digest(CodecSpec(name="dicm")))

    batches = [batch for batch in reader.batches(coded) if isinstance(batch, FeatureBatch)]

    assert {tuple(batch.features_nchw.shape[1:]) for batch in batches} == {(128, 1, 2)}
    features = [batch for batch in FeatureReader(SETTINGS).batches(coded) if isinstance(batch, FeatureBatch)]
    assert [batch.rows for batch in batches] == [batch.rows for batch in features]


def test_another_codecs_latents_are_refused_by_their_segments_name(coded: Pack, raw: Pack) -> None:
    reader = FeatureReader(SETTINGS, latents_of="ab" * 32)
    segment = coded.header.segment_id

    with pytest.raises(CodecError, match=rf"segment {segment} holds latents of codec checkpoint [0-9a-f]{{16}}, and"):
        list(reader.batches(coded))
    with pytest.raises(CodecError, match=rf"segment {segment} holds pixels, and latents are wanted"):
        list(reader.batches(raw))


def test_weights_that_are_not_here_are_named(raw: Pack) -> None:
    other = pack_of(CodecSpec(name="raw"), [raw.payload(0)], fingerprint="0" * 64)

    with pytest.raises(CodecError, match=rf"segment {raw.header.segment_id}: codec 'raw' with fingerprint 0000"):
        list(FeatureReader(SETTINGS).batches(other))
