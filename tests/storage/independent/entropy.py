"""The entropy coder's streams, read from FORMAT.md with Python's integers."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tests.storage.independent.documents import require

Integers = NDArray[np.int64]
"""Whole numbers of any kind."""

Interval = tuple[int, int]
"""Start and frequency."""


@dataclass(frozen=True)
class Tables:
    """A set of frequency tables."""

    rows: list[list[int]]
    """The used entries of each row."""
    offsets: list[int]
    """The symbol of each row's interval 0."""

    @classmethod
    def parse(cls, cumulative: Integers, lengths: Integers, offsets: Integers) -> "Tables":
        """Check the three tensors of a checkpoint."""
        require(cumulative.ndim == 2 and 1 <= len(cumulative) <= 256, "1 to 256 tables")
        require(lengths.shape == offsets.shape == (len(cumulative),), "lengths and offsets, one a table")
        rows = []
        for row, length, offset in zip(cumulative.tolist(), lengths.tolist(), offsets.tolist(), strict=True):
            require(2 <= length <= len(row), "2 to L entries")
            used = row[:length]
            require(used[0] == 0 and used[-1] == 65536, "from 0 to 65536")
            require(all(low < high for low, high in pairwise(used)), "rising strictly")
            require(all(entry == 65536 for entry in row[length:]), "padded with 65536")
            require(offset + length - 3 <= 2**31 - 1, "symbols of 32 bits")
            rows.append(used)
        return cls(rows, offsets.tolist())


class StreamReader:
    """Gives what was pushed, in order."""

    def __init__(self, stream: bytes) -> None:
        """Read the head."""
        head = len(stream) if len(stream) <= 8 else 5 + (len(stream) - 5) % 4
        self._state = int.from_bytes(stream[:head], "little") if stream else 4096
        require(not stream or (self._state > 4096 and stream[head - 1] > 0), "a state as nobody writes it")
        self._words = [int.from_bytes(stream[at : at + 4], "little") for at in range(head, len(stream), 4)]
        self._next_word = 0

    def symbols(self, table_numbers: list[int], tables: Tables, *, skip_below: int = 0) -> list[int]:
        """Read symbols; 0 where one is skipped."""
        return [0 if number < skip_below else self._symbol(tables, number) for number in table_numbers]

    def flags(self, before_hw: list[list[bool]], probabilities: list[int]) -> list[list[bool]]:
        """Read a map of flags of the same size as the one before."""
        height, width = len(before_hw), len(before_hw[0]) if before_hw else 0
        now_hw = [[False] * width for _ in range(height)]

        def is_set(flags_hw: list[list[bool]], y: int, x: int) -> bool:
            return 0 <= y < height and 0 <= x < width and flags_hw[y][x]

        for y in range(height):
            for x in range(width):
                neighbours = [
                    *(is_set(now_hw, *at) for at in ((y, x - 1), (y - 1, x - 1), (y - 1, x), (y - 1, x + 1))),
                    *(is_set(before_hw, *at) for at in ((y, x), (y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x))),
                ]
                unset = 65536 - probabilities[sum(1 << bit for bit, each in enumerate(neighbours) if each)]
                is_flagged = self._state % 65536 >= unset
                self._take((unset, 65536 - unset) if is_flagged else (0, unset))
                now_hw[y][x] = is_flagged
        return now_hw

    def finish(self) -> None:
        """Check that this was the end."""
        require(self._next_word == len(self._words) and self._state == 4096, "the stream does not end here")

    def _take(self, interval: Interval) -> None:
        start, frequency = interval
        self._state = frequency * (self._state // 65536) + self._state % 65536 - start
        if self._state < 2**32 and self._next_word < len(self._words):
            self._state = self._state * 2**32 + self._words[self._next_word]
            self._next_word += 1
        require(self._state >= 4096, "the stream ends early")

    def _symbol(self, tables: Tables, number: int) -> int:
        row, offset = tables.rows[number], tables.offsets[number]
        slot = self._state % 65536
        position = next(at for at in range(len(row) - 1) if row[at] <= slot < row[at + 1])
        self._take((row[position], row[position + 1] - row[position]))
        num_symbols = len(row) - 2
        if position < num_symbols:
            return offset + position
        distance = self._distance()
        symbol = offset + num_symbols + distance // 2 if distance % 2 == 0 else offset - 1 - distance // 2
        require(-(2**31) <= symbol < 2**31, "an escape beyond 32 bits")
        return symbol

    def _distance(self) -> int:
        num_bits = 0
        while self._value(1) == 1:
            num_bits += 1
            require(num_bits <= 32, "an escape that is too long")
        found, low = 1 << num_bits, 0
        while low < num_bits:
            width = min(16, num_bits - low)
            found += self._value(width) << low
            low += width
        return found - 1

    def _value(self, width: int) -> int:
        value = self._state % 65536 >> 16 - width
        self._take((value << 16 - width, 1 << 16 - width))
        return value
