"""Curves of accuracy over rate as a PNG, drawn with Pillow; the rate is logarithmic.

::

    [ panel ] [ panel ]
    [ panel ] [ panel ]
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from framevault.pipeline.jobs.train.plots import COLOURS
from framevault.pipeline.jobs.train.saved_state import put_in_place

PANEL = (620, 440)
"""Width and height of one panel, in pixels."""

COLUMNS = 2
"""Panels beside one another."""

MARGIN_LEFT, MARGIN_TOP, MARGIN_RIGHT, MARGIN_BOTTOM = 60, 50, 20, 40
"""Around a panel's axes, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One codec."""

    label: str
    """Its name."""
    points: tuple[tuple[float, float], ...]
    """Rates, all positive, and accuracies, by rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes."""

    heading: str
    """What stands above it."""
    curves: tuple[Curve, ...]
    """Its curves."""
    level: float | None
    """The accuracy of frames that were not compressed, a line across; None draws none."""
    are_curves_falling: bool = False
    """Whether the room for the curves' names is at the upper right, not the lower."""


def draw_panels(path: Path, panels: Sequence[Panel], *, title: str) -> None:
    """Draw panels into a PNG; one that lies there is replaced."""
    columns = min(COLUMNS, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    picture = Image.new("RGB", (PANEL[0] * columns, 24 + PANEL[1] * rows), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((8, 6), title, fill="black", font=ImageFont.load_default(13))
    for number, panel in enumerate(panels):
        origin = (number % columns * PANEL[0], 24 + number // columns * PANEL[1])
        _Axes(draw, panel, origin=origin).draw()
    temporary = path.with_suffix(".tmp")
    picture.save(temporary, format="PNG")
    put_in_place(temporary, path)


def ticks(low: float, high: float) -> Iterator[float]:
    """Yield the values 1, 2 and 5 times a power of ten in a range of positive numbers."""
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in (1, 2, 5):
            # Read from text: products of powers of ten are not round.
            value = float(f"{digit}e{exponent}")
            if low <= value <= high:
                yield value


class _Axes:
    """A panel's axes and what is drawn between them."""

    def __init__(self, draw: ImageDraw.ImageDraw, panel: Panel, *, origin: tuple[int, int]) -> None:
        self._draw, self._panel = draw, panel
        self._left, self._top = origin[0] + MARGIN_LEFT, origin[1] + MARGIN_TOP
        self._right = origin[0] + PANEL[0] - MARGIN_RIGHT
        self._bottom = origin[1] + PANEL[1] - MARGIN_BOTTOM
        rates = [rate for curve in panel.curves for rate, _ in curve.points] or [1.0]
        levels = [] if panel.level is None else [panel.level]
        values = [value for curve in panel.curves for _, value in curve.points] + levels or [0.0, 1.0]
        self._rates = (min(rates) / 1.2, max(rates) * 1.2)
        room = 0.05 * (max(values) - min(values)) or 0.05
        self._values = (min(values) - room, max(values) + room)
        self._font = ImageFont.load_default(11)

    def draw(self) -> None:
        """Draw everything."""
        self._draw.text((self._left, self._top - 18), self._panel.heading, "black", self._font)
        self._draw_grid()
        if self._panel.level is not None:
            y = self._y(self._panel.level)
            for x in range(self._left, self._right, 10):
                self._draw.line((x, y, x + 5, y), fill="#555555")
            self._draw.text((self._left + 4, y - 2), "uncompressed", "#555555", self._font, anchor="ls")
        for number, curve in enumerate(self._panel.curves):
            self._draw_curve(curve, colour=COLOURS[number % len(COLOURS)], row=len(self._panel.curves) - number)
        self._draw.rectangle((self._left, self._top, self._right, self._bottom), outline="black")

    def _draw_grid(self) -> None:
        for rate in ticks(*self._rates):
            x = self._x(rate)
            self._draw.line((x, self._top, x, self._bottom), fill="#dddddd")
            self._draw.text((x, self._bottom + 6), f"{rate:g}", "black", self._font, anchor="ma")
        low, high = self._values
        step = 10 ** math.floor(math.log10(high - low))
        step = next(one for one in (step / 10, step / 5, step / 2, step, 2 * step) if (high - low) / one <= 8)
        for number in range(math.ceil(low / step), math.floor(high / step) + 1):
            y = self._y(number * step)
            self._draw.line((self._left, y, self._right, y), fill="#dddddd")
            self._draw.text((self._left - 6, y), f"{number * step:.4g}", "black", self._font, anchor="rm")

    def _draw_curve(self, curve: Curve, *, colour: str, row: int) -> None:
        """Draw a curve, and its name at the right, where curves leave room."""
        places = [(self._x(rate), self._y(value)) for rate, value in curve.points]
        if len(places) > 1:
            self._draw.line(places, fill=colour, width=2)
        for x, y in places:
            self._draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        top = self._bottom - 14 * row
        if self._panel.are_curves_falling:
            top = self._top + 6 + 14 * (len(self._panel.curves) - row)
        self._draw.text((self._right - 6, top), curve.label, colour, self._font, anchor="ra")

    def _x(self, rate: float) -> float:
        low, high = map(math.log, self._rates)
        return self._left + (math.log(rate) - low) / (high - low) * (self._right - self._left)

    def _y(self, value: float) -> float:
        low, high = self._values
        return self._bottom - (value - low) / (high - low) * (self._bottom - self._top)
