"""Layers of whole numbers against Python's integers."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from framevault.codecs.entropy.integer import (
    LARGEST_SHIFT,
    SUM_LIMIT,
    WEIGHT_LIMIT,
    IntConv2d,
    check_exact_matmul,
    check_layers,
    shuffle_up,
)
from tests.codecs.allocations import LargestTensor

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    """Leave the process as it was."""
    yield
    torch.set_float32_matmul_precision("highest")


def make_layer(weight: Tensor, bias: Tensor, shift: Tensor, *, limit: int, low: int, high: int) -> IntConv2d:
    layer = IntConv2d(
        weight.shape[1], weight.shape[0], kernel_size=weight.shape[2], input_limit=limit, low=low, high=high
    )
    layer.load_integers(weight, bias, shift)
    return layer


def in_python(layer: IntConv2d, x_nchw: Tensor) -> list[int]:
    """Return the layer's output, flattened, from its stored integers in Python's own."""
    weight, bias, shift = (tensor.tolist() for tensor in layer.to_integers())
    n, channels, height, width = x_nchw.shape
    k = layer.kernel_size
    x = x_nchw.long().tolist()

    def at(frame: int, channel: int, row: int, column: int) -> int:
        return int(x[frame][channel][row][column]) if 0 <= row < height and 0 <= column < width else 0

    def value(frame: int, o: int, row: int, column: int) -> int:
        total = int(bias[o]) + sum(
            int(weight[o][i][a][b]) * at(frame, i, row + a - k // 2, column + b - k // 2)
            for i in range(channels)
            for a in range(k)
            for b in range(k)
        )
        dropped = int(shift[o])
        return max(layer.low, min(layer.high, (total + (1 << (dropped - 1))) >> dropped))

    return [
        value(frame, o, row, column)
        for frame in range(n)
        for o in range(len(bias))
        for row in range(height)
        for column in range(width)
    ]


def as_integers(out_nchw: Tensor) -> list[int]:
    values = out_nchw.flatten().tolist()
    assert all(value == int(value) for value in values)
    return [int(value) for value in values]


def extreme_layer(seed: int, *, kernel_size: int, limit: int, shift: int) -> IntConv2d:
    """Make a layer whose sums reach as far as they may: each channel's bound is just below 2^24."""
    random = torch.Generator().manual_seed(seed)
    half = 1 << (shift - 1)
    num_weights = 16 * kernel_size**2
    share = (SUM_LIMIT - 1 - half) // (limit * num_weights)
    weight = torch.full((6, num_weights), min(share, WEIGHT_LIMIT))
    weight *= torch.randint(0, 2, weight.shape, generator=random) * 2 - 1
    weight[0], weight[1] = weight[0].abs(), -weight[1].abs()
    left = SUM_LIMIT - 1 - half - weight.abs().sum(1) * limit
    bias = left * torch.tensor([1, -1, 1, -1, 1, -1])
    return make_layer(
        weight.reshape(6, 16, kernel_size, kernel_size).short(),
        bias.int(),
        torch.full((6,), shift).byte(),
        limit=limit,
        low=-(2**24),
        high=2**24,
    )


@pytest.mark.parametrize("shift", [1, 7, 20])
@pytest.mark.parametrize("limit", [127, 255])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_the_largest_sums_are_python_integers(kernel_size: int, limit: int, shift: int) -> None:
    layer = extreme_layer(3, kernel_size=kernel_size, limit=limit, shift=shift)
    random = torch.Generator().manual_seed(4)
    signs = torch.randint(0, 2, (1, 16, 3, 4), generator=random) * 2.0 - 1
    inputs = torch.cat(
        [torch.full((1, 16, 3, 4), float(limit)), torch.full((1, 16, 3, 4), -float(limit)), signs * limit]
    )

    out = layer(inputs)

    assert as_integers(out) == in_python(layer, inputs)
    assert out.abs().max() >= (2**24 - 2**shift) >> shift


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    kernel_size=st.sampled_from([1, 3, 5]),
    channels=st.tuples(st.integers(1, 7), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    limits=st.sampled_from([(127, 0, 255), (255, -(2**15), 2**15), (255, 0, 63)]),
)
def test_random_layers_are_python_integers(
    seed: int, kernel_size: int, channels: tuple[int, int], size: tuple[int, int], limits: tuple[int, int, int]
) -> None:
    random = torch.Generator().manual_seed(seed)
    limit, low, high = limits
    weight = torch.randint(-300, 301, (channels[1], channels[0], kernel_size, kernel_size), generator=random).short()
    bias = torch.randint(-(2**20), 2**20, (channels[1],), generator=random).int()
    shift = torch.randint(1, LARGEST_SHIFT + 1, (channels[1],), generator=random).byte()
    layer = make_layer(weight, bias, shift, limit=limit, low=low, high=high)
    inputs = torch.randint(-limit, limit + 1, (2, channels[0], *size), generator=random).float()

    assert as_integers(layer(inputs)) == in_python(layer, inputs)


def test_halves_are_rounded_up_on_both_sides_of_zero() -> None:
    layer = make_layer(
        torch.ones(1, 1, 1, 1).short(), torch.zeros(1).int(), torch.tensor([1]).byte(), limit=255, low=-9, high=9
    )

    out = layer(torch.tensor([-5.0, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5]).reshape(1, 1, 1, -1))

    assert as_integers(out) == [-2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3]


def test_outputs_stop_at_their_limits() -> None:
    layer = make_layer(
        torch.full((1, 1, 1, 1), 100).short(), torch.zeros(1).int(), torch.tensor([1]).byte(), limit=255, low=0, high=63
    )

    assert as_integers(layer(torch.tensor([-255.0, -1, 0, 1, 2, 255]).reshape(1, 1, 1, -1))) == [0, 0, 0, 50, 63, 63]


@pytest.mark.parametrize("shift", range(1, LARGEST_SHIFT + 1))
def test_a_layer_gives_back_the_integers_it_was_loaded_with(shift: int) -> None:
    random = torch.Generator().manual_seed(shift)
    weight = torch.randint(-WEIGHT_LIMIT, WEIGHT_LIMIT + 1, (4, 3, 3, 3), generator=random).short()
    bias = torch.randint(-(2**22), 2**22, (4,), generator=random).int()
    shifts = torch.full((4,), shift).byte()
    layer = make_layer(weight, bias, shifts, limit=127, low=0, high=255)

    restored = layer.to_integers()

    assert [tensor.dtype for tensor in restored] == [torch.int16, torch.int32, torch.uint8]
    for expected, got in zip((weight, bias, shifts), restored, strict=True):
        assert torch.equal(expected, got)


def layer_and_integers() -> tuple[IntConv2d, dict[str, Tensor]]:
    layer = IntConv2d(3, 2, kernel_size=3, input_limit=255, low=0, high=255)
    integers = {
        "weight": torch.ones(2, 3, 3, 3).short(),
        "bias": torch.zeros(2).int(),
        "shift": torch.full((2,), 4).byte(),
    }
    return layer, integers


def load(layer: IntConv2d, integers: dict[str, Tensor]) -> None:
    layer.load_integers(integers["weight"], integers["bias"], integers["shift"])


@pytest.mark.parametrize(
    ("part", "tensor", "message"),
    [
        ("weight", torch.ones(2, 3, 3, 1).short(), r"must be \[2, 3, 3, 3\], \[2\], \[2\], got \[\[2, 3, 3, 1\]"),
        ("weight", torch.ones(2, 27).short(), r"must be \[2, 3, 3, 3\]"),
        ("bias", torch.zeros(3).int(), r"got \[\[2, 3, 3, 3\], \[3\], \[2\]\]"),
        ("bias", torch.zeros(2, 1).int(), r"\[2, 1\]"),
        ("shift", torch.ones(1).byte(), r"\[1\]"),
        ("shift", torch.tensor([4, 0]).byte(), r"shifts must be 1 to 20, got \[0, 4\]"),
        ("shift", torch.tensor([21, 4]).byte(), r"shifts must be 1 to 20, got \[4, 21\]"),
        ("weight", torch.full((2, 3, 3, 3), 0.5), r"torch.int16, torch.int32, torch.uint8\], got \[torch.float32"),
        ("weight", torch.ones(2, 3, 3, 3).int(), r"got \[torch.int32"),
        ("bias", torch.zeros(2).long(), r"torch.int64"),
        ("bias", torch.full((2,), float("nan")), r"torch.float32"),
        ("shift", torch.ones(2).char(), r"torch.int8"),
        ("weight", torch.full((2, 3, 3, 3), -(2**15)).short(), r"at most 2047 .* got 32768"),
        ("bias", torch.tensor([0, -(2**31)]).int(), r"below 2\^24, got 1 and 2147490541 in channel 1"),
    ],
)
def test_integers_that_do_not_fit_are_refused(part: str, tensor: Tensor, message: str) -> None:
    layer, integers = layer_and_integers()

    with pytest.raises(ValueError, match=message):
        load(layer, {**integers, part: tensor})


def test_a_weight_may_have_eleven_bits_and_no_more() -> None:
    layer, integers = layer_and_integers()
    integers["weight"][1, 2, 0, 1] = -2047
    load(layer, integers)
    integers["weight"][1, 2, 0, 1] = -2048

    with pytest.raises(ValueError, match=r"weights must be at most 2047 .* got 2048"):
        load(layer, integers)


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_may_reach_just_below_the_limit(sign: int) -> None:
    """One more, and float32 could round."""
    layer, integers = layer_and_integers()
    largest = SUM_LIMIT - 1 - 27 * 255 - 8
    integers["bias"][1] = sign * largest
    load(layer, integers)
    integers["bias"][1] = sign * (largest + 1)

    with pytest.raises(ValueError, match=r"sums below 2\^24, got 1 and 16777216 in channel 1"):
        load(layer, integers)


def test_a_refused_load_leaves_the_layer_as_it_was() -> None:
    layer, integers = layer_and_integers()
    load(layer, integers)

    with pytest.raises(ValueError, match="shifts"):
        load(layer, {**integers, "weight": 2 * integers["weight"], "shift": torch.zeros(2).byte()})

    assert torch.equal(layer.to_integers()[0], integers["weight"])


def test_shuffling_gives_each_of_four_channels_a_corner() -> None:
    out = shuffle_up(torch.arange(8.0).reshape(1, 8, 1, 1))

    assert out.tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]


def test_a_fresh_process_multiplies_exactly() -> None:
    check_exact_matmul(CPU)


def set_matmul_precision(precision: str) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = precision  # type: ignore[attr-defined]  # torch's stub lacks it


@pytest.mark.parametrize(
    ("switch", "found"),
    [
        (lambda: torch.set_float32_matmul_precision("high"), "tf32"),
        (lambda: torch.set_float32_matmul_precision("medium"), "bf16"),
        (lambda: set_matmul_precision("tf32"), "tf32"),
        (lambda: set_matmul_precision("bf16"), "bf16"),
    ],
)
def test_faster_matrix_products_are_refused_whatever_switched_them_on(switch: Callable[[], None], found: str) -> None:
    switch()

    with pytest.raises(RuntimeError, match=rf"exact float32 .* precision '{found}': call .*\('highest'\)"):
        check_exact_matmul(CPU)

    torch.set_float32_matmul_precision("highest")
    check_exact_matmul(CPU)


def test_autocast_is_refused() -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match=r"'cpu' with precision .* autocast"):
        check_exact_matmul(CPU)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_layer_notices_sums_that_are_not_exact(kernel_size: int) -> None:
    layer = make_layer_for_check(kernel_size)
    layer.check()

    real_matmul = torch.matmul

    def coarse(a: Tensor, b: Tensor) -> Tensor:
        """Do as a device that multiplies in bfloat16: eight bits of each weight are left."""
        return real_matmul(a.bfloat16().float(), b)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.matmul", coarse)
        with pytest.raises(RuntimeError, match=r"layer 0: \d+ of 36 sums on cpu are not exact"):
            check_layers(nn.Sequential(layer))


def make_layer_for_check(kernel_size: int) -> IntConv2d:
    """Return a layer of four outputs with weights of all magnitudes."""
    layer = IntConv2d(5, 4, kernel_size=kernel_size, input_limit=127, low=-1000, high=1000)
    random = torch.Generator().manual_seed(0)
    weight = torch.randint(-900, 900, (4, 5, kernel_size, kernel_size), generator=random)
    layer.load_integers(weight.short(), torch.tensor([5, -7, 0, 9], dtype=torch.int32), torch.full((4,), 8).byte())
    return layer


def test_checking_a_wide_layer_takes_no_more_memory_than_its_weights() -> None:
    """A checkpoint may come from anyone, and the products of all weights and inputs are many times as large."""
    layer = IntConv2d(1500, 700, kernel_size=1, input_limit=1, low=-1000, high=1000)
    layer.weight[::2] = 3

    with LargestTensor() as largest:
        layer.check()

    assert largest.size_bytes <= layer.weight.nbytes
    layer.weight[-1] = 0.5
    with pytest.raises(RuntimeError, match=r"\d of 6300 sums on cpu are not exact"):
        layer.check()
