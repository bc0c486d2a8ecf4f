"""What a comparison of codecs leaves: tables for the terminal, and files in a folder.

::

    points.csv      a row a codec and setting
    bd_rates.csv    a row a codec, anchor and metric
    report.json     both, with what was measured on and how
    plot.png        accuracy over bits a pixel
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.coders import UNCOMPRESSED
from framevault.pipeline.jobs.bench.rate_plot import Curve, Panel, draw_panels
from framevault.pipeline.jobs.bench.rate_points import Comparison, Point
from framevault.pipeline.jobs.train.saved_state import put_in_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured on every S-th frame."""

    frame_step: int
    """S; 1 for pictures."""
    num_frames: int
    """Frames that were coded."""
    num_scored: int
    """Frames that were scored."""
    points: Sequence[Point]
    """A point a codec and setting."""
    comparisons: Sequence[Comparison]
    """Each of our codecs against each anchor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was measured."""

    title: str
    """On what."""
    results: tuple[Result, ...]
    """A result a frame step."""
    notes: tuple[str, ...]
    """What a reader should know."""
    facts: Mapping[str, object]
    """Settings and versions, for whoever repeats it."""


def open_folder(path: Path) -> None:
    """Make a folder that can be written, before anything is measured.

    Raises:
        PreflightError: It can't be made or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise PreflightError(f"--out {path}: expected a folder that can be written: {error.strerror}") from error


def write_report(folder: Path, report: Report) -> None:
    """Write rows and plot; files of an earlier measurement are replaced."""
    points, comparisons = points_table(report), comparisons_table(report)
    write_points(folder, report)
    _write_csv(folder / "bd_rates.csv", comparisons)
    members = {
        "title": report.title,
        "notes": report.notes,
        **report.facts,
        "points": _plain(points),
        "bd_rates": _plain(comparisons),
    }
    temporary = folder / "report.json.tmp"
    temporary.write_text(json.dumps(members, indent=1) + os.linesep, encoding="utf-8")
    put_in_place(temporary, folder / "report.json")
    draw_panels(folder / "plot.png", list(_panels(report)), title=report.title)


def write_points(folder: Path, report: Report) -> None:
    """Write the points alone, so that a measurement that is stopped leaves those that it had."""
    _write_csv(folder / "points.csv", points_table(report))


def points_table(report: Report) -> pa.Table:
    """Return a row a codec and setting; the frames themselves have no bytes."""
    rows = []
    for result in report.results:
        for point in result.points:
            is_coded = point.codec != UNCOMPRESSED
            rows.append(
                {
                    "frame_step": result.frame_step,
                    "codec": point.codec,
                    "setting": point.setting,
                    "bytes_per_frame": round(point.bytes_per_frame, 1) if is_coded else None,
                    "bits_per_pixel": round(point.bits_per_pixel, 5) if is_coded else None,
                    **{name: round(value, 4) for name, value in point.scored.metrics.items()},
                }
            )
    return pa.Table.from_pylist(rows)


def comparisons_table(report: Report) -> pa.Table:
    """Return a row a codec, anchor and metric."""
    schema = pa.schema(
        [
            ("frame_step", pa.int64()),
            *((name, pa.string()) for name in ("codec", "anchor", "metric")),
            *((name, pa.float64()) for name in ("bd_rate", "low", "high", "from_accuracy", "to_accuracy", "share")),
            ("reason", pa.string()),
        ]
    )
    rows = [
        {
            "frame_step": result.frame_step,
            "codec": each.codec,
            "anchor": each.anchor,
            "metric": each.metric,
            "bd_rate": _known(each.bd_rate.percent, 1),
            "low": None if each.interval is None else _known(each.interval.low, 1),
            "high": None if each.interval is None else _known(each.interval.high, 1),
            "from_accuracy": _known(each.bd_rate.lowest, 4),
            "to_accuracy": _known(each.bd_rate.highest, 4),
            "share": _known(each.bd_rate.share, 2),
            "reason": each.bd_rate.reason,
        }
        for result in report.results
        for each in result.comparisons
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _panels(report: Report) -> Sequence[Panel]:
    """Return a panel a frame step and metric."""
    panels = []
    for result in report.results:
        for metric in result.points[0].scored.metrics:
            curves: dict[str, list[tuple[float, float]]] = {}
            level = None
            for point in result.points:
                value = point.scored.metrics[metric]
                if point.codec == UNCOMPRESSED:
                    level = value
                else:
                    curves.setdefault(point.codec, []).append((point.bits_per_pixel, value))
            step = "" if result.frame_step == 1 else f", one frame in {result.frame_step}"
            panels.append(
                Panel(
                    heading=f"{metric} over bits a pixel{step}",
                    curves=tuple(Curve(label=codec, points=tuple(sorted(curve))) for codec, curve in curves.items()),
                    level=level,
                )
            )
    return panels


def _write_csv(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    csv.write_csv(table, temporary)
    put_in_place(temporary, path)


def _known(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)


def _plain(table: pa.Table) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = table.to_pylist()
    return rows
