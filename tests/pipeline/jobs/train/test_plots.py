"""Curves are drawn from whatever rows there are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framevault.pipeline.jobs.train.plots import COLOURS, PANEL, draw_curves


def training_rows(num: int) -> list[dict[str, object]]:
    return [
        {"kind": "training", "step": n, "loss": 2.0 / (n + 1), "rate_q1": 0.1 + n, "rate_bpp": None} for n in range(num)
    ]


def has_colour(picture: Image.Image, colour: str) -> bool:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.asarray(picture) == wanted).all(axis=2).any())


def test_each_kind_of_row_gets_a_panel_and_each_figure_a_line(tmp_path: Path) -> None:
    measured = [
        {"kind": "validation", "checkpoint": name, "step": step, "bits_per_pixel": q / 10, "feature_error": 1 / q}
        for name, step in (("start", 0), ("trained", 3))
        for q in (1, 2, 3)
    ]

    draw_curves(tmp_path / "codec.png", [*training_rows(4), *measured], title="codec")

    with Image.open(tmp_path / "codec.png") as picture:
        assert picture.size == (3 * PANEL[0], PANEL[1])
        assert has_colour(picture, COLOURS[0])
        assert has_colour(picture.crop((2 * PANEL[0], 0, 3 * PANEL[0], PANEL[1])), COLOURS[1])
    assert [path.name for path in tmp_path.iterdir()] == ["codec.png"]


def test_every_measured_figure_has_a_panel_of_its_own(tmp_path: Path) -> None:
    row = {"kind": "validation", "checkpoint": "trained", "step": 3, "psnr_db": 25.0, "mobilenet_v2_distance": 0.5}

    draw_curves(tmp_path / "joint.png", [{**row, "bits_per_pixel": bpp} for bpp in (0.1, 0.2)], title="joint")

    with Image.open(tmp_path / "joint.png") as picture:
        assert picture.size == (2 * PANEL[0], PANEL[1])


@pytest.mark.parametrize(
    "rows", [[], [{"kind": "training", "step": 1, "loss": 2.0}], [{"kind": "training", "step": 1, "loss": 0.0}]]
)
def test_few_rows_or_zeros_are_no_trouble(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    draw_curves(tmp_path / "codec.png", rows, title="codec")

    with Image.open(tmp_path / "codec.png") as picture:
        assert picture.size == PANEL
