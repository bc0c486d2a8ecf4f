"""From trained layers to integers: the same outputs, always within the bound, and a gradient."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from framevault.codecs.entropy.integer import LARGEST_SHIFT, SUM_LIMIT, WEIGHT_LIMIT, IntConv2d
from framevault.codecs.entropy.quantisation import IntegerLayer, RoundedConv2d, convert, quantise


def trained_layer(
    seed: int, *, kernel_size: int, spread: float, channels: tuple[int, int] = (5, 4), limit: int = 255
) -> RoundedConv2d:
    random = torch.Generator().manual_seed(seed)
    layer = RoundedConv2d(*channels, kernel_size=kernel_size, input_limit=limit, low=-(2**15), high=2**15)
    with torch.no_grad():
        layer.conv.weight.normal_(0, spread, generator=random)
        assert layer.conv.bias is not None
        layer.conv.bias.normal_(0, 100 * spread, generator=random)
    return layer


def running_layer(trained: RoundedConv2d) -> IntConv2d:
    conv = trained.conv
    layer = IntConv2d(
        conv.in_channels,
        conv.out_channels,
        kernel_size=conv.kernel_size[0],
        input_limit=trained.input_limit,
        low=trained.low,
        high=trained.high,
    )
    convert(nn.ModuleList([trained]), nn.ModuleList([layer]))
    return layer


def worst_sums(layer: IntegerLayer, limit: int) -> list[int]:
    """Return how far each channel's sums can reach, in Python's integers."""
    return [
        sum(abs(value) for value in weight) * limit + abs(bias) + (1 << (shift - 1))
        for weight, bias, shift in zip(
            layer.weight_oikk.flatten(1).tolist(), layer.bias_o.tolist(), layer.shift_o.tolist(), strict=True
        )
    ]


layers = {
    "seed": st.integers(0, 2**32),
    "kernel_size": st.sampled_from([1, 3]),
    "spread": st.floats(-12, 6).map(lambda exponent: 2.0**exponent),
    "channels": st.tuples(st.integers(1, 40), st.integers(1, 6)),
    "limit": st.sampled_from([127, 255]),
}


@settings(max_examples=80)
@given(**layers)
def test_exact_mode_computes_what_the_integer_layer_computes(
    seed: int, kernel_size: int, spread: float, channels: tuple[int, int], limit: int
) -> None:
    trained = trained_layer(seed, kernel_size=kernel_size, spread=spread, channels=channels, limit=limit)
    trained.is_exact = True
    random = torch.Generator().manual_seed(seed + 1)
    inputs = torch.randint(-limit, limit + 1, (2, channels[0], 4, 5), generator=random).float()

    assert torch.equal(trained(inputs), running_layer(trained)(inputs))


@settings(max_examples=100)
@given(**layers)
def test_the_bound_holds_and_the_step_is_the_finest_that_keeps_it(
    seed: int, kernel_size: int, spread: float, channels: tuple[int, int], limit: int
) -> None:
    trained = trained_layer(seed, kernel_size=kernel_size, spread=spread, channels=channels, limit=limit)

    layer = trained.to_integers()

    assert max(worst_sums(layer, limit)) < SUM_LIMIT
    assert layer.weight_oikk.abs().max() <= WEIGHT_LIMIT
    assert trained.conv.bias is not None
    for weight, bias, shift in zip(
        trained.conv.weight.tolist(), trained.conv.bias.tolist(), layer.shift_o.tolist(), strict=True
    ):
        if shift < LARGEST_SHIFT:
            finer = (torch.tensor(weight).double() * 2.0 ** (shift + 1)).round()
            reach = float(finer.abs().sum()) * limit + abs(round(bias * 2.0 ** (shift + 1))) + 2**shift
            assert finer.abs().max() > WEIGHT_LIMIT or reach >= SUM_LIMIT


@settings(max_examples=50)
@given(**layers)
def test_weights_are_rounded_to_the_nearest_step(
    seed: int, kernel_size: int, spread: float, channels: tuple[int, int], limit: int
) -> None:
    trained = trained_layer(seed, kernel_size=kernel_size, spread=spread, channels=channels, limit=limit)

    layer = trained.to_integers()

    step_o = 2.0 ** -layer.shift_o.double()
    error = (layer.weight_oikk * step_o[:, None, None, None] - trained.conv.weight.detach().double()).abs()
    assert bool((error <= step_o[:, None, None, None] / 2).all())


def test_every_channel_has_a_step_of_its_own() -> None:
    weight = torch.tensor([100.0, 1.0, 0.001])[:, None, None, None]

    layer = quantise(weight, torch.zeros(3), input_limit=255)

    assert layer.shift_o.tolist() == [4, 10, 20]
    assert layer.weight_oikk.flatten().tolist() == [1600, 1024, 1049]


def test_a_channel_of_zeros_is_zeros() -> None:
    layer = quantise(torch.zeros(2, 3, 1, 1), torch.zeros(2), input_limit=255)

    assert not layer.weight_oikk.any()
    assert not layer.bias_o.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_values_that_are_no_numbers_are_refused_by_channel(part: str, value: float) -> None:
    tensors = {"weight": torch.ones(4, 2, 3, 3), "bias": torch.zeros(4)}
    tensors[part][2] = value

    with pytest.raises(ValueError, match="output channel 2 has a weight or bias that is no number"):
        quantise(tensors["weight"], tensors["bias"], input_limit=255)


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        pytest.param(1024.0, 0.0, id="a weight beyond eleven bits"),
        pytest.param(600.0, 0.0, id="a sum of weights"),
        pytest.param(0.0, 2.0**23, id="a bias"),
        pytest.param(3e38, -3e38, id="the largest floats"),
    ],
)
def test_weights_that_are_too_large_are_refused_by_channel(weight: float, bias: float) -> None:
    weights, biases = torch.ones(4, 64, 1, 1), torch.zeros(4)
    weights[1], biases[1] = weight, bias

    with pytest.raises(ValueError, match="the weights of output channel 1 are too large for exact sums"):
        quantise(weights, biases, input_limit=255)


def test_conversion_names_the_layer() -> None:
    trained = nn.ModuleDict(
        {"hidden": trained_layer(0, kernel_size=1, spread=1), "out": trained_layer(1, kernel_size=1, spread=1)}
    )
    running = nn.ModuleDict({"hidden": IntConv2d(5, 4, kernel_size=1, input_limit=255, low=0, high=1)})
    running["out"] = IntConv2d(5, 4, kernel_size=1, input_limit=255, low=0, high=1)
    out = trained["out"]
    assert isinstance(out, RoundedConv2d)
    out.conv.weight.data[3, 1] = float("nan")

    with pytest.raises(ValueError, match=re.escape("layer out: output channel 3 has")):
        convert(trained, running)


@pytest.mark.parametrize("is_exact", [False, True])
def test_the_gradient_is_that_of_the_unrounded_layer(is_exact: bool) -> None:
    trained = trained_layer(5, kernel_size=3, spread=0.1)
    trained.is_exact = is_exact
    inputs = torch.randint(-255, 256, (2, 5, 6, 7)).float()
    outward = torch.randn(2, 4, 6, 7)

    def gradients(out: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad((out * outward).sum(), list(trained.parameters())))

    for got, expected in zip(gradients(trained(inputs)), gradients(trained.conv(inputs)), strict=True):
        torch.testing.assert_close(got, expected)
        assert got.abs().min() > 0


def test_the_gradient_reaches_the_inputs() -> None:
    trained = trained_layer(6, kernel_size=1, spread=0.1)
    inputs = torch.randint(-255, 256, (1, 5, 3, 3)).float().requires_grad_()

    trained(inputs).sum().backward()

    assert inputs.grad is not None
    assert bool((inputs.grad != 0).all())


def test_outputs_are_whole_numbers_in_training_too() -> None:
    out = trained_layer(7, kernel_size=3, spread=0.3)(torch.randint(-255, 256, (2, 5, 6, 7)).float())

    assert torch.equal(out, out.round())


def test_clamped_outputs_pass_no_gradient() -> None:
    trained = RoundedConv2d(1, 1, kernel_size=1, input_limit=255, low=0, high=63)
    with torch.no_grad():
        trained.conv.weight.fill_(1)
    inputs = torch.tensor([-9.0, 30.0, 200.0]).reshape(1, 1, 1, 3).requires_grad_()

    trained(inputs).sum().backward()

    assert inputs.grad is not None
    assert inputs.grad.flatten().tolist() == [0, 1, 0]
