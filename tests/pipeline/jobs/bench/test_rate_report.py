"""Tests of what a comparison leaves: rows that can be read again, and a plot."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.rate_plot import Curve, Panel, draw_panels, ticks
from framevault.pipeline.jobs.bench.rate_points import Point, compare
from framevault.pipeline.jobs.bench.rate_report import Report, Result, open_folder, write_report
from framevault.pipeline.jobs.bench.tallies import Scored
from framevault.pipeline.jobs.train.plots import COLOURS


def point(codec: str, size: float, ap50: float) -> Point:
    return Point(
        codec=codec,
        setting=f"rate {size:g}",
        is_intra=True,
        sizes_p=np.asarray([size, size]),
        num_pixels=1000,
        scored=Scored(metrics={"ap50": ap50, "ap": ap50 / 2}, values_p={}),
    )


@pytest.fixture
def report() -> Report:
    measured = [
        point("uncompressed", 1500, 0.9),
        point("dicm intra", 10, 0.5),
        point("dicm intra", 40, 0.8),
        point("x265-intra slow", 20, 0.5),
        point("x265-intra slow", 80, 0.8),
        point("mbt2018", 80, 0.1),
    ]
    result = Result(frame_step=1, num_frames=2, num_scored=2, points=measured, comparisons=compare(measured))
    return Report(title="a clip", results=(result,), notes=("a note",), facts={"pyav": "18"})


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_written_as_csv_and_json(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path, report)

    points, rates = read_rows(tmp_path / "points.csv"), read_rows(tmp_path / "bd_rates.csv")
    assert [(row["codec"], row["setting"], row["bytes_per_frame"], row["ap50"], row["ap"]) for row in points[:3]] == [
        ("uncompressed", "rate 1500", "", "0.9", "0.45"),
        ("dicm intra", "rate 10", "10", "0.5", "0.25"),
        ("dicm intra", "rate 40", "40", "0.8", "0.4"),
    ]
    assert float(points[1]["bits_per_pixel"]) == 8 * 20 / 1000
    by_pair = {(row["anchor"], row["metric"]): row for row in rates}
    known, unknown = by_pair["x265-intra slow", "ap50"], by_pair["mbt2018", "ap"]
    assert (known["bd_rate"], known["from_accuracy"], known["to_accuracy"], known["share"]) == (
        "-50",
        "0.5",
        "0.8",
        "1",
    )
    assert (unknown["bd_rate"], unknown["reason"][:29]) == ("", "the anchor has 1 settings of ")
    members = json.loads((tmp_path / "report.json").read_text())
    assert (members["title"], members["notes"], members["pyav"]) == ("a clip", ["a note"], "18")
    assert len(members["points"]) == 6
    assert members["bd_rates"][-1]["bd_rate"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bd_rates.csv", "plot.png", "points.csv", "report.json"]


def test_an_earlier_measurement_is_replaced(report: Report, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("old")

    write_report(tmp_path, report)

    assert len(read_rows(tmp_path / "points.csv")) == 6


def test_a_panel_a_metric_is_drawn_and_higher_accuracy_stands_higher(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path, report)

    with Image.open(tmp_path / "plot.png") as picture:
        rgb_hwc = np.asarray(picture.convert("RGB"))
    colour = np.asarray([int(COLOURS[0][start : start + 2], 16) for start in (1, 3, 5)])
    middle = rgb_hwc.shape[1] // 2
    for half_hwc in (rgb_hwc[:380, :middle], rgb_hwc[:380, middle:]):
        rows, columns = np.nonzero((half_hwc == colour).all(axis=2))
        curve = rows < 300
        assert np.corrcoef(rows[curve], columns[curve])[0, 1] < -0.9


def test_a_panel_without_curves_and_one_of_a_single_point_can_be_drawn(tmp_path: Path) -> None:
    panels = [
        Panel(heading="none", curves=(), level=None),
        Panel(heading="one", curves=(Curve(label="dicm", points=((0.1, 0.5),)),), level=0.5),
        Panel(heading="level", curves=(), level=0.0),
    ]

    draw_panels(tmp_path / "plot.png", panels, title="nothing much")

    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.height > 2 * 440


def test_ticks_are_one_two_and_five() -> None:
    assert list(ticks(0.004, 0.3)) == [0.005, 0.01, 0.02, 0.05, 0.1, 0.2]


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    open_folder(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(PreflightError, match=f"--out {path}: expected a folder that can be written: "):
            open_folder(path)
