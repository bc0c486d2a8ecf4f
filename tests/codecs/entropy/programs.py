"""What may be pushed into a stream, at random: symbols with any tables, and flags. And both coders run on it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from framevault.codecs.entropy.tables import (
    NUM_FLAG_CONTEXTS,
    TOTAL,
    BoolArray,
    FlagTable,
    FrequencyTables,
    Int32Array,
    Uint8Array,
    gaussian_tables,
)

SCALES = np.geomspace(0.11, 64, 64)
"""Of Gaussian tables as codecs have them."""

INT32 = st.integers(-(2**31), 2**31 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedSymbols:
    symbols: Int32Array
    numbers: Uint8Array
    tables: FrequencyTables
    skip_below: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedFlags:
    flags_hw: BoolArray
    previous_hw: BoolArray
    table: FlagTable


Program = list[PushedSymbols | PushedFlags]


class Encoder(Protocol):
    def push(
        self, symbols: Int32Array, table_numbers: Uint8Array, tables: FrequencyTables, *, skip_below: int = 0
    ) -> None: ...

    def push_flags(self, flags_hw: BoolArray, previous_hw: BoolArray, table: FlagTable) -> None: ...

    def finish(self) -> bytes: ...


class Decoder(Protocol):
    def pull(self, table_numbers: Uint8Array, tables: FrequencyTables, *, skip_below: int = 0) -> npt.ArrayLike: ...

    def pull_flags(self, previous_hw: BoolArray, table: FlagTable) -> npt.ArrayLike: ...

    def finish(self) -> None: ...


def encode(encoder: Encoder, program: Program) -> bytes:
    """Push everything."""
    for item in program:
        if isinstance(item, PushedSymbols):
            encoder.push(item.symbols, item.numbers, item.tables, skip_below=item.skip_below)
        else:
            encoder.push_flags(item.flags_hw, item.previous_hw, item.table)
    return encoder.finish()


def decode(decoder: Decoder, program: Program) -> list[list[int]]:
    """Pull all that a program pushes, flattened."""
    pulled = [
        decoder.pull(item.numbers, item.tables, skip_below=item.skip_below)
        if isinstance(item, PushedSymbols)
        else decoder.pull_flags(item.previous_hw, item.table)
        for item in program
    ]
    decoder.finish()
    return [np.asarray(values).astype(np.int64).ravel().tolist() for values in pulled]


def contents(program: Program) -> list[list[int]]:
    """Return what `decode` should."""
    return [
        (item.symbols if isinstance(item, PushedSymbols) else item.flags_hw).astype(np.int64).ravel().tolist()
        for item in program
    ]


def typical_symbols(seed: int, *, num_symbols: int, mean_index: float = 20, skip_below: int = 0) -> PushedSymbols:
    """Make symbols like a codec's: zero-mean Gaussians of mixed scales."""
    random = np.random.default_rng(seed)
    numbers = np.minimum(random.exponential(mean_index, num_symbols), len(SCALES) - 1).astype(np.uint8)
    symbols = np.rint(random.normal(0, SCALES[numbers])).astype(np.int32)
    symbols[numbers < skip_below] = 0
    return PushedSymbols(
        symbols=symbols, numbers=numbers, tables=gaussian_tables(SCALES.tolist()), skip_below=skip_below
    )


def typical_flags(seed: int, *, height: int = 30, width: int = 40) -> PushedFlags:
    """Make two maps of flags that resemble each other, and probabilities at random."""
    random = np.random.default_rng(seed)
    previous_hw = random.random((height, width)) < 0.2
    flags_hw = previous_hw ^ (random.random((height, width)) < 0.05)
    table = FlagTable(probabilities=random.integers(1, TOTAL, NUM_FLAG_CONTEXTS).astype(np.int32))
    return PushedFlags(flags_hw=flags_hw, previous_hw=previous_hw, table=table)


@st.composite
def frequency_tables(draw: st.DrawFn) -> FrequencyTables:
    """Draw any tables: a few rows, some with no symbols of their own, with one, or with all of 65535."""
    inner = st.sets(st.integers(1, TOTAL - 1), max_size=12) | st.just(set(range(1, 300)))
    rows = [[0, *sorted(draw(inner)), TOTAL] for _ in range(draw(st.integers(1, 4)))]
    longest = max(len(row) for row in rows)
    highest = [2**31 - 1 - max(0, len(row) - 3) for row in rows]
    offsets = [draw(st.integers(-20, 5) | st.integers(-(2**31), limit)) for limit in highest]
    return FrequencyTables(
        cumulative=np.array([row + [TOTAL] * (longest - len(row)) for row in rows], np.int32),
        lengths=np.array([len(row) for row in rows], np.int32),
        offsets=np.array(offsets, np.int32),
    )


@st.composite
def pushed_symbols(draw: st.DrawFn) -> PushedSymbols:
    """Draw symbols, near their tables' own or any."""
    tables = draw(frequency_tables())
    skip_below = draw(st.integers(0, tables.num_tables))
    numbers = draw(st.lists(st.integers(0, tables.num_tables - 1), max_size=30))
    symbols = []
    for number in numbers:
        near = int(tables.offsets[number]) + draw(st.integers(-3, int(tables.lengths[number])))
        symbol = draw(st.just(min(max(near, -(2**31)), 2**31 - 1)) | INT32)
        symbols.append(0 if number < skip_below else symbol)
    return PushedSymbols(
        symbols=np.array(symbols, np.int32),
        numbers=np.array(numbers, np.uint8),
        tables=tables,
        skip_below=skip_below,
    )


@st.composite
def pushed_flags(draw: st.DrawFn) -> PushedFlags:
    """Draw flags of any size, empty ones too, with any probabilities."""
    height, width = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    bits = st.lists(st.booleans(), min_size=height * width, max_size=height * width)
    ends = draw(st.sampled_from([(1, 2), (TOTAL - 1, TOTAL), (1, TOTAL)]))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    return PushedFlags(
        flags_hw=np.array(draw(bits), np.bool_).reshape(height, width),
        previous_hw=np.array(draw(bits), np.bool_).reshape(height, width),
        table=FlagTable(probabilities=random.integers(*ends, NUM_FLAG_CONTEXTS).astype(np.int32)),
    )


programs: st.SearchStrategy[Program] = st.lists(pushed_symbols() | pushed_flags(), max_size=5)
