"""Symbols and flags <-> one rANS stream: what codecs use. `reference.py` defines the stream.

Encoding only collects until `finish`, for rANS codes from the last symbol to the first; decoding gives symbols in the
order they were pushed, so a codec can pull some, compute from them what the next ones' tables are, and go on.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from framevault.codecs.entropy.tables import BoolArray, FlagTable, FrequencyTables, Int32Array, Uint8Array
from framevault.codecs.errors import BitstreamError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

WORD_BYTES = 4
"""Bytes of a word."""
LONGEST_HEAD = 8
"""Bytes of the rANS state in front of the words, at most."""
INITIAL_STATE = 1 << 12
"""Where the encoder starts and the decoder must end."""

_MOST_SYMBOL_BITS = 16 + 33 + 32 + 1
"""Of an escaped symbol: its interval, the length of its distance, the distance, and what rounding may take."""
_MOST_FLAG_BITS = 16 + 1


def _kernels() -> ModuleType:
    """Load the compiled loops; training and networks do without numba."""
    from framevault.codecs.entropy import kernels

    return kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Symbols:
    symbols: Int32Array
    numbers: Uint8Array
    tables: FrequencyTables
    skip_below: int

    @property
    def most_bits(self) -> int:
        return self.symbols.size * _MOST_SYMBOL_BITS

    def encode(self, words: npt.NDArray[np.uint32], state: npt.NDArray[np.uint64]) -> None:
        tables = self.tables
        _kernels().encode_symbols(
            self.symbols, self.numbers, self.skip_below, tables.rows, tables.starts, tables.offsets, words, state
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags:
    flags_hw: BoolArray
    previous_hw: BoolArray
    table: FlagTable

    @property
    def most_bits(self) -> int:
        return self.flags_hw.size * _MOST_FLAG_BITS

    def encode(self, words: npt.NDArray[np.uint32], state: npt.NDArray[np.uint64]) -> None:
        _kernels().encode_flags(self.flags_hw, self.previous_hw, self.table.probabilities, words, state)


class SymbolEncoder:
    """Makes one stream. For one thread."""

    def __init__(self) -> None:
        self._pushed: list[_Symbols | _Flags] = []

    def push(
        self, symbols: Int32Array, table_numbers: Uint8Array, tables: FrequencyTables, *, skip_below: int = 0
    ) -> None:
        """Add symbols behind those pushed so far.

        Args:
            symbols: Any int32 [n]; 0 wherever the table's number is below `skip_below`. Copied.
            table_numbers: Each symbol's table, uint8 [n].
            tables: What the numbers mean.
            skip_below: Symbols of tables with a lower number are not coded.

        Raises:
            ValueError: Types or shapes differ from these, there is no such table, or a skipped symbol is not 0.
        """
        if symbols.dtype != np.int32 or symbols.ndim != 1:
            raise ValueError(f"symbols must be int32 [n], got {symbols.dtype} {symbols.shape}")
        _check_numbers(table_numbers, tables)
        if table_numbers.shape != symbols.shape:
            raise ValueError(f"each of {symbols.size} symbols must have a table, got {table_numbers.size} numbers")
        if skip_below > 0:
            lost = np.flatnonzero((table_numbers < skip_below) & (symbols != 0))
            if lost.size:
                raise ValueError(f"a skipped symbol must be 0, got {symbols[lost[0]]} at position {lost[0]}")
        self._pushed.append(
            _Symbols(
                symbols=np.array(symbols, order="C"),
                numbers=np.array(table_numbers, order="C"),
                tables=tables,
                skip_below=skip_below,
            )
        )

    def push_flags(self, flags_hw: BoolArray, previous_hw: BoolArray, table: FlagTable) -> None:
        """Add a map of flags behind what was pushed so far.

        Args:
            flags_hw: bool [h, w]. Copied.
            previous_hw: The flags of the frame before, bool [h, w]; all False where there is none. Copied.
            table: Probabilities.

        Raises:
            ValueError: Types or shapes differ from these.
        """
        _check_flags("flags", flags_hw)
        _check_flags("previous flags", previous_hw)
        if flags_hw.shape != previous_hw.shape:
            raise ValueError(f"both maps of flags must have one size, got {flags_hw.shape} and {previous_hw.shape}")
        self._pushed.append(
            _Flags(flags_hw=np.array(flags_hw, order="C"), previous_hw=np.array(previous_hw, order="C"), table=table)
        )

    def finish(self) -> bytes:
        """Return the stream of all that was pushed, and start anew; nothing pushed makes no bytes."""
        pushed, self._pushed = self._pushed, []
        capacity = sum(item.most_bits for item in pushed) // (8 * WORD_BYTES) + 2
        words = np.empty(capacity, np.uint32)
        state = np.array([INITIAL_STATE, capacity], np.uint64)
        for item in reversed(pushed):
            item.encode(words, state)
        value, position = (int(number) for number in state)
        assert position > 0, "the buffer must be larger than any stream"
        head = b"" if value == INITIAL_STATE else value.to_bytes((value.bit_length() + 7) // 8, "little")
        return head + words[position:].astype("<u4").tobytes()


class SymbolDecoder:
    """Reads one stream. For one thread.

    Raises:
        BitstreamError: No encoder makes such a stream.
    """

    def __init__(self, stream: bytes) -> None:
        head_bytes = _head_bytes(len(stream))
        value = int.from_bytes(stream[:head_bytes], "little") if stream else INITIAL_STATE
        if stream and (value <= INITIAL_STATE or value >> 8 * (head_bytes - 1) == 0):
            raise BitstreamError(f"the stream begins with no state: {stream[:head_bytes].hex()}")
        self._words = np.frombuffer(stream, "<u4", offset=head_bytes).astype(np.uint32)
        self._state = np.array([value, 0], np.uint64)

    def pull(self, table_numbers: Uint8Array, tables: FrequencyTables, *, skip_below: int = 0) -> Int32Array:
        """Return the next symbols, int32 [n]; 0 where they were skipped.

        Args:
            table_numbers: Each symbol's table, uint8 [n].
            tables: What the numbers mean.
            skip_below: As in `push`.

        Raises:
            ValueError: Types or shapes differ from these, or there is no such table.
            BitstreamError: The stream ends early, or a symbol is no int32.
        """
        _check_numbers(table_numbers, tables)
        symbols = np.empty(table_numbers.size, np.int32)
        outcome = _kernels().decode_symbols(
            np.ascontiguousarray(table_numbers),
            skip_below,
            tables.rows,
            tables.starts,
            tables.offsets,
            tables.lookup,
            self._words,
            self._state,
            symbols,
        )
        _check_outcome(outcome)
        return symbols

    def pull_flags(self, previous_hw: BoolArray, table: FlagTable) -> BoolArray:
        """Return the next map of flags, bool [h, w].

        Args:
            previous_hw: The flags of the frame before, bool [h, w]; all False where there is none.
            table: Probabilities.

        Raises:
            ValueError: Types or shapes differ from these.
            BitstreamError: The stream ends early.
        """
        _check_flags("previous flags", previous_hw)
        flags_hw = np.zeros(previous_hw.shape, np.bool_)
        outcome = _kernels().decode_flags(
            np.ascontiguousarray(previous_hw), table.probabilities, self._words, self._state, flags_hw
        )
        _check_outcome(outcome)
        return flags_hw

    def finish(self) -> None:
        """Check that the stream ends here, in the state that it was begun with.

        Raises:
            BitstreamError: Bytes are left over, or the stream is damaged.
        """
        value, taken = (int(number) for number in self._state)
        if taken < self._words.size:
            raise BitstreamError(
                f"bytes are left over: {WORD_BYTES * (self._words.size - taken)} of the stream's words"
            )
        if value != INITIAL_STATE:
            raise BitstreamError(f"the stream is damaged: its last state must be {INITIAL_STATE}, got {value}")


def encode_many(encode: Callable[[ItemT], ResultT], frames: Sequence[ItemT], *, num_threads: int) -> list[ResultT]:
    """Call `encode` for each frame, a few at once; the threads are this process's own and stay."""
    return _map_in_threads(encode, frames, num_threads)


def decode_many(decode: Callable[[ItemT], ResultT], streams: Sequence[ItemT], *, num_threads: int) -> list[ResultT]:
    """Call `decode` for each stream, a few at once; the threads are this process's own and stay."""
    return _map_in_threads(decode, streams, num_threads)


def _map_in_threads(function: Callable[[ItemT], ResultT], items: Sequence[ItemT], num_threads: int) -> list[ResultT]:
    if num_threads == 1 or len(items) < 2:
        return [function(item) for item in items]
    return list(_threads(os.getpid(), num_threads).map(function, items))


@cache
def _threads(process: int, num_threads: int) -> ThreadPoolExecutor:
    """Return this process's threads; a forked child has none of its parent's."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix=f"entropy-{process}")


def _head_bytes(stream_bytes: int) -> int:
    """Return how many bytes the state takes: all of a short stream, else 5 to 8, so that whole words remain."""
    if stream_bytes <= LONGEST_HEAD:
        return stream_bytes
    return 5 + (stream_bytes - 5) % WORD_BYTES


def _check_numbers(table_numbers: Uint8Array, tables: FrequencyTables) -> None:
    if table_numbers.dtype != np.uint8 or table_numbers.ndim != 1:
        raise ValueError(f"table numbers must be uint8 [n], got {table_numbers.dtype} {table_numbers.shape}")
    if table_numbers.size and table_numbers.max() >= tables.num_tables:
        raise ValueError(f"table numbers must be below {tables.num_tables}, got {table_numbers.max()}")


def _check_flags(name: str, flags_hw: BoolArray) -> None:
    if flags_hw.dtype != np.bool_ or flags_hw.ndim != 2:
        raise ValueError(f"{name} must be bool [h, w], got {flags_hw.dtype} {flags_hw.shape}")


def _check_outcome(outcome: int) -> None:
    kernels = _kernels()
    if outcome == kernels.ENDS_EARLY:
        raise BitstreamError("the stream ends early")
    if outcome == kernels.ESCAPES_TOO_FAR:
        raise BitstreamError("an escaped symbol is no int32")
