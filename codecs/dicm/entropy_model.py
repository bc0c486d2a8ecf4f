"""The networks between a bitstream and its symbols: whole numbers only, the same on every device.

The latent's channels are cut into slices, most important first. Each slice's scales and means see the hyper-latent and
all earlier slices (Minnen and Singh, ICIP 2020, arXiv 2007.08739), one position at a time::

    z [N, Z, H/64, W/64] -> 3x3, shuffle, relu -> 1x1, shuffle, relu -> phi [N, M, H/16, W/16]
    phi, y^ of slices 0..k-1 -> 1x1, relu -> hidden_k; phi, hidden_k -> 1x1 -> scale index and mean of slice k

Letters in shapes: N pictures, M latent channels, m those of one slice, Z hyper-latent channels, H and W pixels
(multiples of 64).
"""

import itertools

import torch
from torch import Tensor, nn

from framevault.codecs.dicm.config import DicmConfig
from framevault.codecs.entropy.integer import ACTIVATION_LIMIT, SIGNED_LIMIT, ConvolutionFactory, shuffle_up
from framevault.codecs.entropy.latents import MEAN_LIMIT, NUM_SCALES

HYPER_CHANNELS = 96
"""Channels of h_s at stride 32."""


class EntropyNetworks(nn.Module):
    """h_s and the slices' networks; one code for training and for running, which differ in their convolutions alone."""

    def __init__(self, config: DicmConfig, convolution: ConvolutionFactory) -> None:
        """Build the networks.

        Args:
            config: Widths.
            convolution: `IntConv2d` to run them, `RoundedConv2d` to train them.
        """
        super().__init__()
        self.slices = config.slices
        starts = [0, *itertools.accumulate(config.slices)]
        hidden = {"kernel_size": 1, "low": 0, "high": ACTIVATION_LIMIT}
        self.expand_1 = convolution(
            config.hyper,
            4 * HYPER_CHANNELS,
            kernel_size=3,
            input_limit=SIGNED_LIMIT,
            low=0,
            high=ACTIVATION_LIMIT,
        )
        self.expand_2 = convolution(HYPER_CHANNELS, 4 * config.latent, input_limit=ACTIVATION_LIMIT, **hidden)
        self.contexts = nn.ModuleList(
            convolution(config.latent + start, config.context, input_limit=ACTIVATION_LIMIT, **hidden)
            for start in starts[:-1]
        )
        width = config.latent + config.context
        self.scales = nn.ModuleList(
            convolution(width, m, kernel_size=1, input_limit=ACTIVATION_LIMIT, low=0, high=NUM_SCALES - 1)
            for m in config.slices
        )
        self.means = nn.ModuleList(
            convolution(width, m, kernel_size=1, input_limit=ACTIVATION_LIMIT, low=-MEAN_LIMIT, high=MEAN_LIMIT)
            for m in config.slices
        )

    def hyper(self, z_nchw: Tensor) -> Tensor:
        """Return phi, 0..255 [N, M, H/16, W/16], of the decoded hyper-latent, whole numbers [N, Z, H/64, W/64]."""
        x_nchw = shuffle_up(self.expand_1(z_nchw.clamp(-SIGNED_LIMIT, SIGNED_LIMIT)))
        return shuffle_up(self.expand_2(x_nchw))

    def parameters_of(self, number: int, phi_nchw: Tensor, earlier: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the coder needs for one slice.

        Args:
            number: Which slice.
            phi_nchw: What `hyper` returned.
            earlier: `context_of` each earlier slice.

        Returns:
            Scale indices, 0..63, and means in sixteenths; each [N, m, H/16, W/16].
        """
        hidden_nchw = self.contexts[number](torch.cat([phi_nchw, *earlier], dim=1))
        both_nchw = torch.cat([phi_nchw, hidden_nchw], dim=1)
        return self.scales[number](both_nchw), self.means[number](both_nchw)
