"""StyleGAN2's generator, cut where the codec's feature goes in.

Karras et al., CVPR 2020, arXiv 1912.04958; skip RGB (figure 7), weight demodulation. Noise is a constant of each layer,
so that restoring gives the same picture each time. Letters in shapes: N pictures, L styles of D values, C channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.modulated import ACTIVATION_GAIN, LEAKY_SLOPE, ModulatedConv2d, ModulatedProjection, upsample

NOISE_SEED = 20251121
"""Of the constant noise."""


class StyledConv(nn.Module):
    """A modulated convolution, noise, bias and activation."""

    def __init__(self, in_channels: int, out_channels: int, *, style: int, side: int, up: bool = False) -> None:
        """Build the layer; `side` is that of its output."""
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, style=style, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        random = torch.Generator().manual_seed(NOISE_SEED + side + up)
        self.register_buffer("noise", torch.empty(1, 1, side, side))
        self.noise: Tensor
        nn.init.normal_(self.noise, generator=random)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x_nchw: Tensor, style_nd: Tensor) -> Tensor:
        """Return the features, [N, O, side, side]."""
        filtered_nchw, factor_no = self.conv(x_nchw, style_nd)
        # The activation's gain goes before it, as it keeps a sign's side: one pass over the features less.
        dtype = filtered_nchw.dtype
        factor_no11 = (ACTIVATION_GAIN * factor_no).to(dtype)[:, :, None, None]
        bias_o11 = (ACTIVATION_GAIN * self.bias).to(dtype)[:, None, None]
        noise_11hw = (ACTIVATION_GAIN * self.noise_strength * self.noise).to(dtype)
        # Noise by itself: a sum of it and the biases is as large as a picture's features, and in another memory order.
        scaled_nchw = torch.addcmul(bias_o11, filtered_nchw, factor_no11).add_(noise_11hw)
        return functional.leaky_relu(scaled_nchw, LEAKY_SLOPE, inplace=True)


class ToRgb(nn.Module):
    """Features to colours, added to the upsampled colours of the resolution before."""

    def __init__(self, in_channels: int, *, style: int) -> None:
        """Build the layer."""
        super().__init__()
        self.conv = ModulatedProjection(in_channels, 3, style=style)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x_nchw: Tensor, style_nd: Tensor, rgb_nchw: Tensor | None) -> Tensor:
        """Return the colours so far, about -1..1, [N, 3, H, W]; `rgb_nchw` has half the side."""
        own_nchw: Tensor = self.conv(x_nchw, style_nd) + self.bias[:, None, None]
        return own_nchw if rgb_nchw is None else own_nchw + upsample(rgb_nchw)


class SynthesisBlock(nn.Module):
    """One resolution above 4: two convolutions, and its colours."""

    def __init__(self, in_channels: int, out_channels: int, *, style: int, side: int) -> None:
        """Build the block."""
        super().__init__()
        self.conv_up = StyledConv(in_channels, out_channels, style=style, side=side, up=True)
        self.conv = StyledConv(out_channels, out_channels, style=style, side=side)
        self.to_rgb = ToRgb(out_channels, style=style)

    def forward(self, x_nchw: Tensor, rgb_nchw: Tensor, styles_nld: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and colours, with three styles [N, 3, D]."""
        x_nchw = self.conv_up(x_nchw, styles_nld[:, 0])
        x_nchw = self.conv(x_nchw, styles_nld[:, 1])
        return x_nchw, self.to_rgb(x_nchw, styles_nld[:, 2], rgb_nchw)


class Generator(nn.Module):
    """Styles to a picture, or styles and a feature to a picture.

    ::

        styles [N, L, D] -> constant 4x4 -> blocks 8 .. split -> F(S) [N, C, split, split], colours
        f in the place of F(S), colours -> blocks 2 split .. resolution -> RGB [N, 3, resolution, resolution]

    The block of each resolution shares its last style with the next one's first.
    """

    def __init__(self, config: HscConfig) -> None:
        """Build the generator with random weights."""
        super().__init__()
        self.config = config
        first, *others = config.channels
        self.constant = nn.Parameter(torch.empty(1, first, 4, 4))
        nn.init.normal_(self.constant)
        self.first = StyledConv(first, first, style=config.style, side=4)
        self.first_rgb = ToRgb(first, style=config.style)
        self.blocks = nn.ModuleList(
            SynthesisBlock(before, after, style=config.style, side=8 << number)
            for number, (before, after) in enumerate(zip(config.channels, others, strict=False))
        )
        self.num_lower = config.split.bit_length() - 3

    def lower(self, styles_nld: Tensor) -> tuple[Tensor, Tensor]:
        """Return F(S) [N, C, split, split] and the colours [N, 3, split, split]."""
        x_nchw = self.first(self.constant.expand(len(styles_nld), -1, -1, -1), styles_nld[:, 0])
        rgb_nchw = self.first_rgb(x_nchw, styles_nld[:, 1], None)
        return self._run(range(self.num_lower), x_nchw, rgb_nchw, styles_nld)

    def tail(self, feature_nchw: Tensor, rgb_nchw: Tensor, styles_nld: Tensor) -> Tensor:
        """Return RGB [N, 3, resolution, resolution], about -1..1, of a feature in the place of F(S)."""
        return self._run(range(self.num_lower, len(self.blocks)), feature_nchw, rgb_nchw, styles_nld)[1]

    def forward(self, styles_nld: Tensor) -> Tensor:
        """Return RGB of styles alone."""
        return self.tail(*self.lower(styles_nld), styles_nld)

    def _run(self, numbers: range, x_nchw: Tensor, rgb_nchw: Tensor, styles_nld: Tensor) -> tuple[Tensor, Tensor]:
        for number in numbers:
            first = 1 + 2 * number
            x_nchw, rgb_nchw = self.blocks[number](x_nchw, rgb_nchw, styles_nld[:, first : first + 3])
        return x_nchw, rgb_nchw
