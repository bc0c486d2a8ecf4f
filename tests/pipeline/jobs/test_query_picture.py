"""The picture that a search begins with."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.query_picture import read_picture


def test_a_picture_is_turned_as_its_exif_orientation_says(tmp_path: Path) -> None:
    rgb_hwc = np.zeros((4, 6, 3), np.uint8)
    rgb_hwc[0, 0] = (255, 128, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned by 90 degrees, clockwise.
    Image.fromarray(rgb_hwc).save(tmp_path / "photo.png", exif=exif)

    frame_1hwc = read_picture(str(tmp_path / "photo.png"))

    assert np.array_equal(frame_1hwc[0], np.rot90(rgb_hwc, -1))


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("text")

    with pytest.raises(PreflightError, match=r"photo\.jpg can't be read"):
        read_picture(str(tmp_path / "photo.jpg"))
