"""What people see of a training: a live table on a terminal, plain lines elsewhere, JSON lines for programs."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from framevault.pipeline.events import Event, TrainingReport
from framevault.pipeline.progress import REFRESHES_PER_S, JsonLines, describe_event
from framevault.pipeline.tables import describe_seconds


@contextmanager
def open_training_display(*, as_json: bool, stream: TextIO | None = None) -> Iterator[Callable[[Event], None]]:
    """Show a training's events as fits where they go.

    Args:
        as_json: JSON lines, to stdout; else a table or plain lines, to stderr.
        stream: Where to, instead.

    Yields:
        What takes the events.
    """
    target = stream or (sys.stdout if as_json else sys.stderr)
    if as_json:
        yield JsonLines(target)
    elif target.isatty():
        console = Console(file=target)
        sink = _LiveReport(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
        with Live(console=console, get_renderable=sink.render, refresh_per_second=REFRESHES_PER_S):
            yield sink
    else:
        yield _plain_lines(target)


def _plain_lines(stream: TextIO) -> Callable[[Event], None]:
    def write(event: Event) -> None:
        line = describe_event(event)
        if line is not None:
            stream.write(line + "\n")
            stream.flush()

    return write


class _LiveReport:
    """Keeps the last report for the table, and prints the other events above it."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print_line = print_line
        self._report: TrainingReport | None = None
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, TrainingReport):
            with self._lock:
                self._report = event
        elif (line := describe_event(event)) is not None:
            self._print_line(line)

    def render(self) -> Table:
        """Draw the last report."""
        with self._lock:
            report = self._report
        table = Table()
        if report is None:
            table.add_column("training")
            return table
        for heading in ("stage", "step", "done", "time left", "crops/s"):
            table.add_column(heading, justify="right")
        left = "" if report.time_left_s is None else describe_seconds(report.time_left_s)
        cells = [report.stage, str(report.step), f"{report.progress:.0%}", left, f"{report.crops_per_s:.1f}"]
        for name, value in report.metrics:
            table.add_column(name, justify="right")
            cells.append(f"{value:.4g}")
        table.add_row(*cells)
        return table
