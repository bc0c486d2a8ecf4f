"""Normalisation over channels, and the feed-forward layer built on it."""

import pytest
import torch
from torch.nn import functional

from framevault.codecs.layers.channel_norm import ChannelNorm
from framevault.codecs.layers.feed_forward import FeedForward


def test_channel_norm_normalises_each_position_by_itself() -> None:
    """(1, 3) has mean 2 and variance 1; (10, 30) has mean 20 and variance 100: both become (-1, 1)."""
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]]).reshape(1, 2, 1, 2)

    out = ChannelNorm(2)(x)

    # The formula's epsilon, 1e-6, is under the root.
    torch.testing.assert_close(out.reshape(2, 2), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
def test_channel_norm_is_layer_normalisation_in_either_memory_format(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    norm = ChannelNorm(6)
    x = torch.randn(2, 6, *size)
    expected = functional.layer_norm(x.permute(0, 2, 3, 1), (6,), eps=1e-6).permute(0, 3, 1, 2)

    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(norm(x.contiguous(memory_format=layout)), expected)


def test_feed_forward_computes_its_formula_by_hand() -> None:
    """One channel, two hidden ones: 2 + 10 gelu(2 * 2 + 1) - 5 gelu(-2 + 0.5)."""
    layer = FeedForward(1, 2, is_normalised=False)
    with torch.no_grad():
        layer.branch[1].weight.copy_(torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1))  # type: ignore[operator]
        layer.branch[1].bias.copy_(torch.tensor([1.0, 0.5]))  # type: ignore[operator]
        layer.branch[3].weight.copy_(torch.tensor([10.0, -5.0]).reshape(1, 2, 1, 1))  # type: ignore[operator]

    out = layer(torch.tensor(2.0).reshape(1, 1, 1, 1))

    # gelu(x) = x Phi(x): Phi(5) = 0.9999997, Phi(-1.5) = 0.0668072.
    assert out.item() == pytest.approx(2 + 10 * 5 * 0.9999997 - 5 * -1.5 * 0.0668072, abs=1e-4)


def test_feed_forward_starts_near_the_identity_and_passes_gradients() -> None:
    torch.manual_seed(0)
    layer = FeedForward(8)
    x = torch.randn(1, 8, 3, 5)

    out = layer(x)
    out.square().sum().backward()

    assert (out - x).abs().mean() < 0.1 * x.abs().mean()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())
