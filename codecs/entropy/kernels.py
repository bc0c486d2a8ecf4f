"""The coder's inner loops, compiled by numba: rANS with a 64-bit state, 32-bit words and 16-bit frequencies.

`reference.py` says in plain Python what happens here. A `state` array holds the rANS state and a position among the
words. The encoder goes from the last symbol to the first and fills its words from their end; the decoder goes forward.
The loops allocate nothing and let go of the GIL.

**Bounds.** Whatever a stream holds, nothing outside the arrays is touched: words are read and written only inside
theirs, a slot is below 65536 and so within its row, an escape has a largest length. What a caller must see to is that
the tables are as `FrequencyTables` checks them, and that table numbers are rows of them.

Importing this module compiles it, once a machine: the machine code is kept beside the module, or in the user's cache
folder where that can't be written, or nowhere: then each process compiles for itself, and warns. Several processes may
compile at once; numba puts complete files in place.
"""

import warnings
from collections.abc import Callable
from pickle import UnpicklingError
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit, types

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

    from framevault.codecs.entropy.tables import BoolArray, Int32Array, Uint8Array

Function = TypeVar("Function", bound=Callable[..., object])
Uint16Array = npt.NDArray[np.uint16]
Uint32Array = npt.NDArray[np.uint32]
Uint64Array = npt.NDArray[np.uint64]

DONE = 0
"""All symbols are coded."""
ENDS_EARLY = 1
"""The stream has fewer words than its symbols need."""
ESCAPES_TOO_FAR = 2
"""An escaped symbol is no int32."""

INITIAL_STATE = np.uint64(1 << 12)
"""Where the encoder starts and the decoder must end."""
LOWEST_STATE = np.uint64(1 << 32)
"""Below it, the decoder takes the next word."""

# Numbers beside a state are uint64 too: numba turns uint64 with int64 into a float.
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_TOTAL = np.uint64(1 << 16)
_FREQUENCY_BITS = np.uint64(16)
_SLOT_MASK = np.uint64((1 << 16) - 1)
_WORD_BITS = np.uint64(32)
_WORD_MASK = np.uint64((1 << 32) - 1)
_RENORMALISE_SHIFT = np.uint64(48)
_LOOKUP_SHIFT = np.uint64(8)
_MOST_ESCAPE_BITS = 32
_LOWEST_SYMBOL, _HIGHEST_SYMBOL = -(1 << 31), (1 << 31) - 1

_inner = njit(nogil=True, error_model="numpy")


def _array(dtype: types.Type, ndim: int = 1, *, writable: bool = False) -> types.Array:
    return types.Array(dtype, ndim, "C", readonly=not writable)


def _kernel(*arguments: types.Type) -> "Callable[[Function], Dispatcher[Function]]":
    """Compile a function for these types, or load what was compiled before."""

    def compile_it(function: Function) -> "Dispatcher[Function]":
        signature = types.int64(*arguments)
        try:
            return njit(signature, cache=True, nogil=True, error_model="numpy")(function)
        except (RuntimeError, OSError, EOFError, UnpicklingError) as error:  # no folder to write, disk full, torn files
            advice = "set NUMBA_CACHE_DIR to a folder that can be written, or empty it"
            warnings.warn(f"the coder is compiled anew in each process: {error}; {advice}", stacklevel=2)
            return njit(signature, nogil=True, error_model="numpy")(function)

    return compile_it


@_inner
def _put(
    value: np.uint64, start: np.uint64, frequency: np.uint64, words: Uint32Array, position: np.int64
) -> tuple[np.uint64, np.int64]:
    if (value >> _RENORMALISE_SHIFT) >= frequency and position > 0:
        position -= 1
        words[position] = np.uint32(value & _WORD_MASK)
        value >>= _WORD_BITS
    return (value // frequency) * _TOTAL + value % frequency + start, position


@_inner
def _put_bits(
    value: np.uint64, bits: np.uint64, count: int, words: Uint32Array, position: np.int64
) -> tuple[np.uint64, np.int64]:
    width = _FREQUENCY_BITS - np.uint64(count)
    return _put(value, bits << width, _ONE << width, words, position)


@_inner
def _put_escape(
    value: np.uint64, distance: np.uint64, words: Uint32Array, position: np.int64
) -> tuple[np.uint64, np.int64]:
    number = distance + _ONE
    length = 0
    while number >> np.uint64(length + 1):
        length += 1
    for chunk in range((length + 15) // 16 - 1, -1, -1):
        count = min(16, length - 16 * chunk)
        bits = (number >> np.uint64(16 * chunk)) & ((_ONE << np.uint64(count)) - _ONE)
        value, position = _put_bits(value, bits, count, words, position)
    value, position = _put_bits(value, _ZERO, 1, words, position)
    for _ in range(length):
        value, position = _put_bits(value, _ONE, 1, words, position)
    return value, position


@_inner
def _take(
    value: np.uint64, start: np.uint64, frequency: np.uint64, words: Uint32Array, position: np.int64
) -> tuple[np.uint64, np.int64]:
    value = frequency * (value >> _FREQUENCY_BITS) + (value & _SLOT_MASK) - start
    if value < LOWEST_STATE and position < words.size:
        value = (value << _WORD_BITS) | np.uint64(words[position])
        position += 1
    return value, position


@_inner
def _take_bits(
    value: np.uint64, count: int, words: Uint32Array, position: np.int64
) -> tuple[np.uint64, np.uint64, np.int64]:
    width = _FREQUENCY_BITS - np.uint64(count)
    bits = (value & _SLOT_MASK) >> width
    value, position = _take(value, bits << width, _ONE << width, words, position)
    return bits, value, position


@_inner
def _take_escape(value: np.uint64, words: Uint32Array, position: np.int64) -> tuple[np.int64, np.uint64, np.int64]:
    """Return the distance, or -1 if it is longer than any; state; position."""
    length = 0
    bit, value, position = _take_bits(value, 1, words, position)
    while bit and length <= _MOST_ESCAPE_BITS:
        length += 1
        bit, value, position = _take_bits(value, 1, words, position)
    if length > _MOST_ESCAPE_BITS:
        return np.int64(-1), value, position
    number = _ONE << np.uint64(length)
    for place in range(0, length, 16):
        bits, value, position = _take_bits(value, min(16, length - place), words, position)
        number |= bits << np.uint64(place)
    return np.int64(number - _ONE), value, position


@_kernel(
    _array(types.int32),
    _array(types.uint8),
    types.int64,
    _array(types.int32),
    _array(types.uint32),
    _array(types.int32),
    _array(types.uint32, writable=True),
    _array(types.uint64, writable=True),
)
def encode_symbols(
    symbols: "Int32Array",
    numbers: "Uint8Array",
    skip_below: int,
    rows: "Int32Array",
    starts: Uint32Array,
    offsets: "Int32Array",
    words: Uint32Array,
    state: Uint64Array,
) -> int:
    """Put symbols in front of what is coded already, last one first; those of tables below `skip_below` are left out.

    Args:
        symbols: int32 [n].
        numbers: Each symbol's table, uint8 [n].
        skip_below: First table that is coded.
        rows: Where each table's entries begin in `starts`, int32 [K + 1].
        starts: All tables' cumulative frequencies, one after the other, uint32.
        offsets: The symbol of each table's first interval, int32 [K].
        words: uint32; filled from its end.
        state: uint64 [2]: rANS state; position of the word that was written last.
    """
    value, position = state[0], np.int64(state[1])
    for item in range(symbols.size - 1, -1, -1):
        number = numbers[item]
        if number < skip_below:
            continue
        row = np.int64(rows[number])
        escape = np.int64(rows[number + 1]) - row - 2
        interval = np.int64(symbols[item]) - np.int64(offsets[number])
        if interval < 0 or interval >= escape:
            distance = 2 * (interval - escape) if interval >= 0 else -2 * interval - 1
            value, position = _put_escape(value, np.uint64(distance), words, position)
            interval = escape
        start = np.uint64(starts[row + interval])
        frequency = np.uint64(starts[row + interval + 1]) - start
        value, position = _put(value, start, frequency, words, position)
    state[0], state[1] = value, np.uint64(position)
    return DONE


@_kernel(
    _array(types.uint8),
    types.int64,
    _array(types.int32),
    _array(types.uint32),
    _array(types.int32),
    _array(types.uint16, 2),
    _array(types.uint32),
    _array(types.uint64, writable=True),
    _array(types.int32, writable=True),
)
def decode_symbols(
    numbers: "Uint8Array",
    skip_below: int,
    rows: "Int32Array",
    starts: Uint32Array,
    offsets: "Int32Array",
    lookup: Uint16Array,
    words: Uint32Array,
    state: Uint64Array,
    symbols: "Int32Array",
) -> int:
    """Take symbols out of a stream, first one first; those of tables below `skip_below` are 0.

    Args:
        numbers: Each symbol's table, uint8 [n].
        skip_below: First table that is coded.
        rows: Where each table's entries begin in `starts`, int32 [K + 1].
        starts: All tables' cumulative frequencies, one after the other, uint32.
        offsets: The symbol of each table's first interval, int32 [K].
        lookup: For each table and upper eight bits of a slot, the interval to start searching at, uint16 [K, 256].
        words: The stream's words, uint32.
        state: uint64 [2]: rANS state; number of words taken.
        symbols: What came out, int32 [n].

    Returns:
        DONE, ENDS_EARLY or ESCAPES_TOO_FAR.
    """
    value, position = state[0], np.int64(state[1])
    for item in range(numbers.size):
        number = numbers[item]
        if number < skip_below:
            symbols[item] = 0
            continue
        slot = value & _SLOT_MASK
        row = np.int64(rows[number])
        entry = row + np.int64(lookup[number, slot >> _LOOKUP_SHIFT])
        while np.uint64(starts[entry + 1]) <= slot:
            entry += 1
        start = np.uint64(starts[entry])
        value, position = _take(value, start, np.uint64(starts[entry + 1]) - start, words, position)
        symbol, distance = np.int64(offsets[number]) + entry - row, np.int64(0)
        if entry + 2 == rows[number + 1]:
            distance, value, position = _take_escape(value, words, position)
            symbol = np.int64(offsets[number]) - 1 - (distance >> 1) if distance & 1 else symbol + (distance >> 1)
        if value < INITIAL_STATE:
            return ENDS_EARLY
        if distance < 0 or symbol < _LOWEST_SYMBOL or symbol > _HIGHEST_SYMBOL:
            return ESCAPES_TOO_FAR
        symbols[item] = symbol
    state[0], state[1] = value, np.uint64(position)
    return DONE


@_inner
def _context(flags: "BoolArray", previous: "BoolArray", y: int, x: int) -> np.int64:
    """Return a position's context; `FlagTable` says what its bits are."""
    height, width = previous.shape
    has_left, has_right, has_up, has_down = x > 0, x + 1 < width, y > 0, y + 1 < height
    context = np.int64(previous[y, x]) << 4
    if has_left:
        context |= np.int64(flags[y, x - 1]) | np.int64(previous[y, x - 1]) << 5
    if has_right:
        context |= np.int64(previous[y, x + 1]) << 6
    if has_up:
        context |= np.int64(flags[y - 1, x]) << 2 | np.int64(previous[y - 1, x]) << 7
    if has_up and has_left:
        context |= np.int64(flags[y - 1, x - 1]) << 1
    if has_up and has_right:
        context |= np.int64(flags[y - 1, x + 1]) << 3
    if has_down:
        context |= np.int64(previous[y + 1, x]) << 8
    return context


@_kernel(
    _array(types.boolean, 2),
    _array(types.boolean, 2),
    _array(types.int32),
    _array(types.uint32, writable=True),
    _array(types.uint64, writable=True),
)
def encode_flags(
    flags: "BoolArray", previous: "BoolArray", probabilities: "Int32Array", words: Uint32Array, state: Uint64Array
) -> int:
    """Put a map of flags in front of what is coded already, last one first.

    Args:
        flags: bool [h, w].
        previous: The flags of the frame before, bool [h, w].
        probabilities: Of a set flag in each context, in 65536ths, int32 [512].
        words: uint32; filled from its end.
        state: uint64 [2]: rANS state; position of the word that was written last.
    """
    value, position = state[0], np.int64(state[1])
    height, width = flags.shape
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            unset = _TOTAL - np.uint64(probabilities[_context(flags, previous, y, x)])
            if flags[y, x]:
                value, position = _put(value, unset, _TOTAL - unset, words, position)
            else:
                value, position = _put(value, _ZERO, unset, words, position)
    state[0], state[1] = value, np.uint64(position)
    return DONE


@_kernel(
    _array(types.boolean, 2),
    _array(types.int32),
    _array(types.uint32),
    _array(types.uint64, writable=True),
    _array(types.boolean, 2, writable=True),
)
def decode_flags(
    previous: "BoolArray", probabilities: "Int32Array", words: Uint32Array, state: Uint64Array, flags: "BoolArray"
) -> int:
    """Take a map of flags out of a stream.

    Args:
        previous: The flags of the frame before, bool [h, w].
        probabilities: Of a set flag in each context, in 65536ths, int32 [512].
        words: The stream's words, uint32.
        state: uint64 [2]: rANS state; number of words taken.
        flags: What came out, bool [h, w].

    Returns:
        DONE or ENDS_EARLY.
    """
    value, position = state[0], np.int64(state[1])
    height, width = previous.shape
    for y in range(height):
        for x in range(width):
            unset = _TOTAL - np.uint64(probabilities[_context(flags, previous, y, x)])
            is_set = (value & _SLOT_MASK) >= unset
            start = unset if is_set else _ZERO
            value, position = _take(value, start, _TOTAL - unset if is_set else unset, words, position)
            if value < INITIAL_STATE:
                return ENDS_EARLY
            flags[y, x] = is_set
    state[0], state[1] = value, np.uint64(position)
    return DONE
