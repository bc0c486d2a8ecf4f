"""Many small pictures on one, with captions: what people look at to judge a vault, a rate or an edit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

GAP = 4
"""Pixels between pictures, and around them."""

CAPTION_HEIGHT = 16
"""Pixels of a line of text."""

FONT_SIZE = 11
"""Pixels; Pillow's own font, which needs no file."""

BACKGROUND, INK = (24, 24, 24), (220, 220, 220)
"""Dark, so that no picture looks darker than it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetTile:
    """One picture of a sheet."""

    picture: Image.Image
    """Of any size."""
    caption: str
    """One line below it; cut where there is no room."""


def draw_sheet(tiles: Sequence[SheetTile], *, num_columns: int) -> Image.Image:
    """Return a sheet: row by row, every cell as large as the largest picture."""
    if not tiles:
        raise ValueError("a sheet needs a picture at least")
    width = max(tile.picture.width for tile in tiles)
    height = max(tile.picture.height for tile in tiles)
    num_rows = -(-len(tiles) // num_columns)
    row_height = height + CAPTION_HEIGHT + GAP
    sheet = Image.new("RGB", (GAP + num_columns * (width + GAP), GAP + num_rows * row_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, num_columns)
        left, top = GAP + column * (width + GAP), GAP + row * row_height
        sheet.paste(tile.picture, (left + (width - tile.picture.width) // 2, top + height - tile.picture.height))
        draw.text((left, top + height + 1), _fit(tile.caption, draw, font, width), fill=INK, font=font)
    return sheet


def choose_columns(num_tiles: int) -> int:
    """Return how many columns make a sheet about three wide to two high."""
    return max(1, round(math.sqrt(num_tiles * 1.5)))


def _fit(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """Return as much of the end of a text as fits: a frame's number stands there."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(f"..{text}", font=font) > width:
        text = text[1:]
    return f"..{text}"
