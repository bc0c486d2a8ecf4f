"""Frames as they are, through a left predictor and zlib.

A stream is zlib (level 1) over H rows of W pixels of R, G, B, each byte minus the byte of the pixel to its left,
modulo 256; the first pixel of a row is stored as it is. This is PNG's filter 1 without the filter bytes.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.base import check_frames, check_size
from framevault.codecs.errors import BitstreamError
from framevault.codecs.spec import CodecSpec

ZLIB_LEVEL = 1
"""The fastest: higher levels save a few percent of natural video and take several times longer."""


@dataclass(frozen=True, slots=True)
class RawCodec:
    """The lossless codec; it has no weights."""

    spec: CodecSpec
    """What it was loaded from."""

    def is_independent(self, stream: bytes) -> bool:
        """Say that every frame decodes by itself."""
        return True

    def encoder(self, *, height: int, width: int) -> "RawEncoder":
        """Start encoding a segment."""
        check_size(height=height, width=width)
        return RawEncoder(height, width)

    def decoder(self, *, height: int, width: int) -> "RawDecoder":
        """Start decoding a segment."""
        check_size(height=height, width=width)
        return RawDecoder(height, width, self.spec.device)


@dataclass(frozen=True, slots=True)
class RawEncoder:
    """Encodes one segment's frames."""

    height: int
    """Of each frame, in pixels."""
    width: int
    """Of each frame, in pixels."""

    def encode(self, frames_nchw: Tensor) -> list[bytes]:
        """Encode frames; see `Encoder.encode`."""
        check_frames(frames_nchw, height=self.height, width=self.width)
        frames_nhwc = frames_nchw.permute(0, 2, 3, 1).cpu().numpy()
        residual_nhwc = frames_nhwc.copy()
        residual_nhwc[:, :, 1:] -= frames_nhwc[:, :, :-1]
        return [zlib.compress(residual_hwc.tobytes(), ZLIB_LEVEL) for residual_hwc in residual_nhwc]


@dataclass(frozen=True, slots=True)
class RawDecoder:
    """Decodes one segment's frames."""

    height: int
    """Of each frame, in pixels."""
    width: int
    """Of each frame, in pixels."""
    device: str
    """Where the frames go."""

    def decode(self, streams: Sequence[bytes]) -> Tensor:
        """Decode frames; see `Decoder.decode`."""
        size = self.height * self.width * 3
        flat_n = [_inflate(stream, size, position) for position, stream in enumerate(streams)]
        shape = (len(streams), self.height, self.width, 3)
        residual_nhwc = np.frombuffer(b"".join(flat_n), np.uint8).reshape(shape)
        frames_nhwc = np.cumsum(residual_nhwc, axis=2, dtype=np.uint8)
        return torch.from_numpy(frames_nhwc).permute(0, 3, 1, 2).contiguous().to(self.device)


def _inflate(stream: bytes, size_bytes: int, position: int) -> bytes:
    """Inflate a stream that must give exactly `size_bytes`; allocates at most one byte more."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(stream, size_bytes + 1)
    except zlib.error as error:
        raise BitstreamError(f"stream {position} of the call is no zlib stream: {error}") from error
    if len(data) != size_bytes or not inflater.eof or inflater.unused_data:
        raise BitstreamError(
            f"stream {position} of the call must inflate to exactly {size_bytes} bytes, "
            f"got {'at least ' if not inflater.eof else ''}{len(data)}"
            f"{' and bytes after the end' if inflater.unused_data else ''}"
        )
    return data
