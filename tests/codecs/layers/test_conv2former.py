"""Conv2Former's block, against its equations and numbers worked out here."""

import pytest
import torch
from torch import Tensor, nn

from framevault.codecs.layers.conv2former import ConvolutionalModulation, build_conv2former_block


def test_the_modulation_computes_its_equations_by_hand() -> None:
    """Two channels at one position, x = (1, 3), normalised to (-1, 1)."""
    layer = ConvolutionalModulation(2)
    first, depthwise = layer.weigh[0], layer.weigh[2]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(depthwise, nn.Conv2d)
    with torch.no_grad():
        for convolution in (first, depthwise, layer.value, layer.project_out):
            convolution.weight.zero_()
            assert convolution.bias is not None
            convolution.bias.zero_()
        first.weight[0, 1] = 20.0  # gelu(20) is 20
        first.weight[1, 0] = -30.0  # gelu(30) is 30
        depthwise.weight[:, 0, 5, 5] = torch.tensor([0.5, 0.1])  # weights (10, 3)
        layer.value.weight[0, 0] = 7.0  # values (-7, 4)
        layer.value.weight[1, 1] = 4.0
        layer.project_out.weight[0, 0] = 1.0  # (-70 + 12, 12)
        layer.project_out.weight[:, 1] = 1.0

    out = layer(torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1))

    # The norm's epsilon takes 5e-7 off.
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0 - 58, 3.0 + 12]), rtol=1e-5, atol=1e-5)


def test_an_output_position_sees_eleven_by_eleven_positions_and_no_more() -> None:
    torch.manual_seed(0)
    layer = ConvolutionalModulation(3)
    x = torch.randn(1, 3, 15, 15, requires_grad=True)

    layer(x)[0, :, 7, 7].sum().backward()

    assert x.grad is not None
    seen = (x.grad[0].abs().sum(dim=0) > 0).nonzero()
    assert (seen.amin(dim=0).tolist(), seen.amax(dim=0).tolist()) == ([2, 2], [12, 12])


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (13, 8)])
def test_any_size_keeps_its_shape_in_either_memory_format(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = build_conv2former_block(8)
    x = torch.randn(2, 8, *size)

    out = block(x)

    assert out.shape == x.shape
    assert (out - x).abs().mean() < 0.1 * x.abs().mean()
    torch.testing.assert_close(block(x.contiguous(memory_format=torch.channels_last)), out, rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    block = build_conv2former_block(8, expansion=2)

    block(torch.randn(2, 8, 5, 6)).pow(3).sum().backward()

    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_the_same_seed_gives_the_same_block() -> None:
    def build() -> Tensor:
        torch.manual_seed(5)
        out: Tensor = build_conv2former_block(8)(torch.ones(1, 8, 4, 4))
        return out

    assert torch.equal(build(), build())
