"""The curves of a training as a PNG, drawn with Pillow: losses, rates of all qualities, and what was measured.

[ losses over steps ] [ rates over steps, logarithmic ] [ measured: errors over bits a pixel, each by its name ]
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from framevault.pipeline.jobs.train.saved_state import put_in_place

PANEL = (520, 380)
"""Width and height of one panel, in pixels."""

MARGIN_LEFT, MARGIN_TOP, MARGIN_RIGHT, MARGIN_BOTTOM = 70, 40, 20, 45
"""Around a panel's axes, in pixels."""

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f", "#bcbd22", "#e377c2")
"""Of the lines, in turn."""

LOSS_NAMES = (
    *("loss", "finishing_loss", "features", "stage1", "stage2", "stage3", "divergence"),
    *("absolute", "squared", "perceptual", "adversarial", "discriminator", "heat", "boxes"),
)
"""Figures of the first panel, where the stage has them."""


MEASURED_NAMES = ("ap50", "feature_error", "psnr_db", "mobilenet_v2_distance", "detector_distance")
"""Measured figures that get a panel each, where there are any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a panel."""

    label: str
    """What it is."""
    points: tuple[tuple[float, float], ...]
    """Its points, from left to right."""


def draw_curves(path: Path, rows: Sequence[Mapping[str, object]], *, title: str) -> None:
    """Draw the rows of one stage's metrics."""
    training = [row for row in rows if row.get("kind") == "training"]
    rate_names = sorted({name for row in training for name in row if name.startswith("rate")})
    panels = [
        ("losses", [_over_steps(training, name) for name in LOSS_NAMES]),
        ("estimated bits a pixel", [_over_steps(training, name) for name in rate_names]),
        *((f"measured: {name.replace('_', ' ')} over bits a pixel", _measured(rows, name)) for name in MEASURED_NAMES),
    ]
    drawn = [(heading, [line for line in lines if line.points]) for heading, lines in panels]
    drawn = [(heading, lines) for heading, lines in drawn if lines]
    picture = Image.new("RGB", (PANEL[0] * max(1, len(drawn)), PANEL[1]), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((8, 4), title, fill="black", font=ImageFont.load_default(13))
    for number, (heading, lines) in enumerate(drawn):
        _Panel(draw, left=number * PANEL[0], lines=lines).draw(heading)
    temporary = path.with_suffix(".tmp")
    picture.save(temporary, format="PNG")
    put_in_place(temporary, path)


def _over_steps(rows: Sequence[Mapping[str, object]], name: str) -> Line:
    points = [(_number(row, "step"), _number(row, name)) for row in rows]
    return Line(label=name, points=tuple(point for point in points if all(map(math.isfinite, point))))


def _measured(rows: Sequence[Mapping[str, object]], name: str) -> list[Line]:
    """Return a figure's line for the start and for the last measurement."""
    measured = [row for row in rows if row.get("kind") == "validation"]
    lines = []
    for checkpoint in ("start", "trained"):
        of_kind = [row for row in measured if row.get("checkpoint") == checkpoint]
        last = [row for row in of_kind if row.get("step") == of_kind[-1].get("step")]
        points = [(_number(row, "bits_per_pixel"), _number(row, name)) for row in last]
        lines.append(Line(label=checkpoint, points=tuple(point for point in points if all(map(math.isfinite, point)))))
    return lines


def _number(row: Mapping[str, object], name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


class _Panel:
    """Axes with lines; the vertical one is logarithmic where all values are positive."""

    def __init__(self, draw: ImageDraw.ImageDraw, *, left: int, lines: Sequence[Line]) -> None:
        self._draw = draw
        self._lines = lines
        xs = [x for line in lines for x, _ in line.points]
        ys = [y for line in lines for _, y in line.points]
        self._is_log = min(ys) > 0
        self._x_range = _widen(min(xs), max(xs))
        if min(xs) >= 0:
            self._x_range = (max(0.0, self._x_range[0]), self._x_range[1])
        self._y_range = _widen(*(self._scaled(y) for y in (min(ys), max(ys))))
        self._box = (
            left + MARGIN_LEFT,
            MARGIN_TOP,
            left + PANEL[0] - MARGIN_RIGHT,
            PANEL[1] - MARGIN_BOTTOM,
        )
        self._font = ImageFont.load_default(11)

    def draw(self, heading: str) -> None:
        """Draw everything."""
        left, top, right, _ = self._box
        self._draw.rectangle(self._box, outline="black")
        self._draw.text((left, top - 16), heading + (" (logarithmic)" if self._is_log else ""), "black", self._font)
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            self._draw_ticks(share)
        for number, line in enumerate(self._lines):
            colour = COLOURS[number % len(COLOURS)]
            places = [self._place(*point) for point in line.points]
            if len(places) > 1:
                self._draw.line(places, fill=colour, width=2)
            for x, y in places if len(places) < 20 else places[-1:]:
                self._draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
            self._draw.text((right - 110, top + 5 + 14 * number), line.label, fill=colour, font=self._font)

    def _draw_ticks(self, share: float) -> None:
        left, top, right, bottom = self._box
        x, y = left + share * (right - left), bottom - share * (bottom - top)
        x_value = self._x_range[0] + share * (self._x_range[1] - self._x_range[0])
        y_value = self._y_range[0] + share * (self._y_range[1] - self._y_range[0])
        self._draw.line((left, y, right, y), fill="#dddddd" if 0 < share < 1 else "black")
        self._draw.text((x, bottom + 6), f"{x_value:.4g}", "black", self._font, anchor="ma")
        self._draw.text(
            (left - 6, y), f"{10**y_value if self._is_log else y_value:.3g}", "black", self._font, anchor="rm"
        )

    def _place(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self._box
        (x_low, x_high), (y_low, y_high) = self._x_range, self._y_range
        return (
            left + (x - x_low) / (x_high - x_low) * (right - left),
            bottom - (self._scaled(y) - y_low) / (y_high - y_low) * (bottom - top),
        )

    def _scaled(self, y: float) -> float:
        return math.log10(y) if self._is_log else y


def _widen(low: float, high: float) -> tuple[float, float]:
    """Return a range with some room at both ends, and never an empty one."""
    room = 0.05 * (high - low) or max(abs(low), 1.0) * 0.05
    return low - room, high + room
