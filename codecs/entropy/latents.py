"""Latents as whole numbers: what every codec's encoder and decoder do alike between means and symbols.

A symbol is a latent's distance from its mean, rounded; a decoded latent is mean plus symbol, counted in sixteenths.
Letters in shapes: N pictures, m channels of a slice, h and w positions of the latent grid.
"""

import torch
from torch import Tensor

from framevault.codecs.entropy.integer import SIGNED_LIMIT

NUM_SCALES = 64
"""Entries of the scale table; the entropy model's scale is an index into it."""

MEAN_STEPS = 16
"""Means are multiples of one over this."""

MEAN_LIMIT = 2**15
"""Largest magnitude of a mean, in sixteenths."""

SYMBOL_LIMIT = 2**19
"""Largest magnitude of a symbol; encoders clamp to it. Sixteen times as much is still exact in float32."""


def residual_of(y_nchw: Tensor, mean16_nchw: Tensor) -> Tensor:
    """Return a latent's symbols: its distance from the mean, rounded; float32 [N, m, h, w]."""
    return torch.round(y_nchw - mean16_nchw * (1 / MEAN_STEPS)).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)


def context_of(latent16_nchw: Tensor) -> Tensor:
    """Return what later slices see of a decoded slice: halves, within +-127.

    Args:
        latent16_nchw: Mean plus residual in sixteenths, whole numbers.
    """
    return torch.floor((latent16_nchw + MEAN_STEPS // 4) * (2 / MEAN_STEPS)).clamp(-SIGNED_LIMIT, SIGNED_LIMIT)
