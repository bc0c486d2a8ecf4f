"""Contact sheets: every picture in its place."""

import numpy as np
import pytest
from PIL import Image

from framevault.pipeline.contact_sheet import BACKGROUND, SheetTile, choose_columns, draw_sheet


def tile(colour: tuple[int, int, int], *, width: int = 30, height: int = 20, caption: str = "") -> SheetTile:
    return SheetTile(picture=Image.new("RGB", (width, height), colour), caption=caption)


def test_pictures_lie_row_by_row() -> None:
    sheet = draw_sheet([tile((200, 0, 0)), tile((0, 200, 0)), tile((0, 0, 200))], num_columns=2)

    assert sheet.size == (4 + 2 * 34, 4 + 2 * 40)
    assert [sheet.getpixel(point) for point in ((5, 5), (40, 5), (5, 45))] == [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    assert sheet.getpixel((40, 45)) == BACKGROUND


def test_a_smaller_picture_stands_at_its_cell_s_foot_in_the_middle() -> None:
    sheet = draw_sheet([tile((200, 0, 0)), tile((0, 200, 0), width=10, height=10)], num_columns=2)

    assert sheet.getpixel((38 + 9, 4 + 15)) == BACKGROUND
    assert sheet.getpixel((38 + 10, 4 + 10)) == (0, 200, 0)
    assert sheet.getpixel((38 + 10, 4 + 9)) == BACKGROUND


def test_a_caption_stays_within_its_cell() -> None:
    tiles = [tile((0, 0, 0), caption="a very long name of a video 12.00 s"), tile((0, 0, 0), caption="")]

    rows_hwc = np.array(draw_sheet(tiles, num_columns=2))[24:]

    assert (rows_hwc[:, :34] != BACKGROUND).any()
    assert (rows_hwc[:, 38:] == BACKGROUND).all()


def test_a_sheet_is_wider_than_high() -> None:
    assert [choose_columns(number) for number in (1, 5, 6, 24, 96)] == [1, 3, 3, 6, 12]


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a sheet needs a picture at least"):
        draw_sheet([], num_columns=2)
