"""What was seen where something else is now: bitstream version 13.

A position that was neither coded nor moved for `SETTLED` frames shows what stays there: the background. Something
passes, and the background comes into view again: a flag says so, where it would be coded anew. Encoder and decoder keep
the background alike, of what was decoded, so nothing is sent for it.

Letters in shapes: M latent channels, h and w positions of the latent grid.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.entropy.tables import BoolArray, Uint8Array

SETTLED = 8
"""Frames for which a position must stay as it is. After 2 or 4, slow things are taken for background."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Background:
    """A segment's, after some frame."""

    latent16_mhw: Tensor
    """In sixteenths, whole numbers in float32 [M, h, w]."""
    still_hw: Uint8Array
    """For how many frames each position has been as it is, at most `SETTLED`; uint8 [h, w]."""

    @classmethod
    def of_intra(cls, latent16_mhw: Tensor) -> "Background":
        """Return all that an intra frame shows."""
        return cls(latent16_mhw=latent16_mhw, still_hw=np.zeros(latent16_mhw.shape[1:], np.uint8))

    def after(self, latent16_mhw: Tensor, changed_hw: BoolArray) -> "Background":
        """Return the background after another frame.

        Args:
            latent16_mhw: The frame's decoded latent in sixteenths [M, h, w].
            changed_hw: Which positions were coded or moved in it, bool [h, w].
        """
        longer_hw = np.minimum(self.still_hw + np.uint8(1), np.uint8(SETTLED))
        still_hw = np.where(changed_hw, np.uint8(0), longer_hw)
        # What settled before is in the background already, and has not changed since.
        settles_hw = (still_hw == SETTLED) & (self.still_hw < SETTLED)
        if not settles_hw.any():
            return Background(latent16_mhw=self.latent16_mhw, still_hw=still_hw)
        settles_on_device_hw = torch.from_numpy(settles_hw).to(latent16_mhw.device)
        settled16_mhw = torch.where(settles_on_device_hw, latent16_mhw, self.latent16_mhw)
        return Background(latent16_mhw=settled16_mhw, still_hw=still_hw)
