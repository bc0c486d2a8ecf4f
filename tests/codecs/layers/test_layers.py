"""The blocks that codecs share, against their definitions."""

import torch
from torch import nn
from torch.nn import functional

from framevault.codecs.layers.gated import GatedBlock
from framevault.codecs.layers.pointwise import PointwiseConv2d


def test_pointwise_convolution_is_a_1x1_convolution() -> None:
    """The same parameters under the same names, in either memory format."""
    torch.manual_seed(0)
    ours, reference = PointwiseConv2d(7, 5), nn.Conv2d(7, 5, 1)
    reference.load_state_dict(ours.state_dict())
    x = torch.randn(2, 7, 6, 3)

    for layout in (torch.contiguous_format, torch.channels_last):
        # Sums of seven float32 products, in another order.
        torch.testing.assert_close(ours(x.contiguous(memory_format=layout)), reference(x), rtol=1e-5, atol=1e-6)


def test_gated_block_computes_its_formula_by_hand() -> None:
    """One channel, one position: x + w_out * (w_mix * value + b_mix) * gelu(gate)."""
    block = GatedBlock(1, kernel_size=3)
    with torch.no_grad():
        block.project_in.weight.copy_(torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1))
        block.project_in.bias.zero_()  # type: ignore[union-attr]  # the layer has a bias
        block.mix.weight.zero_()
        block.mix.weight[0, 0, 1, 1] = 0.5
        block.mix.bias.fill_(0.25)  # type: ignore[union-attr]  # the layer has a bias
        block.project_out.weight.fill_(10.0)

    out = block(torch.tensor(1.5).reshape(1, 1, 1, 1))

    expected = 1.5 + 10 * (0.5 * 4.5 + 0.25) * functional.gelu(torch.tensor(3.0))
    torch.testing.assert_close(out.squeeze(), expected)


def test_gated_block_keeps_the_shape_and_starts_near_the_identity() -> None:
    """Any size, also smaller than the kernel."""
    torch.manual_seed(0)
    block = GatedBlock(8)
    x = torch.randn(1, 8, 3, 5)

    out = block(x)

    assert out.shape == x.shape
    assert (out - x).abs().mean() < 0.1 * x.abs().mean()
