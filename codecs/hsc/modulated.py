"""StyleGAN2's modulated convolution and resampling filters.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, arXiv 1912.04958, section 2.2.
Letters in shapes: N pictures, I and O channels, D width of a style, H and W positions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAKY_SLOPE = 0.2
"""Of the activation for negative values."""

ACTIVATION_GAIN = 2**0.5
"""What activations are multiplied with, to keep a unit variance."""

BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)
"""The resampling filter, in both directions, before it is normalised."""

DEMODULATION_EPSILON = 1e-8
"""Added under the root of a filter's squared sum."""


class ModulatedConv2d(nn.Module):
    """A 3x3 convolution whose input channels are scaled by a style, its filters normalised to unit length.

    ::

        style [N, D] -> affine -> s [N, I]
        w'_oikk = w_oikk * s_i;  w''_oikk = w'_oikk / sqrt(sum_ikk w'^2 + 1e-8)
        x [N, I, H, W] -> (x2, blur) -> conv w'' -> [N, O, H, W] or [N, O, 2H, 2W]

    Scaling the input by s and the output by the inverse length is the same, and needs no filters of each picture's own.
    With such filters, as one convolution of N groups, it was no faster on a CPU (0.9 to 1.2 of the time).
    """

    def __init__(self, in_channels: int, out_channels: int, *, style: int, up: bool = False) -> None:
        """Build the convolution; filters start with unit variance over their inputs, styles with 1.

        Args:
            in_channels: I.
            out_channels: O.
            style: D.
            up: Whether the output has twice the input's side.
        """
        super().__init__()
        self.up = up
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.normal_(self.weight, std=(9 * in_channels) ** -0.5)
        self.affine = _affine(style, in_channels)

    def forward(self, x_nchw: Tensor, style_nd: Tensor) -> tuple[Tensor, Tensor]:
        """Return the filtered features, and what each of their channels is still to be multiplied with, [N, O].

        The factor is given apart so that it can be applied in one pass with whatever is added.
        """
        scale_ni = self.affine(style_nd)
        x_nchw = x_nchw * scale_ni[:, :, None, None]
        if self.up:
            wide_nchw = functional.conv_transpose2d(x_nchw, self.weight.transpose(0, 1), stride=2)
            out_nchw = blur(wide_nchw, gain=4.0)
        else:
            out_nchw = functional.conv2d(x_nchw, self.weight, padding=1)
        return out_nchw, self._inverse_length(scale_ni)

    def _inverse_length(self, scale_ni: Tensor) -> Tensor:
        squared_oi = self.weight.float().square().sum(dim=(2, 3))
        return torch.rsqrt(scale_ni.float().square() @ squared_oi.T + DEMODULATION_EPSILON)


class ModulatedProjection(nn.Module):
    """A 1x1 convolution whose input channels are scaled by a style; its filters keep their length.

    With few output channels, each picture's own filters cost less than scaling its features.
    """

    def __init__(self, in_channels: int, out_channels: int, *, style: int) -> None:
        """Build the projection; it starts as `ModulatedConv2d` does."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        nn.init.normal_(self.weight, std=in_channels**-0.5)
        self.affine = _affine(style, in_channels)

    def forward(self, x_nchw: Tensor, style_nd: Tensor) -> Tensor:
        """Return [N, O, H, W]."""
        scale_n1i = self.affine(style_nd)[:, None]
        weight_noi = scale_n1i * self.weight[:, :, 0, 0].to(scale_n1i.dtype)
        num_pictures, _, height, width = x_nchw.shape
        return torch.matmul(weight_noi, x_nchw.flatten(2)).reshape(num_pictures, -1, height, width)


def _affine(style: int, channels: int) -> nn.Linear:
    affine = nn.Linear(style, channels)
    nn.init.normal_(affine.weight, std=style**-0.5)
    nn.init.ones_(affine.bias)
    return affine


def blur(x_nchw: Tensor, *, gain: float) -> Tensor:
    """Filter each channel by itself; a side of 2H + 1 becomes 2H."""
    kernel_11kk = _kernel(x_nchw, gain).expand(x_nchw.shape[1], 1, -1, -1)
    return functional.conv2d(x_nchw, kernel_11kk, padding=1, groups=x_nchw.shape[1])


def upsample(x_nchw: Tensor) -> Tensor:
    """Double the side with the resampling filter."""
    kernel_11kk = _kernel(x_nchw, 4.0).expand(x_nchw.shape[1], 1, -1, -1)
    return functional.conv_transpose2d(x_nchw, kernel_11kk, stride=2, padding=1, groups=x_nchw.shape[1])


def downsample_blur(x_nchw: Tensor, *, padding: int, stride: int = 1) -> Tensor:
    """Filter before a stride-2 convolution, which follows without padding; a 1x1 one can leave the stride to this."""
    kernel_11kk = _kernel(x_nchw, 1.0).expand(x_nchw.shape[1], 1, -1, -1)
    return functional.conv2d(x_nchw, kernel_11kk, stride=stride, padding=padding, groups=x_nchw.shape[1])


def _kernel(like: Tensor, gain: float) -> Tensor:
    taps = torch.tensor(BLUR_TAPS, device=like.device, dtype=like.dtype)
    kernel_kk = torch.outer(taps, taps)
    return (gain * kernel_kk / kernel_kk.sum())[None, None]
