"""Dropping the last slices of streams, without pixels or floats: versions 1, 2, 9 and 13 become 3, 4, 10 and 14.

A frame's slices are decoded, and the first of them coded again. Where frames are coded by themselves, that changes no
kept symbol: a slice sees the hyper-latent and earlier slices only. A predicted frame sees all slices of the frame
before it, so it is coded anew against what a decoder of the thinned streams has; its latents, decoded before, are
rounded once more. Encoder and decoder of the thinned streams always agree: errors do not add up.

Kinds stay: what decoded by itself still does, and what moved still moves. All is integers but the choice of positions
to code.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from framevault.codecs.dicm.bitstream import Bitstream
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import SegmentState, VideoBitstream
from framevault.codecs.entropy.coder import SymbolDecoder
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.errors import BitstreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class IntraThinner:
    """Thins a segment of version 1 or 3."""

    source: Bitstream
    """Decodes what there is."""
    target: Bitstream
    """Codes fewer slices."""
    grid: LatentGrid
    """Positions of the frames' latents."""
    device: str
    """Where both are."""

    @torch.inference_mode()
    def thin(self, streams: Sequence[bytes]) -> list[bytes]:
        """Thin the segment's next streams; see `Thinner.thin`."""
        return [self._thin_stream(number, stream) for number, stream in enumerate(streams)]

    def _thin_stream(self, number: int, stream: bytes) -> bytes:
        try:
            decoder = SymbolDecoder(stream)
            z_nchw, latent16_nchw = self.source.pull_both([decoder], self.grid, device=self.device)
            decoder.finish()
        except BitstreamError as error:
            raise _named(number, error) from error
        return self.target.encode(latent16_nchw * (1 / MEAN_STEPS), z_nchw)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoThinner:
    """Thins a segment of version 2 or 4, 9 or 10, or 13 or 14."""

    source: VideoBitstream
    """Decodes what there is."""
    target: VideoBitstream
    """Codes fewer slices."""
    grid: LatentGrid
    """Positions of the frames' latents."""
    device: str
    """Where both are."""
    decoded: SegmentState = field(default_factory=SegmentState)
    """What the next stream is decoded against."""
    coded: SegmentState = field(default_factory=SegmentState)
    """What it is coded against."""

    @torch.inference_mode()
    def thin(self, streams: Sequence[bytes]) -> list[bytes]:
        """Thin the segment's next streams; see `Thinner.thin`."""
        return [self._thin_stream(number, stream) for number, stream in enumerate(streams)]

    def _thin_stream(self, number: int, stream: bytes) -> bytes:
        try:
            frame = self.source.decode_all(self.decoded, stream, self.grid, device=self.device)
        except BitstreamError as error:
            self.decoded.latent16_mhw = None
            raise _named(number, error) from error
        return self.target.encode_again(self.coded, frame, rule=SkipRule())


def _named(number: int, error: BitstreamError) -> BitstreamError:
    """Return an error that says which stream it is about."""
    problem = str(error).removeprefix("stream 0 of the call: ")
    return BitstreamError(f"stream {number} of the call: {problem}")
