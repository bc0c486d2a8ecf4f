"""What a comparison on faces leaves: tables for the terminal, and files in a folder.

::

    points.csv                a row a codec and setting
    bd_rates.csv              a row an anchor, metric and way to count bytes
    report.json               both, with what was measured on and how
    plot.png                  each metric over bytes a face, without containers and headers
    sheet-<n>.png             original, hsc at quality n, anchors at no more bytes
    sheet-hsc.png             hsc from nothing to the highest quality
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import csv
from torch import Tensor

from framevault.pipeline.contact_sheet import SheetTile, draw_sheet
from framevault.pipeline.jobs.bench.face_coders import OURS
from framevault.pipeline.jobs.bench.face_points import COUNTED, FaceComparison, FacePoint, is_higher_better
from framevault.pipeline.jobs.bench.rate_plot import Curve, Panel, draw_panels
from framevault.pipeline.jobs.train.saved_state import put_in_place

LEAST_TILE = 240
"""Pixels: smaller pictures are enlarged on contact sheets."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceReport:
    """All that was measured."""

    title: str
    """On what."""
    points: Sequence[FacePoint]
    """A point a codec and setting."""
    comparisons: Sequence[FaceComparison]
    """HSC against each anchor."""
    notes: tuple[str, ...]
    """What a reader should know."""
    facts: Mapping[str, object]
    """Settings and versions, for whoever repeats it."""
    shown_nchw: Tensor
    """The originals on contact sheets, uint8 [n, 3, H, W]."""


def write_face_points(folder: Path, points: Sequence[FacePoint]) -> None:
    """Write the points alone, so that a measurement that is stopped leaves those that it had."""
    write_csv(folder / "points.csv", face_points_table(points))


def write_face_report(folder: Path, report: FaceReport) -> None:
    """Write rows, plot and sheets; files of an earlier measurement are replaced."""
    points, comparisons = face_points_table(report.points), face_comparisons_table(report.comparisons)
    write_face_points(folder, report.points)
    write_csv(folder / "bd_rates.csv", comparisons)
    members = {
        "title": report.title,
        "notes": report.notes,
        **report.facts,
        "points": points.to_pylist(),
        "bd_rates": comparisons.to_pylist(),
    }
    temporary = folder / "report.json.tmp"
    temporary.write_text(json.dumps(members, indent=1) + os.linesep, encoding="utf-8")
    put_in_place(temporary, folder / "report.json")
    draw_panels(folder / "plot.png", _panels(report.points), title=report.title)
    for point in report.points:
        if point.codec == OURS:
            write_sheet(folder / f"sheet-{point.setting.split()[-1]}.png", list(equal_bytes_rows(point, report)))
    write_sheet(folder / "sheet-hsc.png", list(_own_rows(report)))


def face_points_table(points: Sequence[FacePoint]) -> pa.Table:
    """Return a row a codec and setting."""
    return pa.Table.from_pylist(
        [
            {
                "codec": point.codec,
                "setting": point.setting,
                **{counted: round(point.bytes_per_face(counted), 1) for counted in COUNTED},
                **{name: _rounded(value) for name, value in point.metrics.items()},
            }
            for point in points
        ]
    )


def face_comparisons_table(comparisons: Sequence[FaceComparison]) -> pa.Table:
    """Return a row an anchor, metric and way to count bytes; a range goes from least to most alike."""
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("codec", "anchor", "metric", "counted")),
            *((name, pa.float64()) for name in ("bd_rate", "low", "high", "from_value", "to_value", "share")),
            ("reason", pa.string()),
        ]
    )
    rows = []
    for each in comparisons:
        sign = 1 if is_higher_better(each.metric) else -1
        rows.append(
            {
                "codec": OURS,
                "anchor": each.anchor,
                "metric": each.metric,
                "counted": each.counted,
                "bd_rate": _known(each.bd_rate.percent, 1),
                "low": None if each.interval is None else _known(each.interval.low, 1),
                "high": None if each.interval is None else _known(each.interval.high, 1),
                "from_value": _rounded(sign * each.bd_rate.lowest),
                "to_value": _rounded(sign * each.bd_rate.highest),
                "share": _known(each.bd_rate.share, 2),
                "reason": each.bd_rate.reason,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema)


def equal_bytes_rows(ours: FacePoint, report: FaceReport) -> Iterator[list[SheetTile]]:
    """Yield a row a shown face: original, ours, and of each anchor what it makes of as many bytes.

    That is, face by face, the anchor's setting with the most bytes that are no more than ours, containers and headers
    not counted, or its smallest if all are more.
    """
    anchors: dict[str, list[FacePoint]] = {}
    for point in report.points:
        if point.codec.split()[0] != OURS:
            anchors.setdefault(point.codec, []).append(point)
    for number, original_chw in enumerate(report.shown_nchw):
        budget = ours.shown_sizes["payload_bytes"][number]
        row = [enlarged_tile(original_chw, "original"), _tile(ours, number)]
        for points in anchors.values():
            sizes = {point.shown_sizes["payload_bytes"][number]: point for point in points}
            affordable = [size for size in sizes if size <= budget]
            row.append(_tile(sizes[max(affordable) if affordable else min(sizes)], number))
        yield row


def _own_rows(report: FaceReport) -> Iterator[list[SheetTile]]:
    ours = [point for point in report.points if point.codec.split()[0] == OURS]
    for number, original_chw in enumerate(report.shown_nchw):
        yield [enlarged_tile(original_chw, "original"), *(_tile(point, number) for point in ours)]


def _tile(point: FacePoint, number: int) -> SheetTile:
    """Return a decoded picture; under it, its bytes without container, and those of its file if they are others."""
    whole, own = point.shown_sizes["file_bytes"][number], point.shown_sizes["payload_bytes"][number]
    size = f"{own} bytes" if whole == own else f"{own} bytes, {whole} in a file"
    codec = OURS if point.codec.split()[0] == OURS else point.codec
    return enlarged_tile(point.shown_nchw[number], f"{codec} {point.setting}: {size}")


def enlarged_tile(rgb_chw: Tensor, caption: str) -> SheetTile:
    """Return a picture, uint8 [3, H, W], enlarged by a whole factor and not smoothed."""
    picture = Image.fromarray(np.ascontiguousarray(rgb_chw.permute(1, 2, 0).numpy()))
    factor = max(1, -(-LEAST_TILE // picture.width))
    size = (factor * picture.width, factor * picture.height)
    return SheetTile(picture=picture.resize(size, Image.Resampling.NEAREST), caption=caption)


def write_sheet(path: Path, rows: Sequence[Sequence[SheetTile]]) -> None:
    """Draw rows of equal length as a PNG; one that lies there is replaced."""
    temporary = path.with_suffix(".tmp")
    draw_sheet([tile for row in rows for tile in row], num_columns=len(rows[0])).save(temporary, format="PNG")
    put_in_place(temporary, path)


def _panels(points: Sequence[FacePoint]) -> list[Panel]:
    """Return a panel a metric; the rate is logarithmic, so what costs nothing is not on it."""
    panels = []
    for metric in points[0].metrics:
        curves: dict[str, list[tuple[float, float]]] = {}
        for point in points:
            rate = point.bytes_per_face("payload_bytes")
            if rate > 0:
                curves.setdefault(point.codec, []).append((rate, point.metrics[metric]))
        better = "higher" if is_higher_better(metric) else "lower"
        panels.append(
            Panel(
                heading=f"{metric} ({better} is better) over bytes a face",
                curves=tuple(Curve(label=codec, points=tuple(sorted(curve))) for codec, curve in curves.items()),
                level=None,
                are_curves_falling=not is_higher_better(metric),
            )
        )
    return panels


def write_csv(path: Path, table: pa.Table) -> None:
    """Write a table; one that lies there is replaced."""
    temporary = path.with_name(f"{path.name}.tmp")
    csv.write_csv(table, temporary)
    put_in_place(temporary, path)


def _rounded(value: float) -> float | None:
    """Return a metric with five digits, for they differ by orders of magnitude; None for NaN."""
    return None if math.isnan(value) else float(f"{value:.5g}")


def _known(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(value, digits)
