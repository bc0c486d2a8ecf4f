"""Tests of the stream's definition: streams written out by hand. If one of these fails, archives can't be read."""

from collections.abc import Callable

import numpy as np
import pytest

from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder
from framevault.codecs.entropy.reference import (
    ReferenceDecoder,
    ReferenceEncoder,
    code_intervals,
    escape_intervals,
    flag_context,
    symbol_intervals,
)
from framevault.codecs.entropy.tables import FlagTable, FrequencyTables
from framevault.codecs.errors import BitstreamError
from tests.codecs.entropy.programs import Program, PushedFlags, PushedSymbols, contents, decode, encode

TABLES = FrequencyTables(
    cumulative=np.array([[0, 16384, 49152, 65280, 65536], [0, 65000, 65536, 65536, 65536]], np.int32),
    lengths=np.array([5, 3], np.int32),
    offsets=np.array([-1, 0], np.int32),
)
"""Table 0: -1, 0, 1 and the escape. Table 1: 0 and the escape."""


def flag_table() -> FlagTable:
    probabilities = np.full(512, 6554, np.int32)
    probabilities[[0, 1, 16]] = [2000, 30000, 40000]
    return FlagTable(probabilities=probabilities)


def symbols(values: list[int], numbers: list[int], *, skip_below: int = 0) -> PushedSymbols:
    return PushedSymbols(
        symbols=np.array(values, np.int32), numbers=np.array(numbers, np.uint8), tables=TABLES, skip_below=skip_below
    )


FLAGS = PushedFlags(
    flags_hw=np.array([[1, 0, 0], [1, 1, 0]], np.bool_),
    previous_hw=np.array([[0, 0, 0], [1, 0, 0]], np.bool_),
    table=flag_table(),
)

STREAMS: list[tuple[str, Program, str]] = [
    ("nothing", [], ""),
    ("nothing that is coded", [symbols([0, 0], [0, 0], skip_below=1)], ""),
    ("a state alone", [symbols([0, 1, -1, 2], [0, 0, 0, 0])], "00902302"),
    ("a state and a word", [symbols([0, -3, 0, 1000000, 0], [0, 0, 1, 0, 1])], "93bf0bb31f0ffd2242ab"),
    ("the same in two pieces", [symbols([0, -3], [0, 0]), symbols([0, 1000000, 0], [1, 0, 1])], "93bf0bb31f0ffd2242ab"),
    ("flags", [FLAGS], "fee7b9"),
]


@pytest.mark.parametrize(("program", "stream"), [row[1:] for row in STREAMS], ids=[row[0] for row in STREAMS])
@pytest.mark.parametrize("make", [ReferenceEncoder, SymbolEncoder])
def test_the_streams_of_the_format_are_encoded(
    make: Callable[[], ReferenceEncoder | SymbolEncoder], program: Program, stream: str
) -> None:
    assert encode(make(), program).hex() == stream


@pytest.mark.parametrize(("program", "stream"), [row[1:] for row in STREAMS], ids=[row[0] for row in STREAMS])
@pytest.mark.parametrize("make", [ReferenceDecoder, SymbolDecoder])
def test_the_streams_of_the_format_are_decoded(
    make: Callable[[bytes], ReferenceDecoder | SymbolDecoder], program: Program, stream: str
) -> None:
    assert decode(make(bytes.fromhex(stream)), program) == contents(program)


def test_one_step_is_the_formula() -> None:
    assert code_intervals([(16384, 32768)]) == (4096 // 32768 * 65536 + 16384 + 4096).to_bytes(2, "little")
    assert code_intervals([(0, 65536)] * 100) == b""


def test_a_symbol_beyond_its_table_is_escaped_on_either_side() -> None:
    row, escape = [0, 16384, 49152, 65280, 65536], (65280, 256)

    assert symbol_intervals(1, row, -1) == [(49152, 16128)]
    assert symbol_intervals(2, row, -1) == [escape, *escape_intervals(0)]
    assert symbol_intervals(-2, row, -1) == [escape, *escape_intervals(1)]
    assert symbol_intervals(5, row, -1) == [escape, *escape_intervals(6)]
    assert symbol_intervals(-5, row, -1) == [escape, *escape_intervals(7)]


def test_a_distance_is_its_length_in_ones_and_then_its_bits() -> None:
    zero, one = (0, 32768), (32768, 32768)

    assert escape_intervals(0) == [zero]
    assert escape_intervals(1) == [one, zero, zero]
    assert escape_intervals(2) == [one, zero, one]
    assert escape_intervals(5) == [one, one, zero, (0b10 << 14, 1 << 14)]
    assert escape_intervals(0xABCDE - 1) == [*[one] * 19, zero, (0xBCDE, 1), (0b010 << 13, 1 << 13)]
    assert escape_intervals(2**33 - 2) == [*[one] * 32, zero, (65535, 1), (65535, 1)]


def test_each_neighbour_has_its_bit() -> None:
    size = range(3)
    empty = [[False] * 3 for _ in size]
    alone = {(y, x): [[(row, column) == (y, x) for column in size] for row in size] for y in size for x in size}

    now = {place: flag_context(grid, empty, 1, 1) for place, grid in alone.items()}
    before = {place: flag_context(empty, grid, 1, 1) for place, grid in alone.items()}

    assert {place: context for place, context in now.items() if context} == {
        (1, 0): 1,
        (0, 0): 2,
        (0, 1): 4,
        (0, 2): 8,
    }
    assert {place: context for place, context in before.items() if context} == {
        (1, 1): 16,
        (1, 0): 32,
        (1, 2): 64,
        (0, 1): 128,
        (2, 1): 256,
    }


ESCAPE = (65280, 256)

BROKEN: list[tuple[bytes, str]] = [
    (b"\x00", "no state"),
    (b"\xff\x0f", "no state"),
    (b"\x00\x10", "no state"),
    (b"\x01\x10\x00", "no state"),
    (bytes(9), "no state"),
    (bytes(12), "no state"),
    (b"\x05\x40", "ends early"),
    (code_intervals([(16384, 32768)] * 5), "damaged"),
    (code_intervals([(16384, 32768)] * 100), "left over"),
    (code_intervals([ESCAPE] + [(32768, 32768)] * 33 + [(0, 32768)]), "no int32"),
    (code_intervals([ESCAPE, *escape_intervals(2 * (2**31 - 2))]), "no int32"),
    (code_intervals([ESCAPE, *escape_intervals(2 * (2**31 - 1) + 1)]), "no int32"),
]
"""Streams of other intervals than one symbol of table 0, and why they can't be that."""


@pytest.mark.parametrize(("stream", "reason"), BROKEN)
@pytest.mark.parametrize("make", [ReferenceDecoder, SymbolDecoder])
def test_a_stream_that_nothing_makes_is_refused_with_its_reason(
    make: Callable[[bytes], ReferenceDecoder | SymbolDecoder], stream: bytes, reason: str
) -> None:
    with pytest.raises(BitstreamError, match=reason):
        decode(make(stream), [symbols([0], [0])])
