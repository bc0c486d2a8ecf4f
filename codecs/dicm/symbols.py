"""Whole numbers of a batch of frames <-> latents, slice by slice; what encoder and decoder do alike.

Letters in shapes: N frames, M latent channels, m those of one slice, Z hyper-latent channels, h and w positions of the
latent grid.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.entropy.latents import MEAN_STEPS, SYMBOL_LIMIT, context_of

HYPER_RATIO = 4
"""Positions of y to a position of z, in both directions."""

SliceCoder = Callable[[int, Tensor, Tensor], Tensor]
"""Gives a slice's residuals, whole numbers [N, m, h, w], from its number, scale indices and means (in sixteenths)."""


@dataclass(frozen=True, slots=True, eq=False)
class LatentGrid:
    """Positions of a frame's latent."""

    height: int
    """h."""
    width: int
    """w."""

    @property
    def hyper_height(self) -> int:
        """Positions of z, from top to bottom."""
        return -(-self.height // HYPER_RATIO)

    @property
    def hyper_width(self) -> int:
        """Positions of z, from left to right."""
        return -(-self.width // HYPER_RATIO)


def code_slices(networks: EntropyNetworks, z_nchw: Tensor, *, grid: LatentGrid, code: SliceCoder) -> Tensor:
    """Go through the slices in order; each one's parameters depend on those before it.

    Args:
        networks: The integer networks.
        z_nchw: The hyper-latent, whole numbers, float32 [N, Z, ceil(h/4), ceil(w/4)].
        grid: h and w.
        code: Encodes or decodes one slice.

    Returns:
        The decoded latent in sixteenths, whole numbers, float32 [N, M, h, w].
    """
    phi_nchw = networks.hyper(z_nchw)[:, :, : grid.height, : grid.width].contiguous()
    earlier: list[Tensor] = []
    decoded: list[Tensor] = []
    for number in range(len(networks.slices)):
        index_nchw, mean16_nchw = networks.parameters_of(number, phi_nchw, earlier)
        residual_nchw = code(number, index_nchw, mean16_nchw).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        latent16_nchw = residual_nchw * MEAN_STEPS + mean16_nchw
        earlier.append(context_of(latent16_nchw))
        decoded.append(latent16_nchw)
    return torch.cat(decoded, dim=1)
