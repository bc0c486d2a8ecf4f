"""SCN as the paper builds it: styles shaped into an image, four strides to the core symbols and four back.

Li et al., HSC, arXiv 2502.16799, IEEE TIP 2025. Letters in shapes: N pictures, L styles of D = 512 values, K core
symbols, E hidden channels.
"""

import torch
from torch import Tensor, nn

from framevault.codecs.hsc.config import CORE_SIDE, IMAGE_SIDE, HscConfig
from framevault.codecs.layers.gated import GatedBlock
from framevault.codecs.layers.pointwise import PointwiseConv2d


class ConvolutionalStyleCodec(nn.Module):
    """SCN: styles to K core symbols and back, by convolutions.

    ::

        S [N, L, D] -> [N, L/2, 32, 32] -> 3 x (3x3 / 2, gated) -> 3x3 / 2 -> y_s [N, K/4, 2, 2]
        y_s -> 3 x (1x1, shuffle, gated) -> 1x1, shuffle -> [N, L/2, 32, 32] -> S^
    """

    def __init__(self, config: HscConfig) -> None:
        """Build both directions."""
        super().__init__()
        self.shape = (config.num_styles, config.style)
        self.image_shape = (config.num_styles * config.style // IMAGE_SIDE**2, IMAGE_SIDE, IMAGE_SIDE)
        self.core_shape = (config.core // CORE_SIDE**2, CORE_SIDE, CORE_SIDE)
        styles, hidden, core = self.image_shape[0], config.style_hidden, self.core_shape[0]
        self.analysis = nn.Sequential(
            *(_down(styles, hidden), GatedBlock(hidden, 3)),
            *(_down(hidden, hidden), GatedBlock(hidden, 3)),
            *(_down(hidden, hidden), GatedBlock(hidden, 3)),
            _down(hidden, core),
        )
        self.synthesis = nn.Sequential(
            *(_up(core, hidden), GatedBlock(hidden, 3)),
            *(_up(hidden, hidden), GatedBlock(hidden, 3)),
            *(_up(hidden, hidden), GatedBlock(hidden, 3)),
            _up(hidden, styles),
        )
        self.log_gain = nn.Parameter(torch.full((config.core,), 1.0))

    def analyse(self, styles_nld: Tensor) -> Tensor:
        """Return core latents y_s [N, K], to be rounded."""
        core_nk: Tensor = self.analysis(styles_nld.reshape(-1, *self.image_shape)).flatten(1)
        return core_nk * self.log_gain.exp()

    def synthesise(self, core_nk: Tensor) -> Tensor:
        """Return styles [N, L, D] of rounded core latents."""
        scaled_nk = core_nk * (-self.log_gain).exp()
        styles_nchw: Tensor = self.synthesis(scaled_nk.reshape(-1, *self.core_shape))
        return styles_nchw.reshape(-1, *self.shape)


def _down(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)


def _up(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(PointwiseConv2d(in_channels, 4 * out_channels), nn.PixelShuffle(2))
