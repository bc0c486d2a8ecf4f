"""Attention inside windows, against its definition and numbers worked out here."""

import math

import pytest
import torch
from torch import Tensor, nn

from framevault.codecs.layers.transformer import WindowAttention, build_transformer_block


def plain_attention(layer: WindowAttention, x_nchw: Tensor) -> Tensor:
    """The definition, a position and a head at a time, over the positions that share its window."""
    _, channels, height, width = x_nchw.shape
    depth = channels // layer.num_heads
    q, k, v = layer.project_in(layer.norm(x_nchw))[0].chunk(3)
    mixed = torch.zeros(channels, height, width)
    for row in range(height):
        for column in range(width):
            window = ((row + layer.shift) // layer.window, (column + layer.shift) // layer.window)
            others = [
                (i, j)
                for i in range(height)
                for j in range(width)
                if ((i + layer.shift) // layer.window, (j + layer.shift) // layer.window) == window
            ]
            for head in range(layer.num_heads):
                part = slice(head * depth, (head + 1) * depth)
                scores = []
                for i, j in others:
                    offset = (i - row + layer.window - 1) * (2 * layer.window - 1) + j - column + layer.window - 1
                    product = (q[part, row, column] * k[part, i, j]).sum() / math.sqrt(depth)
                    scores.append(product + layer.bias_table[offset, head])
                shares = torch.softmax(torch.stack(scores), dim=0)
                mixed[part, row, column] = sum(
                    share * v[part, i, j] for share, (i, j) in zip(shares, others, strict=True)
                )
    out_nchw: Tensor = layer.project_out(mixed[None])
    return x_nchw + out_nchw


@pytest.mark.parametrize(("size", "shift"), [((4, 4), 0), ((5, 3), 0), ((5, 3), 1), ((1, 1), 2), ((6, 2), 2)])
def test_any_size_and_shift_is_attention_among_the_positions_of_a_window(size: tuple[int, int], shift: int) -> None:
    torch.manual_seed(0)
    layer = WindowAttention(4, num_heads=2, window=3, shift=shift)
    nn.init.normal_(layer.bias_table)
    nn.init.normal_(layer.project_out.weight)
    x = torch.randn(1, 4, *size)

    with torch.no_grad():
        # Another order of summation.
        torch.testing.assert_close(layer(x), plain_attention(layer, x), rtol=1e-4, atol=1e-5)


def test_one_window_of_two_positions_by_hand() -> None:
    """Equal scores but for a bias of ln 3 on looking right: shares of 1/4 and 3/4."""
    layer = WindowAttention(2, num_heads=1, window=2)
    with torch.no_grad():
        layer.project_in.weight.zero_()
        layer.project_in.weight[4:, :, 0, 0] = torch.eye(2)  # only values
        layer.project_in.bias.zero_()  # type: ignore[union-attr]  # the layer has a bias
        layer.project_out.weight[:, :, 0, 0] = 8 * torch.eye(2)
        layer.bias_table[1 * 3 + 2, 0] = math.log(3)  # no row down, one column right, of offsets -1..1
    # Normalised: (-1, 1) on the left, (1, -1) on the right.
    x = torch.tensor([[0.0, 2.0], [2.0, 0.0]]).reshape(1, 2, 1, 2)

    out = layer(x)

    # Left: 1/4 (-1, 1) + 3/4 (1, -1) = (1/2, -1/2); right, no bias: (0, 0).
    expected = torch.tensor([[0.0 + 4, 2.0], [2.0 - 4, 0.0]])
    torch.testing.assert_close(out.reshape(2, 2), expected, rtol=1e-5, atol=1e-5)


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    block = build_transformer_block(8, num_heads=2, window=4, shift=2)
    x = torch.randn(3, 8, 5, 7)

    torch.testing.assert_close(block(x)[1:2], block(x[1:2]), rtol=1e-4, atol=1e-5)


def test_channels_last_gives_the_same_and_stays_channels_last() -> None:
    torch.manual_seed(0)
    block = build_transformer_block(8, num_heads=2)
    x = torch.randn(2, 8, 9, 10)

    out = block(x.contiguous(memory_format=torch.channels_last))

    torch.testing.assert_close(out, block(x), rtol=1e-4, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_every_parameter_gets_a_gradient_and_the_start_is_near_the_identity() -> None:
    torch.manual_seed(0)
    block = build_transformer_block(8, num_heads=2, window=3)
    x = torch.randn(2, 8, 5, 6)

    out = block(x)
    out.pow(3).sum().backward()

    assert (out - x).abs().mean() < 0.1 * x.abs().mean()
    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_heads_that_do_not_divide_and_shifts_beyond_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="got 6 channels, 4 heads"):
        WindowAttention(6, num_heads=4)
    with pytest.raises(ValueError, match="less than the window's 8, got 8"):
        WindowAttention(8, num_heads=4, shift=8)
