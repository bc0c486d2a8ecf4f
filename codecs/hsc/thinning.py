"""Dropping the last slices of streams: version 1 becomes version 2, without pixels or float networks.

What is kept is decoded and coded again. That changes no kept symbol: a slice sees core symbols and earlier slices only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.hsc.bitstream import Bitstream


@dataclass(frozen=True, slots=True, kw_only=True)
class HscThinner:
    """Thins streams; see `Thinner`."""

    source: Bitstream
    """Decodes what there is."""
    target: Bitstream
    """Codes fewer slices."""
    device: str
    """Where both are."""

    @torch.inference_mode()
    def thin(self, streams: Sequence[bytes]) -> list[bytes]:
        """Thin the segment's next streams; see `Thinner.thin`. One of no bytes has nothing to lose."""
        if not streams:
            return []
        decoded = self.source.decode(streams, device=self.device)
        thinned = self.target.encode(decoded.core_nk, decoded.latent16_nmgg * (1 / MEAN_STEPS))
        return [after if before else b"" for before, after in zip(streams, thinned, strict=True)]
