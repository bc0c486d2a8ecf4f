"""The networks of a frame that is coded against the frame before it: whole numbers only, the same on every device.

They run at the coded positions alone; everywhere else the latent stays what it was. Before any slice, a position sees
the previous latent of itself and its eight neighbours, and which of them are coded, that is: have changed::

    context of the previous latent, 3x3 [P, 9 M], coded flags, 3x3 [P, 9] -> 1x1, relu -> phi [P, T]
    phi, slices 0..k-1 (latent, and how it differs from the previous one) -> 1x1, relu -> hidden_k
    phi, hidden_k -> 1x1 -> scale index of slice k, and by how much its mean differs from the previous latent

In DCVC's terms (Li et al., NeurIPS 2021) a conditional coder whose condition is the previous frame's latent itself.
Letters in shapes: P coded positions, M latent channels, m those of one slice, T channels of phi.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.entropy.integer import ACTIVATION_LIMIT, SIGNED_LIMIT, ConvolutionFactory
from framevault.codecs.entropy.latents import MEAN_LIMIT, NUM_SCALES, context_of

NEIGHBOURHOOD = 9
"""Positions of a 3x3 square."""


class TemporalNetworks(nn.Module):
    """One code for training and for running, which differ in their convolutions alone.

    Tensors are [1, channels, 1, P]: a list of positions in the form that a 1x1 convolution takes.
    """

    def __init__(self, config: DicmConfig, convolution: ConvolutionFactory) -> None:
        """Build the networks.

        Args:
            config: Widths; `temporal` must be positive.
            convolution: `IntConv2d` to run them, `RoundedConv2d` to train them.
        """
        super().__init__()
        self.slices = config.slices
        width, hidden = config.temporal, {"kernel_size": 1, "low": 0, "high": ACTIVATION_LIMIT}
        starts = [0, *itertools.accumulate(config.slices)]
        self.temporal = convolution(
            NEIGHBOURHOOD * (config.latent + 1),
            width,
            kernel_size=1,
            input_limit=SIGNED_LIMIT,
            low=0,
            high=ACTIVATION_LIMIT,
        )
        self.contexts = nn.ModuleList(
            convolution(width + 2 * start, config.context, input_limit=ACTIVATION_LIMIT, **hidden)
            for start in starts[:-1]
        )
        width += config.context
        self.scales = nn.ModuleList(
            convolution(width, m, kernel_size=1, input_limit=ACTIVATION_LIMIT, low=0, high=NUM_SCALES - 1)
            for m in config.slices
        )
        self.means = nn.ModuleList(
            convolution(width, m, kernel_size=1, input_limit=ACTIVATION_LIMIT, low=-MEAN_LIMIT, high=MEAN_LIMIT)
            for m in config.slices
        )

    def phi(self, neighbourhoods: Tensor) -> Tensor:
        """Return phi, 0..255 [1, T, 1, P], of what `gather_neighbourhoods` returned."""
        found: Tensor = self.temporal(neighbourhoods)
        return found

    def parameters_of(self, number: int, phi: Tensor, earlier: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the coder needs for one slice.

        Args:
            number: Which slice.
            phi: What `phi` returned.
            earlier: `change_of` each earlier slice.

        Returns:
            Scale indices, 0..63, and how the means differ from the previous latent, in sixteenths; each [1, m, 1, P].
        """
        hidden = self.contexts[number](torch.cat([phi, *earlier], dim=1))
        both = torch.cat([phi, hidden], dim=1)
        return self.scales[number](both), self.means[number](both)


def gather_neighbourhoods(previous16_mhw: Tensor, coded_hw: Tensor, positions: Tensor) -> Tensor:
    """Return what each coded position sees of the previous frame.

    Args:
        previous16_mhw: The previous frame's latent in sixteenths, whole numbers [M, h, w].
        coded_hw: Which positions are coded, bool [h, w].
        positions: Their numbers, row by row, int64 [P].

    Returns:
        Whole numbers within +-127, [1, 9 (M + 1), 1, P]: for each latent channel its nine neighbours, row by row, zeros
        outside the grid; then 127 for each of nine neighbours that is coded, else 0.
    """
    width = coded_hw.shape[1]
    planes = torch.cat([context_of(previous16_mhw), SIGNED_LIMIT * coded_hw[None].to(previous16_mhw.dtype)])
    padded_cn = functional.pad(planes, (1, 1, 1, 1)).flatten(1)
    corners_p = positions // width * (width + 2) + positions % width
    steps = torch.arange(3, device=positions.device)
    offsets_k = (steps[:, None] * (width + 2) + steps[None, :]).flatten()
    found_ckp = padded_cn[:, (offsets_k[:, None] + corners_p[None, :]).flatten()]
    return found_ckp.reshape(1, NEIGHBOURHOOD * len(planes), 1, len(positions))


def change_of(latent16: Tensor, previous16: Tensor) -> Tensor:
    """Return what later slices see of a decoded slice, [1, 2m, 1, P]: its context, and that of its change."""
    return torch.cat([context_of(latent16), context_of(latent16 - previous16)], dim=1)
