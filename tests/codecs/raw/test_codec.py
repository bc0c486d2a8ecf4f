"""The raw codec: lossless."""

import numpy as np
import torch

from framevault.codecs.raw.codec import RawCodec
from framevault.codecs.spec import CodecSpec
from framevault.codecs.testing import CodecTests


class TestRawCodec(CodecTests):
    """The protocol's tests."""

    spec = CodecSpec(name="raw")


def test_frames_come_back_to_the_bit() -> None:
    """Noise is the hardest case for a predictor: every byte must survive."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 3, 17, 33), dtype=np.uint8)
    codec = RawCodec(CodecSpec(name="raw"))

    streams = codec.encoder(height=17, width=33).encode(torch.from_numpy(noise))
    decoded = codec.decoder(height=17, width=33).decode(streams)

    np.testing.assert_array_equal(decoded.numpy(), noise)


def test_a_flat_frame_takes_few_bytes() -> None:
    """The predictor leaves zeros."""
    frames = torch.full((1, 3, 64, 64), 77, dtype=torch.uint8)

    (stream,) = RawCodec(CodecSpec(name="raw")).encoder(height=64, width=64).encode(frames)

    assert len(stream) < 400
