"""The stream's definition: a slow coder in plain Python, on whole numbers of any size. `coder.py` must equal it.

**A stream is a list of intervals.** An interval (start, frequency) is a part of 0..65535; what is pushed becomes
intervals, in order:

- A symbol is the interval of its table that stands for it. If none does, it is the table's last interval, and then the
  bits that say how far it lies beyond the table's symbols (`escape_intervals`).
- A flag is 0..65535 - p if it is not set, else 65536 - p..65535, with p from its context (`flag_context`).

**The intervals make one number** (range asymmetric numeral systems, Duda, arXiv 1311.2540), the state. It begins as
4096; from the last interval to the first, ::

    state' = (state // frequency) * 65536 + start + state % frequency

and before a step that would bring the state to 2**64 or beyond, its lowest 32 bits are taken off as a word. Decoding
goes the other way, from the first interval to the last; a state below 2**32 is refilled with the next word, as long as
there are words. So words are read in the opposite order of their making, and the last state is 4096.

**Bytes:** the state, lowest byte first, in as many bytes as it needs; none at all if it is 4096. Then the words in the
order in which they are read, each lowest byte first. A reader knows how many bytes the state has: all, of a stream of
up to 8 bytes; else 5 to 8, so that whole words remain. For a state that gave away a word is 2**32 or more ever after.
"""

from collections.abc import Sequence

from framevault.codecs.entropy.tables import BoolArray, FlagTable, FrequencyTables, Int32Array, Uint8Array
from framevault.codecs.errors import BitstreamError

Interval = tuple[int, int]
"""Start and frequency."""

TOTAL = 1 << 16
INITIAL_STATE = 1 << 12
WORD_BITS = 32
LOWEST_REFILLED_STATE = 1 << 32
STATE_LIMIT = 1 << 64
LONGEST_HEAD = 8
MOST_ESCAPE_BITS = 32


class ReferenceEncoder:
    """Does what `SymbolEncoder` does."""

    def __init__(self) -> None:
        self.intervals: list[Interval] = []
        """All that was pushed."""

    def push(
        self, symbols: Int32Array, table_numbers: Uint8Array, tables: FrequencyTables, *, skip_below: int = 0
    ) -> None:
        """Add symbols."""
        rows = table_rows(tables)
        for symbol, number in zip(symbols.tolist(), table_numbers.tolist(), strict=True):
            if number >= skip_below:
                self.intervals += symbol_intervals(symbol, rows[number], int(tables.offsets[number]))

    def push_flags(self, flags_hw: BoolArray, previous_hw: BoolArray, table: FlagTable) -> None:
        """Add a map of flags, row by row."""
        flags, previous = flags_hw.tolist(), previous_hw.tolist()
        for y, row in enumerate(flags):
            for x, flag in enumerate(row):
                unset = TOTAL - int(table.probabilities[flag_context(flags, previous, y, x)])
                self.intervals.append((unset, TOTAL - unset) if flag else (0, unset))

    def finish(self) -> bytes:
        """Return the stream."""
        return code_intervals(self.intervals)


class ReferenceDecoder:
    """Does what `SymbolDecoder` does.

    Raises:
        BitstreamError: No encoder makes such a stream.
    """

    def __init__(self, stream: bytes) -> None:
        size = len(stream)
        head = size if size <= LONGEST_HEAD else next(head for head in (5, 6, 7, 8) if (size - head) % 4 == 0)
        self._state = int.from_bytes(stream[:head], "little") if stream else INITIAL_STATE
        if stream and (self._state <= INITIAL_STATE or self._state < 1 << 8 * (head - 1)):
            raise BitstreamError("the stream begins with no state")
        self._words = [int.from_bytes(stream[place : place + 4], "little") for place in range(head, size, 4)]
        self._words.reverse()

    def pull(self, table_numbers: Uint8Array, tables: FrequencyTables, *, skip_below: int = 0) -> list[int]:
        """Return the next symbols."""
        rows = table_rows(tables)
        return [
            0 if number < skip_below else self._take_symbol(rows[number], int(tables.offsets[number]))
            for number in table_numbers.tolist()
        ]

    def pull_flags(self, previous_hw: BoolArray, table: FlagTable) -> list[list[bool]]:
        """Return the next map of flags."""
        previous = previous_hw.tolist()
        flags = [[False] * len(row) for row in previous]
        for y, row in enumerate(flags):
            for x in range(len(row)):
                unset = TOTAL - int(table.probabilities[flag_context(flags, previous, y, x)])
                row[x] = self._take([0, unset, TOTAL]) == 1
        return flags

    def finish(self) -> None:
        """Check that the stream ends here."""
        if self._words:
            raise BitstreamError("bytes are left over")
        if self._state != INITIAL_STATE:
            raise BitstreamError("the stream is damaged")

    def _take_symbol(self, row: list[int], offset: int) -> int:
        interval, num_symbols = self._take(row), len(row) - 2
        if interval < num_symbols:
            return offset + interval
        distance = self._take_distance()
        symbol = offset - (distance + 1) // 2 if distance % 2 else offset + num_symbols + distance // 2
        if not -(1 << 31) <= symbol < 1 << 31:
            raise BitstreamError("an escaped symbol is no int32")
        return symbol

    def _take_distance(self) -> int:
        length = 0
        while self._take_bits(1):
            length += 1
            if length > MOST_ESCAPE_BITS:
                raise BitstreamError("an escaped symbol is no int32")
        number = 1 << length
        for place in range(0, length, 16):
            number += self._take_bits(min(16, length - place)) << place
        return number - 1

    def _take_bits(self, count: int) -> int:
        return self._take(range(0, TOTAL + 1, TOTAL >> count))

    def _take(self, starts: Sequence[int]) -> int:
        """Take the next interval out of the state; return which of these it is."""
        slot = self._state % TOTAL
        interval = _find(slot, starts)
        start, frequency = starts[interval], starts[interval + 1] - starts[interval]
        self._state = frequency * (self._state // TOTAL) + slot - start
        if self._state < LOWEST_REFILLED_STATE and self._words:
            self._state = (self._state << WORD_BITS) + self._words.pop()
        if self._state < INITIAL_STATE:
            raise BitstreamError("the stream ends early")
        return interval


def code_intervals(intervals: Sequence[Interval]) -> bytes:
    """Return the stream that these intervals make."""
    state, words = INITIAL_STATE, []
    for start, frequency in reversed(intervals):
        if (state // frequency) * TOTAL >= STATE_LIMIT:
            words.append(state % (1 << WORD_BITS))
            state >>= WORD_BITS
        state = (state // frequency) * TOTAL + start + state % frequency
    head = b"" if state == INITIAL_STATE else state.to_bytes((state.bit_length() + 7) // 8, "little")
    return head + b"".join(word.to_bytes(WORD_BITS // 8, "little") for word in reversed(words))


def table_rows(tables: FrequencyTables) -> list[list[int]]:
    """Return where each table's intervals start, and 65536."""
    return [row[:length] for row, length in zip(tables.cumulative.tolist(), tables.lengths.tolist(), strict=True)]


def symbol_intervals(symbol: int, row: list[int], offset: int) -> list[Interval]:
    """Return the intervals of a symbol."""
    num_symbols = len(row) - 2
    interval = symbol - offset if 0 <= symbol - offset < num_symbols else num_symbols
    first = (row[interval], row[interval + 1] - row[interval])
    if interval < num_symbols:
        return [first]
    above, below = symbol - (offset + num_symbols), offset - 1 - symbol
    return [first, *escape_intervals(2 * above if above >= 0 else 2 * below + 1)]


def escape_intervals(distance: int) -> list[Interval]:
    """Return the intervals of a distance beyond a table's symbols: Exp-Golomb, order 0.

    `distance + 1` in binary, without its leading one, has `length` bits. First `length` ones and a zero, a bit each;
    then those bits, the lowest 16 first, the next 16 after them.
    """
    number = distance + 1
    length = number.bit_length() - 1
    chunks = [(min(16, length - place), number >> place) for place in range(0, length, 16)]
    return (
        [bits_interval(1, 1)] * length + [bits_interval(0, 1)] + [bits_interval(bits, count) for count, bits in chunks]
    )


def bits_interval(bits: int, count: int) -> Interval:
    """Return the interval of the lowest `count` of some bits, up to 16, each value equally likely."""
    frequency = TOTAL >> count
    return bits % (1 << count) * frequency, frequency


def flag_context(flags: list[list[bool]], previous: list[list[bool]], y: int, x: int) -> int:
    """Return the context of a position: nine neighbours that the decoder knows by then, 0 outside the map."""

    def at(grid: list[list[bool]], down: int, right: int) -> bool:
        return 0 <= y + down < len(grid) and 0 <= x + right < len(grid[y]) and grid[y + down][x + right]

    now = [at(flags, 0, -1), at(flags, -1, -1), at(flags, -1, 0), at(flags, -1, 1)]
    before = [at(previous, 0, 0), at(previous, 0, -1), at(previous, 0, 1), at(previous, -1, 0), at(previous, 1, 0)]
    return sum(bit << place for place, bit in enumerate(now + before))


def _find(slot: int, starts: Sequence[int]) -> int:
    return next(interval for interval in range(len(starts) - 1) if slot < starts[interval + 1])
