"""Tests of frequency tables: what is accepted, and what the builders make."""

import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from framevault.codecs.entropy.reference import flag_context
from framevault.codecs.entropy.tables import (
    NUM_FLAG_CONTEXTS,
    TOTAL,
    FlagTable,
    FrequencyTables,
    flag_contexts,
    flag_table_from_examples,
    gaussian_tables,
    tables_from_pmf,
)

ROWS = [[0, 1, 65536, 65536], [0, 20000, 40000, 65536]]


def tensors(
    *, rows: list[list[int]] = ROWS, lengths: tuple[int, ...] = (3, 4), offsets: tuple[int, ...] = (-1, 7)
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.tensor(rows, dtype=torch.int32),
        torch.tensor(lengths, dtype=torch.int32),
        torch.tensor(offsets, dtype=torch.int32),
    )


def probabilities(tables: FrequencyTables, number: int) -> list[float]:
    """Return what a table gives each interval, the escape last."""
    used = tables.cumulative[number, : tables.lengths[number]]
    return [float(width) / TOTAL for width in np.diff(used)]


def test_tables_survive_the_way_through_tensors_and_pickle() -> None:
    tables = FrequencyTables.from_tensors(*tensors())

    again = pickle.loads(pickle.dumps(FrequencyTables.from_tensors(*tables.to_tensors())))

    assert again.num_tables == 2
    for one, other in zip(again.to_tensors(), tensors(), strict=True):
        assert one.dtype == torch.int32
        assert torch.equal(one, other)


def test_a_row_may_be_nothing_but_an_escape_and_there_may_be_256() -> None:
    tables = FrequencyTables.from_tensors(*tensors(rows=[[0, 65536]] * 256, lengths=(2,) * 256, offsets=(0,) * 256))

    assert tables.num_tables == 256


def test_checked_tables_cannot_be_written() -> None:
    cumulative, lengths, offsets = (tensor.numpy() for tensor in tensors())
    tables = FrequencyTables(cumulative=cumulative, lengths=lengths, offsets=offsets)

    cumulative[0, 1] = 99

    assert tables.cumulative[0, 1] == 1
    for array in (tables.cumulative, tables.lengths, tables.offsets, tables.rows, tables.starts, tables.lookup):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (tensors(rows=[[0, 1, 65536, 65536], [0, 5, 5, 65536]]), "table 1 must rise from 0 to 65536"),
        (tensors(rows=[[0, 1, 65536, 65536], [0, 9, 5, 65536]]), "table 1 must rise"),
        (tensors(rows=[[1, 2, 65536, 65536], ROWS[1]]), "table 0 must rise"),
        (tensors(rows=[[0, 1, 65535, 65536], ROWS[1]]), "table 0 must rise"),
        (tensors(rows=[[0, 1, 65536, 0], ROWS[1]]), "table 0 must be padded with 65536"),
        (tensors(rows=[[-(2**31), 1, 65536, 65536], ROWS[1]]), "table 0 must rise"),
        (tensors(lengths=(3, 1)), "table 1 must use 2 to 4 entries, got 1"),
        (tensors(lengths=(3, 5)), "table 1 must use 2 to 4 entries, got 5"),
        (tensors(lengths=(-3, 4)), "table 0 must use 2 to 4 entries, got -3"),
        (tensors(offsets=(0, 2**31 - 1)), "table 1 must have int32 symbols"),
        (tensors(lengths=(3,), offsets=(0,)), r"int32 \[K, L\], \[K\] and \[K\]"),
        (tensors(rows=[], lengths=(), offsets=()), r"int32 \[K, L\]"),
        (tensors(rows=[[0, 65536]] * 257, lengths=(2,) * 257, offsets=(0,) * 257), "1 to 256 frequency tables"),
        ((tensors()[0].long(), *tensors()[1:]), r"int32 \[K, L\].* got int64"),
    ],
)
def test_what_is_no_table_is_named(wrong: tuple[torch.Tensor, torch.Tensor, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrequencyTables.from_tensors(*wrong)


def test_a_row_of_probabilities_leaves_the_rest_to_the_escape() -> None:
    tables = tables_from_pmf([[0.5, 0.25], [0.125]], [-3, 4])

    assert probabilities(tables, 0) == [0.5, 0.25, 0.25]
    assert probabilities(tables, 1) == [0.125, 0.875]
    assert tables.offsets.tolist() == [-3, 4]
    assert tables.lengths.tolist() == [4, 3]


def test_improbable_symbols_and_a_sure_row_still_have_an_interval_each() -> None:
    tables = tables_from_pmf([[1.0, 0.0, 1e-30], [1e-9] * 60000], [0, 0])

    assert probabilities(tables, 0) == [65533 / 65536, 1 / 65536, 1 / 65536, 1 / 65536]
    assert min(probabilities(tables, 1)) == 1 / 65536
    assert probabilities(tables, 1)[-1] == 5536 / 65536


def test_rounding_to_frequencies_costs_next_to_nothing() -> None:
    random = np.random.default_rng(5)
    pmf = random.dirichlet(np.full(300, 0.3)).tolist()

    rounded = probabilities(tables_from_pmf([pmf], [0]), 0)

    entropy = -sum(p * math.log2(p) for p in pmf if p > 0)
    cost = -sum(p * math.log2(q) for p, q in zip(pmf, rounded, strict=False))
    assert sum(rounded) == 1
    assert cost < entropy * 1.001


@pytest.mark.parametrize(
    "make",
    [
        lambda: tables_from_pmf([[0.5], [0.7, 0.4]], [0, 0]),
        lambda: tables_from_pmf([[0.5], [-0.1]], [0, 0]),
        lambda: tables_from_pmf([[0.5], [math.nan]], [0, 0]),
        lambda: tables_from_pmf([[0.5], [0.0] * TOTAL], [0, 0]),
    ],
)
def test_a_row_that_holds_no_probabilities_is_named(make: Callable[[], FrequencyTables]) -> None:
    with pytest.raises(ValueError, match="row 1 must be less than 65536 probabilities"):
        make()


def test_each_row_of_probabilities_needs_an_offset() -> None:
    with pytest.raises(ValueError, match="got 2 rows, 1 offsets"):
        tables_from_pmf([[0.5], [0.5]], [0])


def test_gaussian_tables_are_symmetric_and_follow_the_density() -> None:
    scales = [0.11, 1.0, 64.0]

    tables = gaussian_tables(scales)

    for number, scale in enumerate(scales):
        *symbols, escape = probabilities(tables, number)
        middle = len(symbols) // 2
        assert tables.offsets[number] == -middle
        assert symbols[middle] == pytest.approx(math.erf(0.5 / scale / math.sqrt(2)), abs=2 / TOTAL)
        assert symbols == pytest.approx(symbols[::-1], abs=2 / TOTAL)
        assert escape < 0.001
    assert tables.lengths[0] < 8
    assert 400 < tables.lengths[2] < 800


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_none_is_named(scale: float) -> None:
    with pytest.raises(ValueError, match="scale 1 must be positive and finite"):
        gaussian_tables([1.0, scale])


def test_contexts_are_those_of_the_reference() -> None:
    random = np.random.default_rng(3)
    flags, previous = random.random((2, 6, 9)) < 0.4

    contexts = flag_contexts(flags, previous)

    assert contexts.tolist() == [
        [flag_context(flags.tolist(), previous.tolist(), y, x) for x in range(9)] for y in range(6)
    ]


def test_a_flag_table_counts_examples_and_leans_to_the_average_elsewhere() -> None:
    corner = np.zeros((1, 1), np.bool_)
    examples = [(~corner, corner)] * 3 + [(corner, corner)] * 1

    table = flag_table_from_examples(examples, smoothing=2.0)

    average = (3 + 0.5) / (4 + 1)
    assert table.probabilities[0] == round((3 + 2 * average) / (4 + 2) * TOTAL)
    assert table.probabilities[1:].tolist() == [round(average * TOTAL)] * (NUM_FLAG_CONTEXTS - 1)


def test_a_flag_that_was_never_set_can_still_be_coded() -> None:
    never = np.zeros((200, 200), np.bool_)

    table = flag_table_from_examples([(never, never)] * 10)

    assert table.probabilities[0] == 1
    assert torch.equal(FlagTable.from_tensor(table.to_tensor()).to_tensor(), table.to_tensor())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(512, dtype=torch.int32), "context 0 must be in 1..65535, got 0"),
        (torch.full((512,), 65536, dtype=torch.int32), "context 0 must be in 1..65535, got 65536"),
        (torch.ones(511, dtype=torch.int32), r"int32 \[512\], got int32 \(511,\)"),
        (torch.ones(512), r"int32 \[512\], got float32"),
    ],
)
def test_what_is_no_flag_table_is_named(wrong: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlagTable.from_tensor(wrong)


def test_examples_without_flags_make_no_table() -> None:
    with pytest.raises(ValueError, match="at least one flag"):
        flag_table_from_examples([])
    with pytest.raises(ValueError, match="smoothing must be positive"):
        flag_table_from_examples([], smoothing=0)
