"""What stands on contact sheets, and in tables."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from framevault.pipeline.contact_sheet import CAPTION_HEIGHT, GAP
from framevault.pipeline.jobs.bench.face_points import FacePoint
from framevault.pipeline.jobs.bench.face_report import (
    FaceReport,
    equal_bytes_rows,
    face_points_table,
    write_face_report,
)

SHOWN_NCHW = torch.randint(0, 255, (2, 3, 64, 64), generator=torch.Generator().manual_seed(6)).to(torch.uint8)


def point(codec: str, setting: str, payload: tuple[int, int], *, header: int = 0) -> FacePoint:
    whole = (payload[0] + header, payload[1] + header)
    return FacePoint(
        codec=codec,
        setting=setting,
        sizes_n={"file_bytes": np.array(whole, np.float64), "payload_bytes": np.array(payload, np.float64)},
        metrics={"psnr_db": 24.123456, "frechet (x)": 0.000123456},
        values_n={},
        shown_nchw=SHOWN_NCHW,
        shown_sizes={"file_bytes": whole, "payload_bytes": payload},
    )


def report_of(*points: FacePoint) -> FaceReport:
    return FaceReport(title="Faces", points=points, comparisons=(), notes=(), facts={}, shown_nchw=SHOWN_NCHW)


def test_an_anchor_gets_no_more_bytes_than_ours_face_by_face() -> None:
    ours = point("hsc", "quality 4", (100, 160))
    anchors = [point("avif", f"quality {n}", sizes, header=288) for n, sizes in ((1, (90, 150)), (9, (120, 155)))]

    rows = list(equal_bytes_rows(ours, report_of(ours, *anchors)))

    assert [[tile.caption for tile in row] for row in rows] == [
        ["original", "hsc quality 4: 100 bytes", "avif quality 1: 90 bytes, 378 in a file"],
        ["original", "hsc quality 4: 160 bytes", "avif quality 9: 155 bytes, 443 in a file"],
    ]


def test_an_anchor_that_needs_more_bytes_shows_its_fewest() -> None:
    ours = point("hsc", "quality 1", (30, 40))
    anchors = [point("webp", f"quality {n}", sizes) for n, sizes in ((5, (300, 310)), (1, (200, 210)))]

    rows = list(equal_bytes_rows(ours, report_of(ours, *anchors)))

    assert [row[2].caption for row in rows] == ["webp quality 1: 200 bytes", "webp quality 1: 210 bytes"]


def test_sheets_have_a_row_a_face_and_pictures_are_enlarged_without_smoothing(tmp_path: Path) -> None:
    ours, thinned = point("hsc", "quality 4", (100, 160)), point("hsc thinned", "nothing", (0, 0))

    write_face_report(tmp_path, report_of(thinned, ours, point("webp", "quality 1", (90, 90))))

    with Image.open(tmp_path / "sheet-4.png") as sheet, Image.open(tmp_path / "sheet-hsc.png") as own:
        assert sheet.size == own.size == (GAP + 3 * (256 + GAP), GAP + 2 * (256 + CAPTION_HEIGHT + GAP))
        drawn_hwc = np.asarray(sheet.convert("RGB"))
    assert np.array_equal(drawn_hwc[GAP : GAP + 256 : 4, GAP : GAP + 256 : 4], SHOWN_NCHW[0].permute(1, 2, 0).numpy())
    assert not list(tmp_path.glob("*.tmp"))


def test_metrics_keep_five_digits_whatever_their_size() -> None:
    (row,) = face_points_table([point("hsc", "quality 4", (100, 161))]).to_pylist()

    assert row == {
        "codec": "hsc",
        "setting": "quality 4",
        "file_bytes": 130.5,
        "payload_bytes": 130.5,
        "psnr_db": 24.123,
        "frechet (x)": 0.00012346,
    }
