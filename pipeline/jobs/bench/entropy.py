"""`framevault bench entropy`: how fast the entropy coder is, and how close to the ideal length.

The symbols are made up, of the kind that a codec's are: rounded zero-mean Gaussians, each with one of 64 scales from
0.11 to 64, most of them small, so that a symbol takes about 1.7 bits. Each frame has symbols of its own. What is timed
is what a codec does: push, finish; pull, finish, from arrays to bytes and back.

The ideal length of a stream is the sum of what each symbol's frequency in its table says, log2(65536 / frequency) bits.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa

from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder, decode_many, encode_many
from framevault.codecs.entropy.tables import (
    BoolArray,
    FlagTable,
    FrequencyTables,
    Int32Array,
    Uint8Array,
    flag_table_from_examples,
    gaussian_tables,
)
from framevault.pipeline.executors.base import count_cpus
from framevault.pipeline.exits import ExitCode
from framevault.pipeline.jobs.bench.output import OutputFormat, print_rows

NUM_FRAMES = 32
"""Frames of a batch, unless told otherwise."""
NUM_SYMBOLS = 50_000
"""Symbols of a frame, unless told otherwise: 640x360 in a codec of 64 channels."""
REPEATS = 9
"""Measurements of each speed; the tables have their median and their best."""

_SCALES = np.geomspace(0.11, 64, 64)
_MEAN_INDEX = 18
_SKIP_BELOW = 12
_SMALL_STREAMS = 400
_START = """
import os, time, numpy
os.environ["NUMBA_CACHE_DIR"] = {folder!r}
start = time.perf_counter()
import framevault.codecs.entropy.kernels
print(time.perf_counter() - start)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropySpeed:
    """How fast one thing is done."""

    what: str
    """encode or decode, and of what."""
    num_threads: int
    """Threads that share the batch."""
    median_per_s: float
    """Symbols (or flags) a second, median of the repeats."""
    best_per_s: float
    """Best of the repeats."""
    cpu_ns: float
    """Nanoseconds of CPU a symbol, all threads together; median. Hardly depends on what else runs on the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """How much longer than ideal streams of one kind are."""

    streams: str
    """What they hold."""
    mean_bytes: float
    """Their length."""
    mean_over_bytes: float
    """How much of it is above the ideal."""
    worst_over_bytes: float
    """The same, of the worst stream."""

    @property
    def over_percent(self) -> float:
        """The share of the ideal length that is added."""
        return 100 * self.mean_over_bytes / (self.mean_bytes - self.mean_over_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyReport:
    """All that was measured."""

    speeds: tuple[EntropySpeed, ...]
    """Of symbols, skipped symbols and flags, both ways."""
    overheads: tuple[Overhead, ...]
    """Of long and of short streams."""
    start_up_s: tuple[tuple[str, float], ...]
    """What is done once a machine or once a process, and its seconds."""


class _Coded(Protocol):
    """What can be coded into a stream of its own."""

    @property
    def size(self) -> int:
        """Its symbols or flags."""

    def encode(self) -> bytes:
        """Return the stream."""

    def decode(self, stream: bytes) -> object:
        """Return what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Symbols to code, all with the same tables."""

    symbols: Int32Array
    numbers: Uint8Array
    tables: FrequencyTables
    skip_below: int = 0

    def encode(self) -> bytes:
        encoder = SymbolEncoder()
        encoder.push(self.symbols, self.numbers, self.tables, skip_below=self.skip_below)
        return encoder.finish()

    def decode(self, stream: bytes) -> Int32Array:
        decoder = SymbolDecoder(stream)
        symbols = decoder.pull(self.numbers, self.tables, skip_below=self.skip_below)
        decoder.finish()
        return symbols

    @property
    def size(self) -> int:
        return self.symbols.size

    @property
    def ideal_bytes(self) -> float:
        """Of symbols that are all in their tables and none of them skipped."""
        interval = self.symbols - self.tables.offsets[self.numbers]
        starts = self.tables.cumulative
        widths = starts[self.numbers, interval + 1] - starts[self.numbers, interval]
        return float((16 - np.log2(widths)).sum()) / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _FlagMap:
    """Flags to code."""

    flags_hw: BoolArray
    previous_hw: BoolArray
    table: FlagTable

    def encode(self) -> bytes:
        encoder = SymbolEncoder()
        encoder.push_flags(self.flags_hw, self.previous_hw, self.table)
        return encoder.finish()

    def decode(self, stream: bytes) -> BoolArray:
        decoder = SymbolDecoder(stream)
        flags_hw = decoder.pull_flags(self.previous_hw, self.table)
        decoder.finish()
        return flags_hw

    @property
    def size(self) -> int:
        return self.flags_hw.size


def print_entropy(*, num_frames: int | None, num_symbols: int | None, output: OutputFormat) -> ExitCode:
    """Measure the coder, and print the tables."""
    report = measure_entropy(num_frames=num_frames or NUM_FRAMES, num_symbols=num_symbols or NUM_SYMBOLS)
    what = f"{num_frames or NUM_FRAMES} frames of {num_symbols or NUM_SYMBOLS} symbols"
    print_rows(_speeds_table(report), output, title=f"Million symbols a second: {what}")
    print_rows(_overheads_table(report), output, title="Bytes over the ideal length")
    start_up = {
        "what": [name for name, _ in report.start_up_s],
        "seconds": [round(seconds, 2) for _, seconds in report.start_up_s],
    }
    print_rows(pa.table(start_up), output, title="Start-up")
    return ExitCode.DONE


def measure_entropy(*, num_frames: int, num_symbols: int, repeats: int = REPEATS) -> EntropyReport:
    """Measure speeds on batches of this size, overheads, and what starting costs."""
    tables = gaussian_tables(_SCALES.tolist())
    random = np.random.default_rng(1)
    frames = [_make_frame(random, num_symbols, tables) for _ in range(num_frames)]
    skipped = [_skip(frame, below=len(_SCALES)) for frame in frames]
    partly = [_skip(frame, below=_SKIP_BELOW) for frame in frames]
    maps = _make_maps(random, num_frames, num_symbols)
    share = round(100 * float(np.mean([np.mean(frame.numbers < _SKIP_BELOW) for frame in frames])))
    return EntropyReport(
        speeds=(
            *_time_both_ways("symbols", frames, repeats),
            *_time_both_ways(f"symbols, {share} % of them skipped", partly, repeats),
            *_time_both_ways("skipped symbols", skipped, repeats),
            *_time_both_ways("flags", maps, repeats),
        ),
        overheads=(
            _measure_overhead(f"{num_symbols} symbols", frames),
            _measure_overhead("500 symbols", [_make_frame(random, 500, tables) for _ in range(_SMALL_STREAMS)]),
            _measure_overhead("50 symbols", [_make_frame(random, 50, tables) for _ in range(_SMALL_STREAMS)]),
        ),
        start_up_s=_time_starts(),
    )


def _make_frame(random: np.random.Generator, num_symbols: int, tables: FrequencyTables) -> _Frame:
    """Make symbols, all of them inside their tables, so that the ideal length is plain."""
    numbers = np.minimum(random.exponential(_MEAN_INDEX, num_symbols), len(_SCALES) - 1).astype(np.uint8)
    symbols = np.rint(random.normal(0, _SCALES[numbers])).astype(np.int32)
    lowest = tables.offsets[numbers]
    highest = lowest + tables.lengths[numbers] - 3
    return _Frame(symbols=np.clip(symbols, lowest, highest), numbers=numbers, tables=tables)


def _skip(frame: _Frame, *, below: int) -> _Frame:
    symbols = np.where(frame.numbers < below, 0, frame.symbols).astype(np.int32)
    return _Frame(symbols=symbols, numbers=frame.numbers, tables=frame.tables, skip_below=below)


def _make_maps(random: np.random.Generator, num_maps: int, num_flags: int) -> list[_FlagMap]:
    """Make maps of scattered blocks that stay from map to map, but for a few flags."""
    height = max(1, round(num_flags**0.5))
    width = max(1, num_flags // height)
    blocks = random.random((height // 8 + 1, width // 8 + 1)) < 0.3
    still = np.kron(blocks, np.ones((8, 8), np.bool_))[:height, :width].astype(np.bool_)
    maps = [still ^ (random.random(still.shape) < 0.02) for _ in range(num_maps + 1)]
    pairs = list(zip(maps[1:], maps, strict=False))
    table = flag_table_from_examples(pairs)
    return [_FlagMap(flags_hw=flags, previous_hw=previous, table=table) for flags, previous in pairs]


def _time_both_ways(what: str, items: Sequence[_Coded], repeats: int) -> tuple[EntropySpeed, ...]:
    """Time encoding and decoding, in one thread and in more, up to one a core."""
    streams = [(item, item.encode()) for item in items]
    size = sum(item.size for item in items)
    return tuple(
        _time(f"{way} {what}", run, num_threads=num_threads, size=size, repeats=repeats)
        for num_threads in _thread_counts()
        for way, run in (
            ("encode", partial(encode_many, _encode, items)),
            ("decode", partial(decode_many, _decode, streams)),
        )
    )


def _encode(item: _Coded) -> bytes:
    return item.encode()


def _decode(pair: tuple[_Coded, bytes]) -> object:
    item, stream = pair
    return item.decode(stream)


def _thread_counts() -> list[int]:
    counts = [1]
    while 2 * counts[-1] <= count_cpus():
        counts.append(2 * counts[-1])
    return counts


def _time(what: str, run: Callable[..., object], *, num_threads: int, size: int, repeats: int) -> EntropySpeed:
    """Time `run`, which does `size` things, after a run that is not timed."""
    run(num_threads=num_threads)
    rates, costs = [], []
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        run(num_threads=num_threads)
        rates.append(size / (time.perf_counter() - start))
        costs.append(1e9 * (time.process_time() - cpu_start) / size)
    return EntropySpeed(
        what=what,
        num_threads=num_threads,
        median_per_s=statistics.median(rates),
        best_per_s=max(rates),
        cpu_ns=statistics.median(costs),
    )


def _measure_overhead(streams: str, frames: Sequence[_Frame]) -> Overhead:
    lengths = [len(frame.encode()) for frame in frames]
    over = [length - frame.ideal_bytes for length, frame in zip(lengths, frames, strict=True)]
    return Overhead(
        streams=streams,
        mean_bytes=statistics.fmean(lengths),
        mean_over_bytes=statistics.fmean(over),
        worst_over_bytes=max(over),
    )


def _time_starts() -> tuple[tuple[str, float], ...]:
    """Time fresh interpreters that load the compiled loops, with an empty cache and with a filled one."""
    with tempfile.TemporaryDirectory(prefix="framevault-bench-") as folder:
        cold, warm = (_time_start(folder) for _ in range(2))
    return ("once a machine: compile the loops", cold), ("once a process: import numba, load the loops", warm)


def _time_start(cache_folder: str) -> float:
    # Set in the child: the environment is the command line's to read.
    command = [sys.executable, "-c", _START.format(folder=cache_folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _speeds_table(report: EntropyReport) -> pa.Table:
    return pa.table(
        {
            "what": [speed.what for speed in report.speeds],
            "threads": [speed.num_threads for speed in report.speeds],
            "million_per_s": [round(speed.median_per_s / 1e6, 1) for speed in report.speeds],
            "best": [round(speed.best_per_s / 1e6, 1) for speed in report.speeds],
            "cpu_ns_a_symbol": [round(speed.cpu_ns, 2) for speed in report.speeds],
        }
    )


def _overheads_table(report: EntropyReport) -> pa.Table:
    overheads = report.overheads
    return pa.table(
        {
            "streams": [overhead.streams for overhead in overheads],
            "bytes": [round(overhead.mean_bytes, 1) for overhead in overheads],
            "over_ideal": [round(overhead.mean_over_bytes, 2) for overhead in overheads],
            "worst": [round(overhead.worst_over_bytes, 2) for overhead in overheads],
            "over_percent": [round(overhead.over_percent, 3) for overhead in overheads],
        }
    )
