"""Symbols of latents that lie around their means: cases worked out by hand, and what is coded again."""

import numpy as np
import pytest
import torch

from framevault.codecs.dicm.layouts import VIDEO_LAYOUTS
from framevault.codecs.dicm.quantising import Quantiser
from framevault.codecs.entropy.latents import MEAN_STEPS, SYMBOL_LIMIT
from framevault.codecs.entropy.tables import FrequencyTables
from tests.codecs.dicm.toy import toy_tables

TABLES = FrequencyTables(
    cumulative=np.array(
        [
            [0, 16380, 49148, 65532, 65536],
            [0, 20000, 40000, 60000, 65536],
            [0, 65532, 65536, 65536, 65536],
            [0, 65532, 65536, 65536, 65536],
        ],
        np.int32,
    ),
    lengths=np.array([5, 5, 3, 3], np.int32),
    offsets=np.array([-1, -1, 0, 1], np.int32),
)
"""0 is twice as likely as 1; as likely; all but sure, and 1 an escape; an escape, and 1 all but sure."""

PULLS = sorted({layout.pull16 for layout in VIDEO_LAYOUTS.values()})


@pytest.mark.parametrize(
    ("pull16", "least_one"),
    [
        (0, [0.5, 0.5, 0.5, 0.5]),
        # A symbol of 1 stands for 13 sixteenths, and a bit is worth 0.03 squared steps:
        # 0.8125 / 2 + 0.03 * 1 / (2 * 0.8125), and the same of log2(16383) bits.
        (3, [0.42471154, 0.40625, 0.66470988, 0.40625]),
    ],
)
def test_what_is_taken_for_the_mean_follows_what_it_saves(pull16: int, least_one: list[float]) -> None:
    """Where latents are pulled. Never less than what is nearer to the mean."""
    quantiser = Quantiser.for_tables(TABLES, pull16=pull16)

    assert quantiser.least_one_k.tolist() == pytest.approx(least_one)


@pytest.mark.parametrize(
    ("pull16", "table", "changes", "symbols"),
    [
        (0, 0, [0.49, 0.5, 1.49, 1.5, 2.49, 2.5], [0, 1, 1, 2, 2, 3]),
        (0, 2, [0.49, 0.5, 1000.3], [0, 1, 1000]),
        (3, 0, [0.42, 0.43, 1.41, 1.42, 2.41, 2.42], [0, 1, 1, 2, 2, 3]),
        (3, 2, [0.66, 0.67, 1000.3], [0, 1, 1000]),
        (3, 3, [0.40, 0.41], [0, 1]),
    ],
)
def test_symbols_are_those_of_the_thresholds_on_either_side(
    pull16: int, table: int, changes: list[float], symbols: list[int]
) -> None:
    quantiser = Quantiser.for_tables(TABLES, pull16=pull16)
    change, index = torch.tensor(changes), torch.full((len(changes),), table)

    assert quantiser.symbols(change, index).tolist() == symbols
    assert quantiser.symbols(-change, index).tolist() == [-symbol for symbol in symbols]


def test_symbols_have_a_limit() -> None:
    quantiser = Quantiser.for_tables(TABLES, pull16=3)

    symbols = quantiser.symbols(torch.tensor([1e9, -1e9]), torch.zeros(2))

    assert symbols.tolist() == [SYMBOL_LIMIT, -SYMBOL_LIMIT] == [2**19, -(2**19)]


@pytest.mark.parametrize(
    ("pull16", "expected"), [(0, [-27, -11, 5, 21, 37, 16 * 2**19 + 5]), (3, [-24, -8, 5, 18, 34, 16 * 2**19 + 2])]
)
def test_symbols_stand_for_sixteenths_that_are_pulled_towards_the_mean(pull16: int, expected: list[int]) -> None:
    """Without a pull, for 16 times themselves and the mean."""
    quantiser = Quantiser.for_tables(TABLES, pull16=pull16)
    symbols, mean16 = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 2.0**19]), torch.full((6,), 5.0)

    assert quantiser.latents16(symbols, mean16).tolist() == expected


@pytest.mark.parametrize("pull16", PULLS)
def test_what_was_decoded_is_coded_again_to_the_same_symbols(pull16: int) -> None:
    """By whatever table, also where a symbol is an escape: thinned streams are made so."""
    for tables in (TABLES, toy_tables()[1]):
        quantiser = Quantiser.for_tables(tables, pull16=pull16)
        symbols_ks = torch.arange(-50.0, 51.0).expand(tables.num_tables, -1)
        index_ks = torch.arange(tables.num_tables)[:, None].expand_as(symbols_ks)

        latent16_ks = quantiser.latents16(symbols_ks, torch.zeros_like(symbols_ks))

        assert torch.equal(quantiser.symbols(latent16_ks * (1 / MEAN_STEPS), index_ks), symbols_ks)
