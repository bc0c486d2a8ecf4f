"""Frequency tables: what the coder knows about the symbols it codes. Integers; made once, after training.

A table cuts the numbers 0..65535 into intervals. All but the last stand for one symbol each, in rising order; the last
one says that the symbol is none of them and follows in another form. An interval's width is its symbol's frequency.
Letters in shapes: K tables, L entries of the longest; h and w positions of a map of flags.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

TOTAL = 1 << 16
"""Frequencies of a table add up to this."""
MOST_TABLES = 256
"""A symbol's table is numbered by a uint8."""
NUM_FLAG_CONTEXTS = 512
"""Nine neighbours in space and time that are set or not."""

_LOOKUP_STEP = 256
_SHORTEST_ROW = 2
_INT32 = np.iinfo(np.int32)

Int32Array = npt.NDArray[np.int32]
"""Symbols, cumulative frequencies and the like."""
Uint8Array = npt.NDArray[np.uint8]
"""Numbers of tables."""
BoolArray = npt.NDArray[np.bool_]
"""Flags."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrequencyTables:
    """The tables of a kind of symbols, checked. Thread-safe; pickles.

    Raises:
        ValueError: They are no frequency tables; the message names the row.
    """

    cumulative: Int32Array
    """Where each interval starts, int32 [K, L]: a row rises from 0 to 65536 over its used entries; 65536 after them."""
    lengths: Int32Array
    """Entries used of each row, int32 [K]: one more than intervals, the escape's among them."""
    offsets: Int32Array
    """The symbol of each row's first interval, int32 [K]."""
    rows: Int32Array = field(init=False, repr=False)
    """Where each table's entries begin in `starts`, int32 [K + 1]. For the kernels."""
    starts: npt.NDArray[np.uint32] = field(init=False, repr=False)
    """The used entries of all rows, one row after the other. For the kernels."""
    lookup: npt.NDArray[np.uint16] = field(init=False, repr=False)
    """The interval that holds the first of each 256 slots, uint16 [K, 256]. For the kernels."""

    def __post_init__(self) -> None:
        """Check, and lay the entries out for the kernels; from here on nothing can be written."""
        _check_tables(self.cumulative, self.lengths, self.offsets)
        used = np.arange(self.cumulative.shape[1]) < self.lengths[:, None]
        slots = np.arange(0, TOTAL, _LOOKUP_STEP)
        lookup = [np.searchsorted(row, slots, side="right") - 1 for row in self.cumulative]
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "cumulative": self.cumulative.copy(),
            "lengths": self.lengths.copy(),
            "offsets": self.offsets.copy(),
            "rows": np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int32),
            "starts": self.cumulative[used].astype(np.uint32),
            "lookup": np.array(lookup, np.uint16),
        }
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_tensors(cls, cumulative: Tensor, lengths: Tensor, offsets: Tensor) -> "FrequencyTables":
        """Take the int32 tensors of a checkpoint: [K, L], [K] and [K].

        Raises:
            ValueError: They are no frequency tables; the message names the row.
        """
        arrays = [tensor.detach().cpu().numpy() for tensor in (cumulative, lengths, offsets)]
        return cls(cumulative=arrays[0], lengths=arrays[1], offsets=arrays[2])

    def to_tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return cumulative, lengths and offsets, as `from_tensors` takes them."""
        cumulative, lengths, offsets = (
            torch.from_numpy(array.copy()) for array in (self.cumulative, self.lengths, self.offsets)
        )
        return cumulative, lengths, offsets

    @property
    def num_tables(self) -> int:
        """K."""
        return len(self.lengths)


def _check_tables(cumulative: Int32Array, lengths: Int32Array, offsets: Int32Array) -> None:
    """Raise ValueError unless these are frequency tables."""
    shapes = f"{cumulative.dtype} {cumulative.shape}, {lengths.dtype} {lengths.shape}, {offsets.dtype} {offsets.shape}"
    fits = cumulative.ndim == 2 and lengths.shape == offsets.shape == cumulative.shape[:1]
    if not fits or not {cumulative.dtype, lengths.dtype, offsets.dtype} == {np.dtype(np.int32)}:
        raise ValueError(f"frequency tables must be int32 [K, L], [K] and [K], got {shapes}")
    if not 1 <= len(cumulative) <= MOST_TABLES:
        raise ValueError(f"there must be 1 to {MOST_TABLES} frequency tables, got {len(cumulative)}")
    for number, (row, length, offset) in enumerate(zip(cumulative, lengths.tolist(), offsets.tolist(), strict=True)):
        if not _SHORTEST_ROW <= length <= len(row):
            raise ValueError(f"frequency table {number} must use 2 to {len(row)} entries, got {length}")
        used = row[:length].astype(np.int64)
        if used[0] != 0 or used[-1] != TOTAL or np.any(np.diff(used) < 1):
            raise ValueError(f"frequency table {number} must rise from 0 to {TOTAL}, got {_shown(used)}")
        if np.any(row[length:] != TOTAL):
            raise ValueError(f"frequency table {number} must be padded with {TOTAL}, got {_shown(row[length:])}")
        if offset + length - _SHORTEST_ROW - 1 > _INT32.max:
            raise ValueError(f"frequency table {number} must have int32 symbols, got offset {offset}, length {length}")


def _shown(values: npt.NDArray[np.int64] | Int32Array) -> str:
    return np.array2string(values, threshold=8, edgeitems=3, separator=", ")


def tables_from_pmf(rows: Sequence[Sequence[float]], offsets: Sequence[int]) -> FrequencyTables:
    """Make tables from probabilities, for use after training; what a row lacks to 1 is the escape's.

    Frequencies are the integers of at least 1 that lose the fewest bits.

    Args:
        rows: A row a table: the probabilities of consecutive symbols.
        offsets: The symbol of each row's first probability.

    Raises:
        ValueError: A row holds something else than probabilities; the message names it.
    """
    if len(rows) != len(offsets):
        raise ValueError(f"every row of probabilities needs an offset, got {len(rows)} rows, {len(offsets)} offsets")
    cumulative = [_accumulate(number, row) for number, row in enumerate(rows)]
    longest = max((len(row) for row in cumulative), default=0)
    return FrequencyTables(
        cumulative=np.array([row + [TOTAL] * (longest - len(row)) for row in cumulative], np.int32).reshape(
            len(rows), longest
        ),
        lengths=np.array([len(row) for row in cumulative], np.int32),
        offsets=np.array(offsets, np.int32),
    )


def gaussian_tables(scales: Sequence[float]) -> FrequencyTables:
    """Make a table a scale, for symbols that are rounded differences from their mean.

    A table has the symbols whose probability is worth an interval of its own, at least half a 65536th, and 0.

    Raises:
        ValueError: A scale is not positive and finite.
    """
    rows = [_gaussian_pmf(number, scale) for number, scale in enumerate(scales)]
    return tables_from_pmf(rows, [-(len(row) // 2) for row in rows])


def _gaussian_pmf(number: int, scale: float) -> list[float]:
    """Return the probabilities of -n..n."""
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale {number} must be positive and finite, got {scale}")
    pmf = [math.erf(0.5 / (scale * math.sqrt(2)))]
    while True:
        symbol = (len(pmf) + 1) // 2
        low, high = ((symbol + step) / (scale * math.sqrt(2)) for step in (-0.5, 0.5))
        probability = (math.erfc(low) - math.erfc(high)) / 2
        if probability < 0.5 / TOTAL:
            return pmf
        pmf = [probability, *pmf, probability]


def _accumulate(number: int, pmf: Sequence[float]) -> list[int]:
    """Return the cumulative frequencies of a row and its escape."""
    if len(pmf) >= TOTAL or not all(0 <= probability <= 1 for probability in pmf) or math.fsum(pmf) > 1 + 1e-6:
        raise ValueError(f"row {number} must be less than {TOTAL} probabilities that add up to at most 1")
    frequencies = _round_frequencies([*pmf, max(0.0, 1 - math.fsum(pmf))])
    return [0, *(int(entry) for entry in np.cumsum(frequencies))]


def _round_frequencies(pmf: Sequence[float]) -> list[int]:
    """Return integers of at least 1 that add up to 65536, moved to where they cost or save the most bits."""
    frequencies = [max(1, round(probability * TOTAL)) for probability in pmf]
    missing = TOTAL - sum(frequencies)
    step = 1 if missing > 0 else -1

    def cost(symbol: int) -> float:
        stepped = frequencies[symbol] + step
        return math.inf if stepped < 1 else pmf[symbol] * math.log2(frequencies[symbol] / stepped)

    heap = [(cost(symbol), symbol) for symbol in range(len(pmf))]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        symbol = heap[0][1]
        frequencies[symbol] += step
        heapq.heapreplace(heap, (cost(symbol), symbol))
    return frequencies


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlagTable:
    """How likely a flag is set, for each of the 512 ways its neighbours can be set. Thread-safe; pickles.

    A context's bits, lowest first: left, up-left, up, up-right; then in the frame before: the same position, left,
    right, up, down. What lies outside the map is not set.

    Raises:
        ValueError: The probabilities are none.
    """

    probabilities: Int32Array
    """Of a set flag, in 65536ths: int32 [512], each in 1..65535."""

    def __post_init__(self) -> None:
        """Check; from here on nothing can be written."""
        found = self.probabilities
        if found.dtype != np.int32 or found.shape != (NUM_FLAG_CONTEXTS,):
            raise ValueError(f"flag probabilities must be int32 [{NUM_FLAG_CONTEXTS}], got {found.dtype} {found.shape}")
        wrong = np.flatnonzero((found < 1) | (found >= TOTAL))
        if len(wrong):
            raise ValueError(
                f"the flag probability of context {wrong[0]} must be in 1..{TOTAL - 1}, got {found[wrong[0]]}"
            )
        kept = found.copy()
        kept.setflags(write=False)
        object.__setattr__(self, "probabilities", kept)

    @classmethod
    def from_tensor(cls, probabilities: Tensor) -> "FlagTable":
        """Take the int32 tensor [512] of a checkpoint.

        Raises:
            ValueError: The probabilities are none.
        """
        return cls(probabilities=probabilities.detach().cpu().numpy())

    def to_tensor(self) -> Tensor:
        """Return what `from_tensor` takes."""
        return torch.from_numpy(self.probabilities.copy())


def flag_contexts(flags_hw: BoolArray, previous_hw: BoolArray) -> Int32Array:
    """Return each position's context, int32 [h, w]."""
    height, width = flags_hw.shape
    flags, previous = (np.pad(array.astype(np.int32), 1) for array in (flags_hw, previous_hw))

    def shifted(padded: Int32Array, down: int, right: int) -> Int32Array:
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    now, before = [(0, -1), (-1, -1), (-1, 0), (-1, 1)], [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]
    bits = [shifted(flags, *step) for step in now] + [shifted(previous, *step) for step in before]
    contexts = np.zeros((height, width), np.int32)
    for place, bit in enumerate(bits):
        contexts |= bit << place
    return contexts


def flag_table_from_examples(examples: Iterable[tuple[BoolArray, BoolArray]], *, smoothing: float = 1.0) -> FlagTable:
    """Count how often flags are set in each context, for use after training.

    Args:
        examples: Maps of flags, each with the map of the frame before; bool [h, w].
        smoothing: How many flags of the average over all contexts are added to each context's own.

    Raises:
        ValueError: There are no flags in the examples, or `smoothing` is not positive.
    """
    if not smoothing > 0:
        raise ValueError(f"smoothing must be positive, got {smoothing}")
    counts = np.zeros((NUM_FLAG_CONTEXTS, 2), np.int64)
    for flags_hw, previous_hw in examples:
        np.add.at(counts, (flag_contexts(flags_hw, previous_hw), flags_hw.astype(np.intp)), 1)
    if not counts.any():
        raise ValueError("examples must hold at least one flag, got none")
    average = (counts[:, 1].sum() + 0.5) / (counts.sum() + 1)
    share = (counts[:, 1] + smoothing * average) / (counts.sum(axis=1) + smoothing)
    return FlagTable(probabilities=np.clip(np.rint(share * TOTAL), 1, TOTAL - 1).astype(np.int32))


_PARTS = ("cumulative", "lengths", "offsets")


def table_names(kind: str) -> set[str]:
    """Return the names of the tensors that hold a checkpoint's tables of one kind."""
    return {f"tables.{kind}.{part}" for part in _PARTS}


def table_tensors(kind: str, tables: FrequencyTables) -> dict[str, Tensor]:
    """Return a checkpoint's tensors of one kind of tables, by name; `read_tables` reads them."""
    return {f"tables.{kind}.{part}": tensor for part, tensor in zip(_PARTS, tables.to_tensors(), strict=True)}


def read_tables(kind: str, tensors: Mapping[str, Tensor]) -> FrequencyTables:
    """Read one kind of tables of a checkpoint.

    Raises:
        KeyError: A tensor is missing.
        ValueError: They are no frequency tables; the message names kind and row.
    """
    try:
        return FrequencyTables.from_tensors(*(tensors[f"tables.{kind}.{part}"] for part in _PARTS))
    except ValueError as error:
        raise ValueError(f"tables.{kind}: {error}") from error
