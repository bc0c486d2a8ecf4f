"""RE, redundancy elimination: takes out of the features what costs bits and no task needs, before they are coded.

Tang, Yi, Wang, DICM, IEEE Trans. Broadcasting 2025: an autoencoder with a rate on its bottleneck, of Conv2Former blocks
(Hou et al., arXiv 2211.11943). It runs in the encoder only, and nothing of it is sent. Letters in shapes: N pictures,
C channels of the backbone's features, K channels of the bottleneck, H and W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.layers.conv2former import build_conv2former_block
from framevault.codecs.layers.pointwise import PointwiseConv2d

REDUNDANCY_STRIDE = 8
"""Feature positions to a position of the bottleneck, in both directions."""

WARM_UP_FEATURE_WEIGHT = 128.0
"""Weight of L1(f1, f2) against the rate when RE is trained by itself (the paper's warm-up)."""

Density = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Gives a noisy copy of a bottleneck and the likelihood of each value: compressai's `EntropyBottleneck` in training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedundancyConfig:
    """Widths of RE: needed to build it."""

    channels: int
    """C, of the features at stride 4."""
    widths: tuple[int, int, int]
    """Channels at strides 8, 16 and 32; the last is K."""
    depths: tuple[int, int, int] = (1, 1, 2)
    """Conv2Former blocks at strides 8, 16 and 32."""
    expansion: int = 4
    """Hidden channels of the blocks' feed-forward layers over their channels."""


REDUNDANCY_ROWS = {
    "resnet50": RedundancyConfig(channels=256, widths=(192, 192, 192)),
    "mobilenet_v2": RedundancyConfig(channels=24, widths=(48, 96, 192), expansion=2),
}
"""RE of each backbone. The paper gives resnet50's C, K and depths; the widths between are ours."""


class RedundancyElimination(nn.Module):
    """Squeezes features through a rounded bottleneck and back.

    ::

        f1 [N, C, H/4, W/4] -> 3x3 / 2, block -> [H/8] -> 3x3 / 2, block -> [H/16] -> 3x3 / 2, 2 blocks
            -> b [N, K, H/32, W/32] -> round
            -> 2 blocks, 1x1, shuffle -> [H/16] -> block, 1x1, shuffle -> [H/8] -> block, 1x1, shuffle
            -> f2 [N, C, H/4, W/4]

    Feature grids that are no multiple of 8 are filled at the bottom and right with their last row and column, and f2 is
    cut to the size of f1.
    """

    def __init__(self, config: RedundancyConfig) -> None:
        """Build RE with random weights."""
        super().__init__()
        self.config = config
        self.analysis = nn.Sequential(*_squeezing_stages(config))
        self.synthesis = nn.Sequential(*_widening_stages(config))

    def forward(self, features_nchw: Tensor) -> Tensor:
        """Return f2 of f1, the same shape: what the codec is given. Gradients pass the rounding unchanged."""
        bottleneck_nkhw = self.squeeze(features_nchw)
        return self.restore(bottleneck_nkhw, features_nchw.shape[2], features_nchw.shape[3])

    def squeeze(self, features_nchw: Tensor) -> Tensor:
        """Return the bottleneck b, not rounded, [N, K, ceil(H/32), ceil(W/32)], of f1 [N, C, H/4, W/4].

        Raises:
            ValueError: The features have other channels.
        """
        if features_nchw.ndim != 4 or features_nchw.shape[1] != self.config.channels:
            expected, got = self.config.channels, list(features_nchw.shape)
            raise ValueError(f"features must be [N, {expected}, H/4, W/4], got {got}")
        below, right = (-size % REDUNDANCY_STRIDE for size in features_nchw.shape[2:])
        filled_nchw = functional.pad(features_nchw, (0, right, 0, below), mode="replicate")
        bottleneck_nkhw: Tensor = self.analysis(filled_nchw)
        return bottleneck_nkhw

    def restore(self, bottleneck_nkhw: Tensor, height: int, width: int) -> Tensor:
        """Return f2 of a bottleneck, which is rounded first; height and width are those of f1."""
        rounded_nkhw = bottleneck_nkhw + (torch.round(bottleneck_nkhw) - bottleneck_nkhw).detach()
        restored_nchw: Tensor = self.synthesis(rounded_nkhw)
        return restored_nchw[:, :, :height, :width]


def _squeezing_stages(config: RedundancyConfig) -> list[nn.Module]:
    stages: list[nn.Module] = []
    channels = config.channels
    for width, depth in zip(config.widths, config.depths, strict=True):
        stages += [nn.Conv2d(channels, width, 3, stride=2, padding=1), *_blocks(width, depth, config.expansion)]
        channels = width
    return stages


def _widening_stages(config: RedundancyConfig) -> list[nn.Module]:
    stages: list[nn.Module] = []
    widths_out = (config.channels, *config.widths[:-1])
    for width, width_out, depth in zip(config.widths[::-1], widths_out[::-1], config.depths[::-1], strict=True):
        blocks = _blocks(width, depth, config.expansion)
        stages += [*blocks, PointwiseConv2d(width, 4 * width_out), nn.PixelShuffle(2)]
    return stages


def _blocks(channels: int, depth: int, expansion: int) -> list[nn.Module]:
    return [build_conv2former_block(channels, expansion=expansion) for _ in range(depth)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedundancyLosses:
    """One batch's rate and distortion, each a vector over the pictures [N]."""

    rate_bpp: Tensor
    """Estimated bits of the bottleneck a pixel: a pressure in training, nothing that is ever sent."""
    features: Tensor
    """Mean absolute difference of f1 and f2."""

    def total(self, *, rate_weight: float = 1.0, feature_weight: float = WARM_UP_FEATURE_WEIGHT) -> Tensor:
        """Return the weighted sum, [N]; the defaults are the warm-up's (stage 2), stage 1 has 0.1 and 0.1."""
        return rate_weight * self.rate_bpp + feature_weight * self.features


def eliminate_redundancy(
    networks: RedundancyElimination, density: Density, *, features_nchw: Tensor, num_pixels: int
) -> tuple[Tensor, RedundancyLosses]:
    """Run RE as it is trained: noise for the rate, rounding for the features.

    Args:
        networks: RE under training.
        density: Of the bottleneck's K channels, trained along.
        features_nchw: f1, [N, C, H/4, W/4].
        num_pixels: Pixels of a picture, which the rate is divided by.

    Returns:
        f2, and the losses of f1 against f2.
    """
    bottleneck_nkhw = networks.squeeze(features_nchw)
    _, likelihood_nkhw = density(bottleneck_nkhw)
    restored_nchw = networks.restore(bottleneck_nkhw, features_nchw.shape[2], features_nchw.shape[3])
    losses = RedundancyLosses(
        rate_bpp=-torch.log2(likelihood_nkhw).sum(dim=(1, 2, 3)) / num_pixels,
        features=(restored_nchw - features_nchw).abs().mean(dim=(1, 2, 3)),
    )
    return restored_nchw, losses
