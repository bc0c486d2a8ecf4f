"""StyleGAN2's discriminator: a picture to how real it looks.

Karras et al., CVPR 2020, arXiv 1912.04958 (residual, figure 7; no progressive growing); standard deviation over the
batch and equalised learning rates: Karras et al., ICLR 2018, arXiv 1710.10196, sections 3 and 4.1. Training only.
Letters in shapes: N pictures, I and O channels, H and W positions.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.hsc.modulated import ACTIVATION_GAIN, LEAKY_SLOPE, downsample_blur

LARGEST_GROUP = 4
"""Pictures that a standard deviation is taken over."""

DEVIATION_EPSILON = 1e-8
"""Added under its root."""


class EqualConv2d(nn.Module):
    """A convolution whose stored weights have unit variance, so that one learning rate fits all layers."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        gain: float = ACTIVATION_GAIN,
        has_bias: bool = True,
    ) -> None:
        """Build the layer; a kernel of 3 pads by 1. The output has a gain: an activation after it needs none then."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if has_bias else None
        self.scale = gain * (in_channels * kernel_size**2) ** -0.5
        self.gain = gain
        self.padding = kernel_size // 2

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return [N, O, H, W]."""
        return functional.conv2d(x_nchw, *self._scaled(), padding=self.padding)

    def halve(self, x_nchw: Tensor) -> Tensor:
        """Return [N, O, H/2, W/2]: low-passed, then with a stride."""
        is_pointwise = self.padding == 0
        smooth_nchw = downsample_blur(x_nchw, padding=1 + self.padding, stride=2 if is_pointwise else 1)
        return functional.conv2d(smooth_nchw, *self._scaled(), stride=1 if is_pointwise else 2)

    def _scaled(self) -> tuple[Tensor, Tensor | None]:
        return self.weight * self.scale, None if self.bias is None else self.bias * self.gain


class EqualLinear(nn.Module):
    """A dense layer whose stored weights have unit variance."""

    def __init__(self, in_features: int, out_features: int, *, gain: float) -> None:
        """Build the layer; the output has a gain."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.scale = gain * in_features**-0.5
        self.gain = gain

    def forward(self, x_ni: Tensor) -> Tensor:
        """Return [N, O]."""
        return functional.linear(x_ni, self.weight * self.scale, self.bias * self.gain)


class DiscriminatorBlock(nn.Module):
    """One resolution: two convolutions beside a projection, both halving the side.

    ::

        x -> 3x3, leaky relu -> blur, 3x3 / 2, leaky relu -> + (blur, 1x1 / 2)(x) -> / sqrt 2
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Build the block."""
        super().__init__()
        self.conv = EqualConv2d(in_channels, in_channels, 3)
        # Divided by sqrt 2, as their sum is to be.
        self.conv_down = EqualConv2d(in_channels, out_channels, 3, gain=ACTIVATION_GAIN * 2**-0.5)
        self.skip = EqualConv2d(in_channels, out_channels, 1, gain=2**-0.5, has_bias=False)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return [N, O, H/2, W/2]."""
        return _activate(self.conv_down.halve(_activate(self.conv(x_nchw)))) + self.skip.halve(x_nchw)


class Discriminator(nn.Module):
    """A picture to a logit: positive for what looks real.

    ::

        rgb [N, 3, R, R] -> 1x1 -> blocks R .. 8 -> [N, C, 4, 4] -> with their deviation -> 3x3 -> 2 x dense -> [N]
    """

    def __init__(self, channels: Sequence[int]) -> None:
        """Build the discriminator with random weights.

        Args:
            channels: At 4, 8, 16, ... the pictures' side, as the generator's.
        """
        super().__init__()
        self.resolution = 2 << len(channels)
        self.from_rgb = EqualConv2d(3, channels[-1], 1)
        downwards = tuple(reversed(channels))
        self.blocks = nn.Sequential(
            *(DiscriminatorBlock(before, after) for before, after in itertools.pairwise(downwards))
        )
        last = channels[0]
        self.last = EqualConv2d(last + 1, last, 3)
        self.dense = EqualLinear(last * 4 * 4, last, gain=ACTIVATION_GAIN)
        self.logit = EqualLinear(last, 1, gain=1.0)

    def forward(self, rgb_nchw: Tensor) -> Tensor:
        """Return logits [N] of pictures in -1..1.

        Raises:
            ValueError: The pictures have another shape.
        """
        if rgb_nchw.ndim != 4 or rgb_nchw.shape[1:] != (3, self.resolution, self.resolution):
            raise ValueError(
                f"pictures must be [N, 3, {self.resolution}, {self.resolution}], got {list(rgb_nchw.shape)}"
            )
        x_nchw = self.blocks(_activate(self.from_rgb(rgb_nchw)))
        x_nchw = _activate(self.last(append_deviation(x_nchw)))
        logits_n: Tensor = self.logit(_activate(self.dense(x_nchw.flatten(1))))[:, 0]
        return logits_n


def append_deviation(x_nchw: Tensor) -> Tensor:
    """Append a channel with the mean standard deviation of a picture's group: pictures too alike show it.

    A group has the largest number of pictures, up to four, that divides the batch.
    """
    num_pictures, channels, height, width = x_nchw.shape
    size = max(size for size in range(1, LARGEST_GROUP + 1) if num_pictures % size == 0)
    grouped_gnchw = x_nchw.float().reshape(size, -1, channels, height, width)
    variance_nchw = (grouped_gnchw - grouped_gnchw.mean(dim=0)).square().mean(dim=0)
    deviation_n = (variance_nchw + DEVIATION_EPSILON).sqrt().mean(dim=(1, 2, 3)).repeat(size)
    deviation_n1hw = deviation_n[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([x_nchw, deviation_n1hw.to(x_nchw.dtype)], dim=1)


def _activate(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, LEAKY_SLOPE)
