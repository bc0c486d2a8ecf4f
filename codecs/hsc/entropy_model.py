"""The networks between a face's stream and its symbols: whole numbers only, the same on every device.

Each slice's scales and means see the core symbols and all earlier slices, with their neighbours::

    y_s, quality [N, K + 8, 1, 1] -> 1x1, relu -> [N, P * g * g, 1, 1] -> [N, P, g, g] -> 3x3, relu -> phi [N, X, g, g]
    phi, y^ of slices 0..k-1 -> 3x3, relu -> hidden_k; phi, hidden_k -> 1x1 -> scale index and mean of slice k

Domains are aligned, so each position of the grid has weights of its own in the first layer. Letters in shapes: N
pictures, K core symbols, M latent channels, m those of one slice, g the grid's side.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.entropy.integer import ACTIVATION_LIMIT, SIGNED_LIMIT, ConvolutionFactory
from framevault.codecs.entropy.latents import MEAN_LIMIT, NUM_SCALES
from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.networks import NUM_QUALITIES

POSITION_CHANNELS = 16
"""P, channels of each position that the core symbols are spread to."""


class HscEntropyNetworks(nn.Module):
    """What the core symbols say of each slice; one code for training and for running."""

    def __init__(self, config: HscConfig, convolution: ConvolutionFactory) -> None:
        """Build the networks.

        Args:
            config: Widths.
            convolution: `IntConv2d` to run them, `RoundedConv2d` to train them.
        """
        super().__init__()
        self.slices = config.slices
        self.grid = config.grid
        starts = [0, *itertools.accumulate(config.slices)][:-1]
        hidden = {"low": 0, "high": ACTIVATION_LIMIT}
        spread = POSITION_CHANNELS * config.grid**2
        self.spread = convolution(
            config.core + NUM_QUALITIES, spread, kernel_size=1, input_limit=SIGNED_LIMIT, **hidden
        )
        self.mix = convolution(POSITION_CHANNELS, config.context, kernel_size=3, input_limit=ACTIVATION_LIMIT, **hidden)
        self.contexts = nn.ModuleList(
            convolution(config.context + start, config.context, kernel_size=3, input_limit=ACTIVATION_LIMIT, **hidden)
            for start in starts
        )
        ends = {"kernel_size": 1, "input_limit": ACTIVATION_LIMIT}
        self.scales = nn.ModuleList(
            convolution(2 * config.context, m, low=0, high=NUM_SCALES - 1, **ends) for m in config.slices
        )
        self.means = nn.ModuleList(
            convolution(2 * config.context, m, low=-MEAN_LIMIT, high=MEAN_LIMIT, **ends) for m in config.slices
        )

    def prime(self, core_nk: Tensor, quality_n: Tensor) -> Tensor:
        """Return phi, 0..255 [N, X, g, g].

        Args:
            core_nk: The decoded core symbols, whole numbers.
            quality_n: Qualities, counted from 0. The same core symbols stand before latents that are some ten times
                larger at the highest quality than at the lowest.
        """
        quality_nq = SIGNED_LIMIT * functional.one_hot(quality_n, NUM_QUALITIES).to(core_nk.dtype)
        primed_nk = torch.cat([core_nk.clamp(-SIGNED_LIMIT, SIGNED_LIMIT), quality_nq], dim=1)
        spread_nchw = self.spread(primed_nk[:, :, None, None]).reshape(
            len(core_nk), POSITION_CHANNELS, self.grid, self.grid
        )
        phi_nchw: Tensor = self.mix(spread_nchw)
        return phi_nchw

    def parameters_of(self, number: int, phi_nchw: Tensor, earlier: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the coder needs for one slice.

        Args:
            number: Which slice.
            phi_nchw: What `prime` returned.
            earlier: `context_of` each earlier slice.

        Returns:
            Scale indices, 0..63, and means in sixteenths; each [N, m, g, g].
        """
        hidden_nchw = self.contexts[number](torch.cat([phi_nchw, *earlier], dim=1))
        both_nchw = torch.cat([phi_nchw, hidden_nchw], dim=1)
        return self.scales[number](both_nchw), self.means[number](both_nchw)
