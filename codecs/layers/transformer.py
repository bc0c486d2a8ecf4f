"""Transformer blocks for feature grids of any size: attention inside windows.

Liu et al., "Swin Transformer", ICCV 2021, arXiv 2103.14030. Floating-point softmax gives other bits on another device,
so these blocks belong where nothing that is decoded depends on them exactly: in the encoder. Letters in shapes: N
pictures, C channels, H and W the height and width of the feature grid, B windows, T positions of a window, A heads,
D channels of a head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from framevault.codecs.layers.channel_norm import ChannelNorm
from framevault.codecs.layers.feed_forward import FeedForward, start_near_zero
from framevault.codecs.layers.pointwise import PointwiseConv2d


class WindowAttention(nn.Module):
    """Attention inside windows, with a learned bias for each offset of two positions, as a residual branch.

    The grid is filled up to whole windows, and what was filled in is masked. A shift moves the windows' borders: two
    layers, one of them shifted, see across them. (Swin rolls the grid and masks the seam; the fill serves both here)::

        x [N, C, H, W] -> norm -> 1x1: q, k, v -> windows [B, A, T, D]
                          softmax(q k^T / sqrt(D) + bias[A, T, T] + mask) v -> grid [N, C, H, W] -> 1x1 -> + x
    """

    def __init__(self, channels: int, *, num_heads: int, window: int = 8, shift: int = 0) -> None:
        """Build the layer.

        Args:
            channels: C, a multiple of the number of heads.
            num_heads: A.
            window: Side of a window; T is its square.
            shift: Rows and columns by which the first windows are cut short, less than the side.

        Raises:
            ValueError: The heads don't divide the channels, or the shift is no shift.
        """
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"channels must be a multiple of the heads, got {channels} channels, {num_heads} heads")
        if not 0 <= shift < window:
            raise ValueError(f"shift must be 0 or more and less than the window's {window}, got {shift}")
        self.num_heads, self.window, self.shift = num_heads, window, shift
        self.norm = ChannelNorm(channels)
        self.project_in = PointwiseConv2d(channels, 3 * channels)
        self.project_out = PointwiseConv2d(channels, channels)
        start_near_zero(self.project_out)
        self.bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        self.register_buffer("bias_index_tt", _offset_numbers(window), persistent=False)
        self.bias_index_tt: Tensor

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the mixed features, the same shape as the input, of any height and width."""
        height, width = x_nchw.shape[2:]
        padding = (self.shift, -(width + self.shift) % self.window, self.shift, -(height + self.shift) % self.window)
        filled_nchw = functional.pad(self.project_in(self.norm(x_nchw)), padding)
        q_batd, k_batd, v_batd = (self._to_windows(part) for part in filled_nchw.chunk(3, dim=1))
        # [N * windows] pictures share one mask per window, so that it is repeated for each picture.
        mask_b1tt = self._mask(height, width, padding, x_nchw.device).repeat(x_nchw.shape[0], 1, 1, 1)
        bias_att = self.bias_table[self.bias_index_tt].permute(2, 0, 1)
        mixed_batd = functional.scaled_dot_product_attention(
            q_batd, k_batd, v_batd, attn_mask=(bias_att + mask_b1tt).to(q_batd.dtype)
        )
        mixed_nchw = self._to_grid(mixed_batd, filled_nchw.shape[2], filled_nchw.shape[3])
        mixed_nchw = mixed_nchw[:, :, self.shift : self.shift + height, self.shift : self.shift + width]
        out_nchw: Tensor = self.project_out(mixed_nchw)
        return x_nchw + out_nchw

    def _mask(self, height: int, width: int, padding: tuple[int, int, int, int], device: torch.device) -> Tensor:
        """Return what is added to the scores of one picture's windows: minus infinity for filled-in positions.

        Shape [windows, 1, 1, T]. Each window has a real position, because the fill is narrower than a window on either
        side, so no softmax is empty.
        """
        real_11hw = functional.pad(torch.zeros(1, 1, height, width, device=device), padding, value=-torch.inf)
        size = self.window
        real_bt = real_11hw.unfold(2, size, size).unfold(3, size, size).reshape(-1, size * size)
        return real_bt[:, None, None]

    def _to_windows(self, x_nchw: Tensor) -> Tensor:
        """Cut [N, C, rows * window, columns * window] into windows: [N * rows * columns, A, T, D]."""
        n, channels, height, width = x_nchw.shape
        size, heads = self.window, self.num_heads
        parts = x_nchw.reshape(n, heads, channels // heads, height // size, size, width // size, size)
        return parts.permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, heads, size * size, channels // heads)

    def _to_grid(self, x_batd: Tensor, height: int, width: int) -> Tensor:
        """Undo `_to_windows`; channels-last in memory."""
        size, heads, depth = self.window, self.num_heads, x_batd.shape[3]
        parts = x_batd.reshape(-1, height // size, width // size, heads, size, size, depth)
        x_nhwc = parts.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, height, width, heads * depth)
        return x_nhwc.permute(0, 3, 1, 2)


def _offset_numbers(window: int) -> Tensor:
    """Number the offset from each position of a window to each other one, [T, T], from 0 to (2 window - 1)^2 - 1."""
    position = torch.arange(window)
    row_t, column_t = position.repeat_interleave(window), position.repeat(window)
    row_tt = row_t[None, :] - row_t[:, None] + window - 1
    column_tt = column_t[None, :] - column_t[:, None] + window - 1
    return row_tt * (2 * window - 1) + column_tt


def build_transformer_block(
    channels: int, *, num_heads: int, window: int = 8, shift: int = 0, expansion: int = 4
) -> nn.Sequential:
    """Build a transformer block: attention inside windows, then a feed-forward layer.

    ::

        x [N, C, H, W] -> window attention -> feed-forward -> [N, C, H, W]

    Args:
        channels: C, a multiple of the number of heads.
        num_heads: A.
        window: Side of a window.
        shift: Rows and columns by which the first windows are cut short.
        expansion: Hidden channels of the feed-forward layer over C.
    """
    attention = WindowAttention(channels, num_heads=num_heads, window=window, shift=shift)
    return nn.Sequential(attention, FeedForward(channels, expansion))
