"""Decoding to latents: the same frames and rows as decoding to features, in one scale for all qualities."""

import pytest
import torch

from framevault.codecs.base import SupportsLatents
from framevault.codecs.dicm.codec import DicmCodec, load_dicm
from framevault.codecs.errors import BitstreamError
from framevault.codecs.spec import CodecSpec
from framevault.codecs.testing import smooth_frames

SIZE = {"height": 70, "width": 90}


@pytest.fixture(scope="module", params=[1, 2, 9, 13])
def codec(request: pytest.FixtureRequest) -> DicmCodec:
    return load_dicm(CodecSpec(name="dicm", quality=6, bitstream_version=request.param))


def test_features_are_what_synthesis_makes_of_the_latents(codec: DicmCodec) -> None:
    streams = codec.encoder(**SIZE).encode(smooth_frames(4, **SIZE))
    decoder = codec.decoder(**SIZE)
    assert isinstance(decoder, SupportsLatents)

    changes = decoder.decode_latent_changes(streams)

    features = codec.decoder(**SIZE).decode_changes(streams)
    assert changes.rows == features.rows
    assert changes.decoded.dtype == torch.float32
    assert changes.decoded.shape[1:] == (128, 5, 6)
    networks = codec.networks
    with torch.inference_mode():
        normal_nchw = networks.g_s(changes.decoded.contiguous(memory_format=torch.channels_last))
        made_nchw = normal_nchw * networks.feature_std[:, None, None] + networks.feature_mean[:, None, None]
    torch.testing.assert_close(made_nchw[:, :, :18, :23], features.decoded, rtol=1e-3, atol=1e-3)


def test_latents_lie_around_those_of_a_perfect_entropy_coder(codec: DicmCodec) -> None:
    frames = smooth_frames(2, **SIZE)

    decoded = codec.decoder(**SIZE).decode_latent_changes(codec.encoder(**SIZE).encode(frames)).decoded

    clean = codec.clean_latents(frames)
    assert float((decoded - clean).square().mean() / clean.var()) < 0.1


def test_all_qualities_have_one_scale() -> None:
    frames = smooth_frames(2, **SIZE)
    low, high = (load_dicm(CodecSpec(name="dicm", quality=quality)).clean_latents(frames) for quality in (1, 8))

    ratios = (low * high).sum(dim=(0, 2, 3)) / high.square().sum(dim=(0, 2, 3))

    # Without the inverse gain, they would differ by a factor of about six.
    assert 0.5 < float(ratios.median()) < 1.5


def test_a_call_without_streams_or_changes_gives_no_latents(codec: DicmCodec) -> None:
    still = smooth_frames(1, **SIZE).expand(6, -1, -1, -1).contiguous()
    streams = codec.encoder(**SIZE).encode(still)
    decoder = codec.decoder(**SIZE)

    nothing = decoder.decode_latent_changes([])
    decoder.decode_latent_changes(streams[:4])
    last = decoder.decode_latent_changes(streams[4:])

    assert (nothing.rows, nothing.decoded.shape) == ((), (0, 128, 5, 6))
    assert last.rows == ((-1, -1) if codec.is_video else (0, 1))
    assert last.decoded.shape == (0 if codec.is_video else 2, 128, 5, 6)


def test_a_damaged_stream_is_named(codec: DicmCodec) -> None:
    streams = codec.encoder(**SIZE).encode(smooth_frames(2, **SIZE))

    with pytest.raises(BitstreamError, match="stream 1 of the call"):
        codec.decoder(**SIZE).decode_latent_changes([streams[0], b"junk!"])
