"""HorNet: recursive gated convolutions, which multiply neighbourhoods with each other again and again.

Rao et al., "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions", NeurIPS 2022,
arXiv 2207.14284. Letters in shapes: N pictures, C channels, H and W the height and width of the feature grid, n the
order, C_k = C / 2^(n-1-k) the channels at step k = 0 .. n-1, S = C_0 + ... + C_(n-1) = 2C - C_0.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.layers.channel_norm import ChannelNorm
from framevault.codecs.layers.feed_forward import FeedForward, start_near_zero
from framevault.codecs.layers.pointwise import PointwiseConv2d


def depthwise_filter(channels: int) -> nn.Conv2d:
    """Build the filter f of the paper's main form: depthwise 7x7, [N, S, H, W] -> [N, S, H, W].

    Its bias starts at one, where the paper divides by alpha = 3 and normalises: without either, a gate's first values
    are about 0.3, so a product of four of them would start at a hundredth and hardly learn.
    """
    convolution = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
    assert convolution.bias is not None
    nn.init.ones_(convolution.bias)
    return convolution


class GlobalLocalFilter(nn.Module):
    """The filter f of the paper's GF form: half the channels see 3x3 neighbours, half see the whole grid.

    The global half is a learned frequency response (Rao et al., "Global Filter Networks", NeurIPS 2021, arXiv
    2107.00645, equation 6). It is stored for one reference grid; another grid gets the same kernel, centred and cut or
    filled with zeros, so that no resolution is fixed. (The papers interpolate the response instead, which also mixes
    the frequencies -1 and 0 of the rows, neighbours in meaning but not in memory.) The convolution is circular::

        x [N, S, H, W] -> norm -+-> first half  -> depthwise 3x3 ----------------------------+-> norm [N, S, H, W]
                                `-> second half -> rfft2 -> * response [S/2, H, W//2+1] -> irfft2 -'
    """

    def __init__(self, channels: int, grid: tuple[int, int] = (16, 16)) -> None:
        """Build the filter.

        Args:
            channels: S, even.
            grid: Height and width that the stored response belongs to: the largest kernel, so also the largest reach.

        Raises:
            ValueError: `channels` is odd.
        """
        super().__init__()
        if channels % 2:
            raise ValueError(f"a global-local filter splits its channels in halves, got {channels}")
        self.grid = grid
        half = channels // 2
        self.norm_in = ChannelNorm(channels)
        self.local = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.response_chw2 = nn.Parameter(0.02 * torch.randn(half, grid[0], grid[1] // 2 + 1, 2))
        self.norm_out = ChannelNorm(channels)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the filtered features, the same shape as the input; the transforms run in float32."""
        local_nchw, global_nchw = self.norm_in(x_nchw).chunk(2, dim=1)
        size = (x_nchw.shape[2], x_nchw.shape[3])
        spectrum_nchw = torch.fft.rfft2(global_nchw.float(), norm="ortho") * self.response(*size)
        filtered_nchw = torch.fft.irfft2(spectrum_nchw, s=size, norm="ortho").to(x_nchw.dtype)
        both_nchw: Tensor = self.norm_out(torch.cat([self.local(local_nchw), filtered_nchw], dim=1))
        return both_nchw

    def response(self, height: int, width: int) -> Tensor:
        """Return the frequency response on a grid of this size, complex [S/2, H, W//2+1]."""
        response_chw = torch.view_as_complex(self.response_chw2.float().contiguous())
        if (height, width) == self.grid:
            return response_chw
        kernel_chw = torch.fft.fftshift(torch.fft.irfft2(response_chw, s=self.grid), dim=(1, 2))
        # A shifted kernel has its centre at half its size, rounded down. Negative padding cuts.
        top, left = height // 2 - self.grid[0] // 2, width // 2 - self.grid[1] // 2
        bottom, right = height - self.grid[0] - top, width - self.grid[1] - left
        kernel_chw = functional.pad(kernel_chw, (left, right, top, bottom))
        filled_chw: Tensor = torch.fft.rfft2(torch.fft.ifftshift(kernel_chw, dim=(1, 2)))
        return filled_chw


class RecursiveGatedConv(nn.Module):
    """The paper's g^nConv (equations 3 to 6): a product of n gates, each of twice the channels of the one before.

    ::

        x [N, C, H, W] -> 1x1 -> split: p_0 [N, C_0, H, W] and q [N, S, H, W]
                                 q -> filter f -> split: q_0 .. q_(n-1), each [N, C_k, H, W]
                                 p_1     = p_0 * q_0
                                 p_(k+1) = g_k(p_k) * q_k      g_k: 1x1, C_(k-1) -> C_k
                                 p_n -> 1x1 -> [N, C, H, W]

    Order 2 is a product of three values, order 4 of five; costs hardly grow, because the early steps are narrow.
    """

    def __init__(
        self, channels: int, order: int, *, spatial_filter: Callable[[int], nn.Module] = depthwise_filter
    ) -> None:
        """Build the convolution.

        Args:
            channels: C, a multiple of 2^(n-1).
            order: n, at least 1.
            spatial_filter: Builds f for S channels: `depthwise_filter` or `GlobalLocalFilter`.

        Raises:
            ValueError: The channels can't be halved n-1 times, or the order is below 1.
        """
        super().__init__()
        if order < 1 or channels % 2 ** (order - 1):
            raise ValueError(
                "order must be at least 1 and channels a multiple of 2^(order-1), "
                f"got order {order} and {channels} channels"
            )
        self.steps = [channels // 2 ** (order - 1 - step) for step in range(order)]
        self.project_in = PointwiseConv2d(channels, 2 * channels)
        self.spatial_filter = spatial_filter(sum(self.steps))
        self.widen = nn.ModuleList(PointwiseConv2d(a, b) for a, b in zip(self.steps, self.steps[1:], strict=False))
        self.project_out = PointwiseConv2d(channels, channels)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the mixed features, the same shape as the input."""
        p_nchw, q_nchw = self.project_in(x_nchw).split([self.steps[0], sum(self.steps)], dim=1)
        gates = self.spatial_filter(q_nchw).split(self.steps, dim=1)
        p_nchw = p_nchw * gates[0]
        for widen, gate_nchw in zip(self.widen, gates[1:], strict=True):
            p_nchw = widen(p_nchw) * gate_nchw
        out_nchw: Tensor = self.project_out(p_nchw)
        return out_nchw


class RecursiveGatedBlock(nn.Module):
    """A g^nConv as a residual branch.

    ::

        x [N, C, H, W] -> norm -> g^nConv -> + x [N, C, H, W]
    """

    def __init__(
        self,
        channels: int,
        order: int,
        *,
        is_normalised: bool = True,
        spatial_filter: Callable[[int], nn.Module] = depthwise_filter,
    ) -> None:
        """Build the block.

        Args:
            channels: C, a multiple of 2^(n-1).
            order: n.
            is_normalised: Whether the branch starts with a `ChannelNorm`, as in the paper.
            spatial_filter: As in `RecursiveGatedConv`.
        """
        super().__init__()
        self.norm = ChannelNorm(channels) if is_normalised else nn.Identity()
        self.mix = RecursiveGatedConv(channels, order, spatial_filter=spatial_filter)
        start_near_zero(self.mix.project_out)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the mixed features, the same shape as the input."""
        mixed_nchw: Tensor = self.mix(self.norm(x_nchw))
        return x_nchw + mixed_nchw


def build_hornet_block(
    channels: int,
    order: int,
    *,
    expansion: int = 4,
    is_normalised: bool = True,
    spatial_filter: Callable[[int], nn.Module] = depthwise_filter,
) -> nn.Sequential:
    """Build the paper's block (figure 2): a transformer's, with g^nConv in the place of attention.

    ::

        x [N, C, H, W] -> norm -> g^nConv -> + x -> norm -> 1x1, gelu, 1x1 -> + [N, C, H, W]

    Args:
        channels: C, a multiple of 2^(n-1).
        order: n.
        expansion: Hidden channels of the feed-forward half over C.
        is_normalised: With `ChannelNorm`, as in the paper, or without.
        spatial_filter: As in `RecursiveGatedConv`.
    """
    return nn.Sequential(
        RecursiveGatedBlock(channels, order, is_normalised=is_normalised, spatial_filter=spatial_filter),
        FeedForward(channels, expansion, is_normalised=is_normalised),
    )
