"""What a person, a log or a program sees of a running job: a live table, plain lines, or JSON lines.

    events --> tally --> live table     on a terminal
                    `--> plain lines    elsewhere, a status line now and then
           --> JSON lines               each event at once, for programs

A sink may be called by several threads; it never prints anywhere but to its own stream.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from framevault.pipeline.events import (
    Event,
    JobDone,
    JobStarted,
    Note,
    StageReport,
    StageStarted,
    TaskDone,
    TaskFailed,
    TaskRetried,
    TasksPlanned,
    TaskStarted,
    TrainingReport,
)
from framevault.pipeline.tables import describe_bytes, describe_seconds

if TYPE_CHECKING:
    from rich.table import Table

STATUS_EVERY_S = 10.0
"""Plain lines tell how far the job is this often, at most."""

REFRESHES_PER_S = 4
"""The live table is drawn this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressRow:
    """One row of the table; None where nothing is known."""

    stage: str
    """The stage, or the job's name for all of it."""
    num_done: int
    """Tasks that went through."""
    num_in_flight: int | None
    """Tasks that workers have."""
    num_failed: int | None
    """Tasks given up."""
    frames_per_s: float | None
    """Of a stage: of one worker, while it works at it. Of all: since the job started."""
    size_bytes: int | None
    """Bytes that came out."""
    time_left_s: float | None
    """Seconds until all that is planned so far is done, at the rate so far."""


class Tally:
    """Adds up a job's events."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at nothing."""
        self._clock = clock
        self._started_s = clock()
        self._job = "job"
        self._busy_s: dict[str, float] = {}
        self._size_bytes: dict[str, int] = {}
        self._stage_of: dict[str, str | None] = {}
        self._knows_stages = False
        self._num_frames_planned = 0
        self.num_tasks_planned = 0
        self.num_done = 0
        self.num_failed = 0
        self.num_frames = 0

    def add(self, event: Event) -> None:
        """Add one event."""
        match event:
            case JobStarted():
                self._job = event.job
                self._started_s = self._clock()
                self._busy_s = dict.fromkeys(event.stages, 0.0)
                self.num_tasks_planned = event.num_tasks or 0
                self._num_frames_planned = event.num_frames or 0
            case TasksPlanned():
                self.num_tasks_planned += event.num_tasks
                self._num_frames_planned += event.num_frames
            case TaskStarted():
                self._stage_of[event.task_id] = None
            case StageStarted():
                self._knows_stages = True
                self._stage_of[event.task_id] = event.stage
            case TaskDone():
                self._stage_of.pop(event.task_id, None)
                self.num_done += 1
                self.num_frames += event.num_frames
                for report in event.stages:
                    self._add_report(report)
            case TaskFailed():
                self._stage_of.pop(event.task_id, None)
                self.num_failed += 1
            case TaskRetried() | TrainingReport() | Note() | JobDone():
                pass

    def stage_rows(self) -> list[ProgressRow]:
        """Return a row for each stage."""
        return [
            ProgressRow(
                stage=stage,
                num_done=self.num_done,
                num_in_flight=list(self._stage_of.values()).count(stage) if self._knows_stages else None,
                num_failed=None,
                frames_per_s=self.num_frames / busy_s if busy_s > 0 else None,
                size_bytes=self._size_bytes.get(stage),
                time_left_s=None,
            )
            for stage, busy_s in self._busy_s.items()
        ]

    def total_row(self) -> ProgressRow:
        """Return the row for all stages together."""
        elapsed_s = self._clock() - self._started_s
        rate = self.num_frames / elapsed_s if elapsed_s > 0 else 0.0
        frames_left = self._num_frames_planned - self.num_frames
        stored = list(self._size_bytes.values())
        return ProgressRow(
            stage=self._job,
            num_done=self.num_done,
            num_in_flight=len(self._stage_of),
            num_failed=self.num_failed,
            frames_per_s=rate if self.num_frames else None,
            size_bytes=stored[-1] if stored else None,
            time_left_s=frames_left / rate if rate > 0 and frames_left >= 0 and self._num_frames_planned else None,
        )

    def _add_report(self, report: StageReport) -> None:
        self._busy_s[report.stage] = self._busy_s.get(report.stage, 0.0) + report.busy_s
        if report.size_bytes is not None:
            self._size_bytes[report.stage] = self._size_bytes.get(report.stage, 0) + report.size_bytes


@contextmanager
def open_progress(*, as_json: bool, stream: TextIO | None = None) -> Iterator[Callable[[Event], None]]:
    """Show a job's events as fits where they go.

    Args:
        as_json: JSON lines, to stdout; else a table or plain lines, to stderr, which leaves stdout to results.
        stream: Where to, instead.

    Yields:
        What takes the events.
    """
    target = stream or (sys.stdout if as_json else sys.stderr)
    if as_json:
        yield JsonLines(target)
    elif target.isatty():
        with show_live_table(target) as table:
            yield table
    else:
        yield PlainLines(target)


class JsonLines:
    """Writes each event as one line of JSON: its name, its fields, and the seconds since the first."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock."""
        self._stream = stream
        self._clock = clock
        self._started_s = clock()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Write one event."""
        fields = dataclasses.asdict(event)
        with self._lock:
            at_s = round(self._clock() - self._started_s, 3)
            self._stream.write(json.dumps({"event": _snake_case(type(event).__name__), "at_s": at_s, **fields}) + "\n")
            self._stream.flush()


class PlainLines:
    """Writes what matters at once, and how far the job is now and then."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at nothing."""
        self._stream = stream
        self._clock = clock
        self._tally = Tally(clock=clock)
        self._next_status_s = clock() + STATUS_EVERY_S
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Add one event, and say what is to be said."""
        with self._lock:
            self._tally.add(event)
            line = describe_event(event)
            if line is None and self._clock() >= self._next_status_s:
                line = describe_row(self._tally.total_row(), num_tasks=self._tally.num_tasks_planned)
                self._next_status_s = self._clock() + STATUS_EVERY_S
            if line is not None:
                self._stream.write(line + "\n")
                self._stream.flush()


class LiveTable:
    """Keeps the tally that the table is drawn from, and prints what matters above it."""

    def __init__(self, print_line: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at nothing."""
        self._print_line = print_line
        self._tally = Tally(clock=clock)
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Add one event."""
        with self._lock:
            self._tally.add(event)
        line = describe_event(event)
        if line is not None and not isinstance(event, JobStarted | JobDone):
            self._print_line(line)

    def render(self) -> Table:
        """Draw the table as it is now."""
        from rich.table import Table

        with self._lock:
            rows = [*self._tally.stage_rows(), self._tally.total_row()]
        table = Table()
        table.add_column("stage")
        for heading in ("done", "in flight", "failed", "frames/s", "bytes", "time left"):
            table.add_column(heading, justify="right")
        for number, row in enumerate(rows):
            table.add_row(*_cells(row), end_section=number == len(rows) - 2)
        return table


@contextmanager
def show_live_table(stream: TextIO) -> Iterator[LiveTable]:
    """Draw a live table at the bottom of a terminal until the job ends."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    sink = LiveTable(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
    with Live(console=console, get_renderable=sink.render, refresh_per_second=REFRESHES_PER_S):
        yield sink


def describe_event(event: Event) -> str | None:
    """Say an event in a line; None for those that come by the thousand."""
    match event:
        case JobStarted():
            tasks = "planning" if event.num_tasks is None else f"{event.num_tasks} segments"
            skipped = f", {event.num_tasks_skipped} done before" if event.num_tasks_skipped else ""
            return f"{event.job}: {tasks}{skipped}"
        case TasksPlanned():
            skipped = f", {event.num_tasks_skipped} done before" if event.num_tasks_skipped else ""
            return f"{event.name}: {event.num_tasks} segments, {event.num_frames} frames{skipped}"
        case TaskRetried():
            wait = f" in {event.wait_s:.0f} s" if event.wait_s else ""
            return f"{event.task_id}: {event.category}: {event.reason}; try {event.attempt}{wait}"
        case TaskFailed():
            tries = f" after {event.attempts} tries" if event.attempts > 1 else ""
            return f"{event.name}: failed{tries} ({event.category}): {event.reason}"
        case TrainingReport():
            left = "" if event.time_left_s is None else f", {describe_seconds(event.time_left_s)} left"
            figures = ", ".join(f"{name} {value:.4g}" for name, value in event.metrics)
            done = f"{event.stage}: step {event.step} ({event.progress:.0%})"
            return f"{done}{left}, {event.crops_per_s:.1f} crops/s: {figures}"
        case Note():
            return event.text
        case JobDone():
            rate = f", {event.num_frames / event.elapsed_s:.1f} frames/s" if event.elapsed_s > 0 else ""
            return (
                f"done: {event.num_tasks_done} segments, {event.num_tasks_failed} failed, {event.num_frames} frames "
                f"in {describe_seconds(event.elapsed_s)}{rate}"
            )
        case TaskStarted() | StageStarted() | TaskDone():
            return None


def describe_row(row: ProgressRow, *, num_tasks: int) -> str:
    """Say how far the job is in a line."""
    parts = [f"{row.stage}: {row.num_done} of {num_tasks} segments", f"{row.num_in_flight} in flight"]
    if row.num_failed:
        parts.append(f"{row.num_failed} failed")
    if row.frames_per_s is not None:
        parts.append(f"{row.frames_per_s:.1f} frames/s")
    if row.size_bytes is not None:
        parts.append(describe_bytes(row.size_bytes))
    if row.time_left_s is not None:
        parts.append(f"{describe_seconds(row.time_left_s)} left")
    return ", ".join(parts)


def _cells(row: ProgressRow) -> list[str]:
    return [
        row.stage,
        str(row.num_done),
        "" if row.num_in_flight is None else str(row.num_in_flight),
        "" if row.num_failed is None else str(row.num_failed),
        "" if row.frames_per_s is None else f"{row.frames_per_s:.1f}",
        "" if row.size_bytes is None else describe_bytes(row.size_bytes),
        "" if row.time_left_s is None else describe_seconds(row.time_left_s),
    ]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
