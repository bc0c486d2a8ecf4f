"""HorNet's recursive gated convolution, against its equations and numbers worked out here."""

import pytest
import torch
from torch import Tensor, nn

from framevault.codecs.layers.gnconv import (
    GlobalLocalFilter,
    RecursiveGatedBlock,
    RecursiveGatedConv,
    build_hornet_block,
)

SIZES = [(1, 1), (3, 5), (7, 8), (17, 12)]


def fill(layer: nn.Module, weights: list[float], biases: list[float]) -> None:
    """Write weights in their order in memory."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights).reshape(layer.weight.shape))
        layer.bias.copy_(torch.tensor(biases))


def centre_filter(layer: nn.Module, gains: list[float], biases: list[float]) -> None:
    """Make a depthwise filter multiply each channel and add to it."""
    assert isinstance(layer, nn.Conv2d)
    weights = torch.zeros_like(layer.weight)
    weights[:, 0, 3, 3] = torch.tensor(gains)
    fill(layer, weights.flatten().tolist(), biases)


def test_order_2_computes_its_equations_by_hand() -> None:
    """Two channels, steps of 1 and 2 channels, x = (2, 3) at one position."""
    convolution = RecursiveGatedConv(2, 2)
    # p_0 = 2 + 3 = 5; q = (2, 3, 2 * 2 + 1 = 5).
    fill(convolution.project_in, [1, 1, 1, 0, 0, 1, 2, 0], [0, 0, 0, 1])
    # f: q_0 = 10 * 2 + 1 = 21; q_1 = (3 - 1, 2 * 5 + 0) = (2, 10).
    centre_filter(convolution.spatial_filter, [10, 1, 2], [1, -1, 0])
    # p_1 = 5 * 21 = 105; g_1(p_1) = (105 + 5, -105); p_2 = (110 * 2, -105 * 10) = (220, -1050).
    fill(convolution.widen[0], [1, -1], [5, 0])
    # (220 + 1050, -1050 + 50).
    fill(convolution.project_out, [1, -1, 0, 1], [0, 50])

    out = convolution(torch.tensor([2.0, 3.0]).reshape(1, 2, 1, 1))

    assert out.flatten().tolist() == [1270, -1000]


def test_order_3_multiplies_four_values() -> None:
    """With all weights one, no biases and one position: steps of 1, 2 and 4 channels of x = (1, 1, 1, 1)."""
    convolution = RecursiveGatedConv(4, 3)
    fill(convolution.project_in, [1.0] * 32, [0.0] * 8)
    centre_filter(convolution.spatial_filter, [1.0] * 7, [0.0] * 7)
    fill(convolution.widen[0], [1.0] * 2, [0.0] * 2)
    fill(convolution.widen[1], [1.0] * 8, [0.0] * 4)
    fill(convolution.project_out, [1.0] * 16, [0.0] * 4)

    out = convolution(torch.ones(1, 4, 1, 1))

    # Projections are 4. p_1 = 4 * 4; p_2 = 16 * 4 twice; p_3 = (64 + 64) * 4 = 512 four times; their sum is 2048.
    assert out.flatten().tolist() == [2048] * 4


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_doubling_the_input_multiplies_the_output_by_two_to_the_order_plus_one(order: int) -> None:
    """The name says the order of the polynomial, without biases."""
    torch.manual_seed(0)
    convolution = RecursiveGatedConv(16, order).double()
    for name, parameter in convolution.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    x = torch.randn(1, 16, 5, 4, dtype=torch.float64)

    torch.testing.assert_close(convolution(2 * x), 2 ** (order + 1) * convolution(x))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [2, 3, 4])
def test_any_size_keeps_its_shape_in_either_memory_format(order: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = RecursiveGatedBlock(16, order)
    x = torch.randn(2, 16, *size)

    out = block(x)

    assert out.shape == x.shape
    torch.testing.assert_close(block(x.contiguous(memory_format=torch.channels_last)), out, rtol=1e-4, atol=1e-5)


def test_an_output_position_sees_seven_by_seven_positions_and_no_more() -> None:
    torch.manual_seed(0)
    convolution = RecursiveGatedConv(4, 3)
    x = torch.randn(1, 4, 11, 11, requires_grad=True)

    convolution(x)[0, :, 5, 5].sum().backward()

    assert x.grad is not None
    seen = x.grad[0].abs().sum(dim=0) > 0
    assert seen.nonzero().amin(dim=0).tolist() == [2, 2]
    assert seen.nonzero().amax(dim=0).tolist() == [8, 8]
    assert int(seen.sum()) == 49


@pytest.mark.parametrize("spatial_filter", [None, GlobalLocalFilter])
@pytest.mark.parametrize("is_normalised", [False, True])
def test_every_parameter_of_a_hornet_block_gets_a_gradient(
    is_normalised: bool, spatial_filter: type[GlobalLocalFilter] | None
) -> None:
    torch.manual_seed(0)
    options = {} if spatial_filter is None else {"spatial_filter": spatial_filter}
    block = build_hornet_block(8, 2, is_normalised=is_normalised, **options)  # type: ignore[arg-type]  # one key
    x = torch.randn(2, 8, 5, 6)

    out = block(x)
    out.pow(3).sum().backward()

    assert (out - x).abs().mean() < 0.1 * x.abs().mean()
    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_the_same_seed_gives_the_same_block() -> None:
    def build() -> Tensor:
        torch.manual_seed(5)
        out: Tensor = build_hornet_block(8, 3, spatial_filter=GlobalLocalFilter)(torch.ones(1, 8, 4, 4))
        return out

    assert torch.equal(build(), build())


@pytest.mark.parametrize(("channels", "order"), [(6, 3), (8, 0), (7, 2)])
def test_channels_that_cannot_be_halved_are_refused(channels: int, order: int) -> None:
    with pytest.raises(ValueError, match=rf"got order {order} and {channels} channels"):
        RecursiveGatedConv(channels, order)


def test_a_flat_response_leaves_the_global_half_as_it_is_on_any_grid() -> None:
    """A response of one everywhere is a kernel of one tap, whatever the grid."""
    layer = GlobalLocalFilter(4, grid=(6, 5))
    with torch.no_grad():
        layer.response_chw2.zero_()
        layer.response_chw2[..., 0] = 1

    for size in [(6, 5), (3, 3), (7, 9), (12, 4), (1, 1)]:
        torch.testing.assert_close(layer.response(*size), torch.ones(2, size[0], size[1] // 2 + 1) + 0j)


def test_a_shifting_response_shifts_on_any_grid() -> None:
    """exp(-2 pi i k / 5) delays by one of 5 columns, and by the same one column on a grid of 8."""
    layer = GlobalLocalFilter(2, grid=(4, 5))
    turns = torch.exp(-2j * torch.pi * torch.arange(3) / 5)
    with torch.no_grad():
        layer.response_chw2.copy_(torch.view_as_real(turns.expand(1, 4, 3).contiguous()))
    x = torch.randn(1, 1, 3, 8)

    shifted = torch.fft.irfft2(torch.fft.rfft2(x) * layer.response(3, 8), s=(3, 8))

    torch.testing.assert_close(shifted, x.roll(1, dims=3), rtol=1e-5, atol=1e-5)


def test_the_global_half_sees_the_whole_grid_and_the_local_half_its_neighbours() -> None:
    torch.manual_seed(0)
    layer = GlobalLocalFilter(2, grid=(9, 9))
    # Without the last norm, which mixes the halves.
    layer.norm_out = nn.Identity()  # type: ignore[assignment]  # a stand-in
    x = torch.randn(1, 2, 9, 9, requires_grad=True)

    (of_local,) = torch.autograd.grad(layer(x)[0, 0, 4, 4], x, retain_graph=True)
    (of_global,) = torch.autograd.grad(layer(x)[0, 1, 4, 4], x)

    assert int((of_local[0].abs().sum(dim=0) > 0).sum()) == 9
    assert int((of_global[0].abs().sum(dim=0) > 0).sum()) == 81


@pytest.mark.parametrize("size", SIZES)
def test_the_global_local_filter_keeps_any_shape(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = GlobalLocalFilter(6)
    x = torch.randn(2, 6, *size)

    assert layer(x).shape == x.shape
    assert layer.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


def test_an_odd_number_of_channels_has_no_halves() -> None:
    with pytest.raises(ValueError, match="splits its channels in halves, got 7"):
        GlobalLocalFilter(7)
