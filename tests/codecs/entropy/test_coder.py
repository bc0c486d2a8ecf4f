"""Tests of the fast coder: that it is the reference, and that no stream harms it."""

import math
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder, decode_many, encode_many
from framevault.codecs.entropy.reference import ReferenceDecoder, ReferenceEncoder
from framevault.codecs.entropy.tables import FlagTable, gaussian_tables
from framevault.codecs.errors import BitstreamError
from tests.codecs.entropy.programs import (
    Program,
    PushedSymbols,
    contents,
    decode,
    encode,
    programs,
    typical_flags,
    typical_symbols,
)

REPOSITORY = Path(__file__).parents[3]

TYPICAL: Program = [typical_symbols(1, num_symbols=120), typical_flags(2, height=6, width=8)]
"""About 50 bytes, to be damaged."""


def outcome(make: Callable[[bytes], ReferenceDecoder | SymbolDecoder], stream: bytes, program: Program) -> object:
    """Return what comes out, or the beginning of the reason why nothing does."""
    try:
        return decode(make(stream), program)
    except BitstreamError as error:
        return str(error)[:12]


def both_outcomes(stream: bytes, program: Program) -> object:
    """Return the outcome, which is that of the reference."""
    fast = outcome(SymbolDecoder, stream, program)
    assert fast == outcome(ReferenceDecoder, stream, program)
    return fast


def round_trip(seed: int) -> bool:
    """Code something; for other processes."""
    program: Program = [typical_symbols(seed, num_symbols=500)]
    streams = encode_many(lambda item: encode(SymbolEncoder(), [item]), program * 4, num_threads=2)
    pulled = decode_many(lambda stream: decode(SymbolDecoder(stream), program), streams, num_threads=2)
    return pulled == [contents(program)] * 4


@given(program=programs)
def test_any_symbols_of_any_tables_come_back_from_the_same_bytes_as_the_reference(program: Program) -> None:
    stream = encode(SymbolEncoder(), program)

    assert stream == encode(ReferenceEncoder(), program)
    assert decode(SymbolDecoder(stream), program) == contents(program)
    assert decode(ReferenceDecoder(stream), program) == contents(program)


@pytest.mark.parametrize("skip_below", [0, 10, 64])
def test_a_frame_of_typical_symbols_is_coded_as_by_the_reference(skip_below: int) -> None:
    program: Program = [
        typical_symbols(3, num_symbols=3000),
        typical_flags(4),
        typical_symbols(5, num_symbols=3000, skip_below=skip_below),
    ]

    stream = encode(SymbolEncoder(), program)

    assert stream == encode(ReferenceEncoder(), program)
    assert decode(SymbolDecoder(stream), program) == contents(program)
    assert decode(ReferenceDecoder(stream), program) == contents(program)


@given(program=programs)
def test_a_stream_is_at_most_four_bytes_longer_than_ideal(program: Program) -> None:
    reference = ReferenceEncoder()
    stream = encode(reference, program)

    ideal_bits = sum(16 - math.log2(frequency) for _, frequency in reference.intervals)

    assert 8 * len(stream) <= ideal_bits + 32


def test_a_long_stream_loses_nothing_with_its_length() -> None:
    item = typical_symbols(6, num_symbols=300_000)
    tables, number = item.tables, item.numbers
    interval = np.clip(item.symbols - tables.offsets[number], 0, tables.lengths[number] - 2)
    widths = tables.cumulative[number, interval + 1] - tables.cumulative[number, interval]
    ideal_bytes = float((16 - np.log2(widths)).sum()) / 8

    stream = encode(SymbolEncoder(), [item])

    num_escapes = np.count_nonzero(interval == tables.lengths[number] - 2)
    assert 0 < len(stream) - ideal_bytes < 4 + 3 * num_escapes
    assert num_escapes < 20


def test_nothing_pushed_is_no_bytes_and_an_encoder_starts_anew_after_finish() -> None:
    encoder = SymbolEncoder()

    first = encode(encoder, TYPICAL)

    assert encoder.finish() == b""
    assert encode(encoder, TYPICAL) == first
    SymbolDecoder(b"").finish()


def test_symbols_may_change_after_they_were_pushed_and_need_not_be_contiguous() -> None:
    item = typical_symbols(7, num_symbols=100)
    doubled, numbers = np.repeat(item.symbols, 2), np.repeat(item.numbers, 2)
    encoder = SymbolEncoder()

    encoder.push(doubled[::2], numbers[::2], item.tables)
    doubled[:], numbers[:] = 0, 0
    stream = encoder.finish()

    assert stream == encode(SymbolEncoder(), [item])
    assert SymbolDecoder(stream).pull(np.repeat(item.numbers, 2)[::2], item.tables).tolist() == item.symbols.tolist()


def test_wrong_arguments_are_named() -> None:
    tables, table = gaussian_tables([1.0, 2.0]), FlagTable(probabilities=np.full(512, 9, np.int32))
    symbols, numbers = np.array([0, 7], np.int32), np.array([0, 1], np.uint8)
    encoder, decoder = SymbolEncoder(), SymbolDecoder(b"")
    flags = np.zeros((2, 3), np.bool_)
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: encoder.push(symbols.astype(np.int64), numbers, tables), "symbols must be int32 .* got int64"),
        (lambda: encoder.push(symbols[None], numbers, tables), r"symbols must be int32 \[n\], got int32 \(1, 2\)"),
        (lambda: encoder.push(symbols, numbers.astype(np.int8), tables), "numbers must be uint8"),
        (lambda: encoder.push(symbols, numbers[:1], tables), "2 symbols must have a table, got 1 numbers"),
        (lambda: encoder.push(symbols, numbers + np.uint8(1), tables), "must be below 2, got 2"),
        (lambda: encoder.push(symbols, numbers, tables, skip_below=2), "must be 0, got 7 at position 1"),
        (lambda: decoder.pull(numbers + np.uint8(1), tables), "must be below 2, got 2"),
        (lambda: encoder.push_flags(flags, flags[:1], table), r"one size, got \(2, 3\) and \(1, 3\)"),
        (lambda: encoder.push_flags(flags.ravel(), flags, table), r"flags must be bool \[h, w\], got bool \(6,\)"),
        (lambda: decoder.pull_flags(flags.astype(np.uint8), table), "previous flags must be bool"),
    ]

    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_a_stream_cut_anywhere_is_refused() -> None:
    stream = encode(SymbolEncoder(), TYPICAL)

    outcomes = [both_outcomes(stream[:size], TYPICAL) for size in range(len(stream))]

    assert len(stream) > 40
    assert all(isinstance(reason, str) for reason in outcomes)


@pytest.mark.parametrize("more", [b"\0", b"\0\0\0\0", b"\1\2\3\4", bytes(1000)])
def test_a_stream_with_more_bytes_at_its_end_is_refused(more: bytes) -> None:
    stream = encode(SymbolEncoder(), TYPICAL)

    assert isinstance(both_outcomes(stream + more, TYPICAL), str)
    assert isinstance(both_outcomes(more + stream, TYPICAL), str)


def test_a_flipped_bit_is_refused_or_gives_other_symbols() -> None:
    stream = encode(SymbolEncoder(), TYPICAL)
    flipped = [
        bytes(byte ^ (1 << bit if place == at else 0) for at, byte in enumerate(stream))
        for place in range(len(stream))
        for bit in range(8)
    ]

    outcomes = [both_outcomes(damaged, TYPICAL) for damaged in flipped]

    assert contents(TYPICAL) not in outcomes
    assert sum(isinstance(reason, str) for reason in outcomes) > 0.99 * len(outcomes)


@given(stream=st.binary(max_size=300), program=programs)
@settings(max_examples=300)
def test_any_bytes_are_decoded_or_refused_as_by_the_reference(stream: bytes, program: Program) -> None:
    both_outcomes(stream, program)


def test_random_streams_of_a_likely_length_are_refused_and_take_no_memory() -> None:
    item = typical_symbols(8, num_symbols=2000)
    random = np.random.default_rng(9)
    length = len(encode(SymbolEncoder(), [item]))
    streams = [random.bytes(length + int(random.integers(-4, 5))) for _ in range(2000)]
    outcome(SymbolDecoder, streams[0], [item])

    tracemalloc.start()
    refused = [isinstance(outcome(SymbolDecoder, stream, [item]), str) for stream in streams]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sum(refused) >= 1998
    assert peak_bytes < 2_000_000


def test_words_of_one_bits_end_an_escape() -> None:
    escapes = gaussian_tables([1e-3])
    numbers = np.zeros(1000, np.uint8)

    for stream in (b"\xff" * 8, b"\xff" * 4000):
        with pytest.raises(BitstreamError):
            SymbolDecoder(stream).pull(numbers, escapes)


def test_threads_give_frames_in_order_and_stay() -> None:
    items = [typical_symbols(seed, num_symbols=50 * seed) for seed in range(1, 30)]

    streams = encode_many(lambda item: encode(SymbolEncoder(), [item]), items, num_threads=3)
    alone = encode_many(lambda item: encode(SymbolEncoder(), [item]), items, num_threads=1)
    pulled = decode_many(
        lambda job: decode(SymbolDecoder(job[0]), [job[1]]), [*zip(streams, items, strict=True)], num_threads=3
    )

    assert streams == alone
    assert pulled == [contents([item]) for item in items]


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    item = typical_symbols(1, num_symbols=50)
    streams = [encode(SymbolEncoder(), [item]), b"\0" * 20, b""]

    with pytest.raises(BitstreamError, match="state"):
        decode_many(lambda stream: decode(SymbolDecoder(stream), [item]), streams, num_threads=2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # the very thing tested
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_have_threads_of_their_own(method: str) -> None:
    assert round_trip(1)

    # A forked child has this process's modules but not its threads.
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(round_trip, (2,)).get(timeout=60)


def test_tables_can_be_sent_to_another_process() -> None:
    item = typical_symbols(1, num_symbols=300)

    sent: PushedSymbols = pickle.loads(pickle.dumps(item))

    assert encode(SymbolEncoder(), [sent]) == encode(SymbolEncoder(), [item])
    assert decode(SymbolDecoder(encode(SymbolEncoder(), [sent])), [sent]) == contents([item])


def test_importing_the_coder_does_not_import_numba() -> None:
    code = "import sys, framevault.codecs.entropy.coder; print('numba' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "False"


ROUND_TRIP = """
import warnings
from tests.codecs.entropy.test_coder import check_everything
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from framevault.codecs.entropy import kernels
check_everything()
print(kernels.__file__)
print([str(warning.message) for warning in caught])
"""


def check_everything() -> None:
    """Code, decode and meet 600 hostile streams; for interpreters of their own."""
    program: Program = [typical_symbols(1, num_symbols=2000), typical_flags(2), typical_symbols(3, num_symbols=50)]
    stream = encode(SymbolEncoder(), program)
    assert decode(SymbolDecoder(stream), program) == contents(program)
    random = np.random.default_rng(4)
    for _ in range(300):
        outcome(SymbolDecoder, random.bytes(int(random.integers(0, 2 * len(stream)))), program)
        damaged = bytearray(stream)
        for place in random.integers(0, len(stream), 3):
            damaged[place] = random.integers(0, 256)
        outcome(SymbolDecoder, bytes(damaged), program)


def start_interpreter(package_root: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ROUND_TRIP],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{package_root}{os.pathsep}{REPOSITORY}", **environment},
    )


@pytest.mark.slow
def test_several_processes_may_compile_at_once_and_no_index_leaves_its_array(tmp_path: Path) -> None:
    checked = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_BOUNDSCHECK": "1"}

    processes = [start_interpreter(REPOSITORY / ".src", **checked) for _ in range(2)]
    ended = [(process.communicate(timeout=120), process.returncode) for process in processes]

    assert [code for _, code in ended] == [0, 0], ended
    kept = sorted(path.suffix for path in tmp_path.rglob("*.nb?"))
    assert kept == [".nbc"] * 4 + [".nbi"] * 4


@pytest.mark.slow
def test_where_nothing_can_be_written_each_process_compiles_and_says_so(tmp_path: Path) -> None:
    package = tmp_path / "framevault" / "codecs"
    shutil.copytree(
        REPOSITORY / "codecs" / "entropy", package / "entropy", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(REPOSITORY / "codecs" / "errors.py", package)
    # A file where a folder should be stops even root, who may write to a read-only folder.
    (package / "entropy" / "__pycache__").touch()
    nowhere = dict.fromkeys(("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"), "/dev/null/cache")

    process = start_interpreter(tmp_path, **nowhere)
    (output, errors), code = process.communicate(timeout=120), process.returncode

    assert code == 0, errors
    assert str(package) in output
    assert "compiled anew in each process" in output
    assert "set NUMBA_CACHE_DIR" in output


@pytest.mark.slow
def test_torn_files_in_the_cache_are_not_used(tmp_path: Path) -> None:
    first = start_interpreter(REPOSITORY / ".src", NUMBA_CACHE_DIR=str(tmp_path))
    assert first.communicate(timeout=120)[1] == ""
    torn = list(tmp_path.rglob("*.nbi"))
    for path in torn:
        path.write_bytes(path.read_bytes()[:10])

    second = start_interpreter(REPOSITORY / ".src", NUMBA_CACHE_DIR=str(tmp_path))
    output, errors = second.communicate(timeout=120)

    assert len(torn) == 4
    assert second.returncode == 0, errors
    assert output.count("compiled anew in each process") == 4
