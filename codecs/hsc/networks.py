"""SCN and FCN: styles and feature to latents and back; and all of the codec's float networks together.

Li et al., HSC, arXiv 2502.16799, IEEE TIP 2025. We differ in what the feature network codes: f's difference from the
generator's own feature F(S^), so that without any slice the picture is the generator's for the decoded styles. Letters
in shapes: N pictures, L styles of D values, K core symbols, M latent channels, C channels of the feature, s the split's
side.
"""

import torch
from torch import Tensor, nn

from framevault.codecs.hsc.config import HscConfig
from framevault.codecs.hsc.generator import Generator
from framevault.codecs.hsc.inversion import InversionEncoder
from framevault.codecs.hsc.style_convolutions import ConvolutionalStyleCodec
from framevault.codecs.layers.gated import GatedBlock
from framevault.codecs.layers.pointwise import PointwiseConv2d

NUM_QUALITIES = 8
"""`quality` runs from 1 (fewest bytes) to 8."""

LARGEST_GAIN_RATIO = 12.0
"""Of quality 8's gains over quality 1's, where training begins."""


class StyleCodec(nn.Module):
    """SCN: styles to K core symbols and back, two layers each way.

    The paper shapes the styles into an image for strided convolutions (`ConvolutionalStyleCodec`); styles have no
    neighbours, and for few of them dense layers are as small.
    """

    def __init__(self, config: HscConfig) -> None:
        """Build both directions."""
        super().__init__()
        self.shape = (config.num_styles, config.style)
        size, hidden = config.num_styles * config.style, config.style_hidden
        self.analysis = nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, config.core))
        self.synthesis = nn.Sequential(nn.Linear(config.core, hidden), nn.GELU(), nn.Linear(hidden, size))
        self.log_gain = nn.Parameter(torch.full((config.core,), 1.0))

    def analyse(self, styles_nld: Tensor) -> Tensor:
        """Return core latents y_s [N, K], to be rounded."""
        core_nk: Tensor = self.analysis(styles_nld.flatten(1)) * self.log_gain.exp()
        return core_nk

    def synthesise(self, core_nk: Tensor) -> Tensor:
        """Return styles [N, L, D] of rounded core latents."""
        styles_nm: Tensor = self.synthesis(core_nk * (-self.log_gain).exp())
        return styles_nm.reshape(-1, *self.shape)


class FeatureCodec(nn.Module):
    """FCN: the feature to latents and back, beside the generator's own feature.

    ::

        f, F(S^) [N, C, s, s] -> 1x1 -> gated -> 3x3 / 2 -> 2 x gated -> 1x1 -> y [N, M, s/2, s/2]
        y^ -> 1x1 -> 2 x gated -> 1x1, shuffle; with F(S^) -> 1x1 -> gated -> 3x3 -> + F(S^) -> f^
    """

    def __init__(self, config: HscConfig) -> None:
        """Build both directions."""
        super().__init__()
        channels, wide, deep = config.split_channels, config.wide, config.deep
        self.analysis = nn.Sequential(
            PointwiseConv2d(2 * channels, wide),
            GatedBlock(wide),
            nn.Conv2d(wide, deep, 3, stride=2, padding=1),
            GatedBlock(deep, 5),
            GatedBlock(deep, 5),
            PointwiseConv2d(deep, config.latent),
        )
        self.expand = nn.Sequential(
            PointwiseConv2d(config.latent, deep),
            GatedBlock(deep, 5),
            GatedBlock(deep, 5),
            PointwiseConv2d(deep, 4 * wide),
            nn.PixelShuffle(2),
        )
        self.merge = nn.Sequential(
            PointwiseConv2d(wide + channels, wide), GatedBlock(wide), nn.Conv2d(wide, channels, 3, padding=1)
        )
        log_gain_q1 = first_log_gain()[:, None]
        self.log_gain = nn.Parameter(torch.empty(NUM_QUALITIES, config.latent).copy_(log_gain_q1))
        self.log_inverse_gain = nn.Parameter(torch.empty(NUM_QUALITIES, config.latent).copy_(-log_gain_q1))

    def analyse(self, feature_nchw: Tensor, own_nchw: Tensor, quality_n: Tensor) -> Tensor:
        """Return the scaled latent y [N, M, s/2, s/2]; qualities count from 0."""
        y_nchw: Tensor = self.analysis(torch.cat([feature_nchw, own_nchw], dim=1))
        return y_nchw * self.gain(quality_n)

    def gain(self, quality_n: Tensor) -> Tensor:
        """Return the gain of each latent channel, [N, M, 1, 1]; qualities count from 0."""
        return self.log_gain[quality_n].exp()[:, :, None, None]

    def synthesise(self, y_nchw: Tensor, own_nchw: Tensor, quality_n: Tensor) -> Tensor:
        """Return the feature f^ [N, C, s, s] of a scaled, decoded latent; qualities count from 0."""
        wide_nchw = self.expand(y_nchw * self.log_inverse_gain[quality_n].exp()[:, :, None, None])
        difference_nchw: Tensor = self.merge(torch.cat([wide_nchw, own_nchw], dim=1))
        return own_nchw + difference_nchw


def first_log_gain() -> Tensor:
    """Return the logarithm of each quality's gain where a channel's training begins, [8], on the CPU."""
    # Wherever networks are built: the first `linspace` on `meta` takes a quarter of a second.
    with torch.device("cpu"):
        steps_q = torch.linspace(0, 1, NUM_QUALITIES)
        return 1.0 + (steps_q - 0.5) * torch.log(torch.tensor(LARGEST_GAIN_RATIO))


class HscNetworks(nn.Module):
    """All float networks of one domain.

    ::

        rgb -> GIE -> S, f;  S -> SCN -> y_s -> round -> SCN -> S^ -> generator's lower blocks -> F(S^), colours
        f, F(S^) -> FCN -> y -> slices -> y^ -> FCN -> f^ -> generator's tail with S^ and colours -> rgb^
    """

    def __init__(self, config: HscConfig) -> None:
        """Build the networks with random weights."""
        super().__init__()
        self.config = config
        self.inversion = InversionEncoder(config)
        is_dense = config.style_codec == "dense"
        self.style_codec = StyleCodec(config) if is_dense else ConvolutionalStyleCodec(config)
        self.feature_codec = FeatureCodec(config)
        self.generator = Generator(config)
