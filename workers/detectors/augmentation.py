"""Training pictures for the detector, made of random cuts of labelled ones.

::

    pictures -> cut_tile: random place, scale, aspect, mirrored -> compose_canvas: 1, 2 or 4 tiles -> vary_colours

Everything random comes from the generator that is passed in. Letters in shapes: h and w pixels, K boxes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from framevault.workers.detectors.training import Annotation, BlindArea

LEAST_VISIBLE_SHARE = 0.35
"""A box of which less is left is no example any more; its rest becomes a blind area."""

LEAST_SIDE = 3.0
"""Pixels: so is one that got narrower or lower than this."""

LARGEST_ZOOM = 2.6
"""A tile shows the whole picture (its short side) or up to this many times less."""

LARGEST_SCALE = 2.0
"""Pictures are enlarged at most so much, unless a tile could not be filled otherwise."""

ASPECT_CHANGE = 0.18
"""Logarithm of the largest change of the aspect ratio."""

MIRRORED_SHARE = 0.5
"""Of the tiles, unless told otherwise; 0 for objects that have another name in the mirror."""

CELL_GRID = 32
"""Tiles meet at multiples of this many pixels: positions of the network's coarsest level."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPicture:
    """A picture and what is known about it."""

    rgb_hwc: NDArray[np.uint8]
    """RGB [h, w, 3]."""
    annotation: Annotation
    """In the picture's pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """The part of a picture that a tile shows, and how large it gets."""

    left: float
    top: float
    right: float
    bottom: float
    height: int
    width: int
    is_mirrored: bool

    def place(self, boxes_k4: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes of the picture in the tile's pixels, not clipped."""
        scale_x, scale_y = self.width / (self.right - self.left), self.height / (self.bottom - self.top)
        offsets = np.array([self.left, self.top, self.left, self.top])
        placed_k4 = (boxes_k4 - offsets) * np.array([scale_x, scale_y, scale_x, scale_y])
        if self.is_mirrored:
            placed_k4 = placed_k4[:, [2, 1, 0, 3]]
            placed_k4[:, 0::2] = self.width - placed_k4[:, 0::2]
        single_k4: NDArray[np.float32] = placed_k4.astype(np.float32)
        return single_k4

    def clip(self, boxes_k4: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes cut at the tile's border; one outside gets no area."""
        limits = np.array([self.width, self.height, self.width, self.height], np.float32)
        clipped_k4: NDArray[np.float32] = boxes_k4.clip(0, limits)
        return clipped_k4


def cut_tile(
    picture: LabelledPicture,
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
    mirrored_share: float = MIRRORED_SHARE,
) -> LabelledPicture:
    """Cut a random part out of a picture and bring it to a size."""
    window = _choose_window(picture, rng, height=height, width=width, mirrored_share=mirrored_share)
    part = Image.fromarray(picture.rgb_hwc).resize(
        (width, height), Image.Resampling.BILINEAR, box=(window.left, window.top, window.right, window.bottom)
    )
    rgb_hwc = np.asarray(part)
    rgb_hwc = rgb_hwc[:, ::-1] if window.is_mirrored else rgb_hwc
    return LabelledPicture(rgb_hwc=rgb_hwc, annotation=_place_annotation(picture.annotation, window))


def _choose_window(
    picture: LabelledPicture, rng: np.random.Generator, *, height: int, width: int, mirrored_share: float
) -> _Window:
    """Choose scale, aspect and place; the tile lies inside the picture."""
    picture_height, picture_width = picture.rgb_hwc.shape[:2]
    aspect = math.exp(rng.uniform(-ASPECT_CHANGE, ASPECT_CHANGE))
    smallest = max(width / picture_width / aspect, height / picture_height * aspect)
    largest = max(smallest, min(smallest * LARGEST_ZOOM, LARGEST_SCALE))
    # A third of the tiles show as much as can be: small objects are the hard ones.
    is_whole = rng.random() < 1 / 3
    scale = smallest if is_whole else math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    window_width = min(picture_width, width / (scale * aspect))
    window_height = min(picture_height, height / (scale / aspect))
    left = rng.uniform(0, picture_width - window_width)
    top = rng.uniform(0, picture_height - window_height)
    return _Window(
        left=left,
        top=top,
        right=min(left + window_width, picture_width),
        bottom=min(top + window_height, picture_height),
        height=height,
        width=width,
        is_mirrored=bool(rng.random() < mirrored_share),
    )


def _place_annotation(annotation: Annotation, window: _Window) -> Annotation:
    """Bring an annotation into a tile's pixels."""
    placed_k4 = window.place(annotation.boxes_k4)
    clipped_k4 = window.clip(placed_k4)
    sides_k2 = clipped_k4[:, 2:] - clipped_k4[:, :2]
    shares_k = sides_k2.prod(axis=1) / (placed_k4[:, 2:] - placed_k4[:, :2]).prod(axis=1)
    is_example_k = (shares_k > LEAST_VISIBLE_SHARE) & (sides_k2.min(axis=1) > LEAST_SIDE)
    is_rest_k = ~is_example_k & (sides_k2.prod(axis=1) > 0)
    rests = [
        BlindArea(first_label=int(label), end_label=int(label) + 1, box=_whole_pixels(box), weight=0.0)
        for box, label in zip(clipped_k4[is_rest_k], annotation.labels_k[is_rest_k], strict=True)
    ]
    areas = [_place_area(area, window) for area in annotation.blind_areas]
    return Annotation(
        boxes_k4=clipped_k4[is_example_k],
        labels_k=annotation.labels_k[is_example_k],
        weights_k=annotation.weights_k[is_example_k],
        blind_areas=(*rests, *areas),
    )


def _place_area(area: BlindArea, window: _Window) -> BlindArea:
    (box,) = window.clip(window.place(np.array([area.box], np.float32)))
    return BlindArea(first_label=area.first_label, end_label=area.end_label, box=_whole_pixels(box), weight=area.weight)


def _whole_pixels(box: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Grow a box to whole pixels."""
    x_min, y_min, x_max, y_max = (float(x) for x in box)
    return math.floor(x_min), math.floor(y_min), math.ceil(x_max), math.ceil(y_max)


def compose_canvas(
    pick: Callable[[], LabelledPicture],
    rng: np.random.Generator,
    *,
    height: int,
    width: int,
    mirrored_share: float = MIRRORED_SHARE,
) -> LabelledPicture:
    """Fill a canvas with one, two or four tiles of the pictures that `pick` gives."""
    rgb_hwc = np.empty((height, width, 3), np.uint8)
    annotations: list[Annotation] = []
    for left, top, right, bottom in split_canvas(rng, height=height, width=width):
        tile = cut_tile(pick(), rng, height=bottom - top, width=right - left, mirrored_share=mirrored_share)
        rgb_hwc[top:bottom, left:right] = tile.rgb_hwc
        annotations.append(_shift(tile.annotation, left=left, top=top))
    return LabelledPicture(rgb_hwc=rgb_hwc, annotation=_join(annotations))


def split_canvas(rng: np.random.Generator, *, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Return the tiles of a canvas as x_min, y_min, x_max, y_max: half of the time one, else two or four."""
    x, y = (max(int(rng.uniform(0.35, 0.65) * side) // CELL_GRID * CELL_GRID, 1) for side in (width, height))
    kind = rng.random()
    if kind < 0.5:
        return [(0, 0, width, height)]
    if kind < 0.65:
        return [(0, 0, x, height), (x, 0, width, height)]
    if kind < 0.7:
        return [(0, 0, width, y), (0, y, width, height)]
    return [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]


def _shift(annotation: Annotation, *, left: int, top: int) -> Annotation:
    """Move an annotation to where its tile lies."""
    offsets = (left, top, left, top)
    areas = tuple(
        BlindArea(
            first_label=area.first_label,
            end_label=area.end_label,
            box=(area.box[0] + left, area.box[1] + top, area.box[2] + left, area.box[3] + top),
            weight=area.weight,
        )
        for area in annotation.blind_areas
    )
    return Annotation(
        boxes_k4=annotation.boxes_k4 + np.array(offsets, np.float32),
        labels_k=annotation.labels_k,
        weights_k=annotation.weights_k,
        blind_areas=areas,
    )


def _join(annotations: list[Annotation]) -> Annotation:
    return Annotation(
        boxes_k4=np.concatenate([annotation.boxes_k4 for annotation in annotations]),
        labels_k=np.concatenate([annotation.labels_k for annotation in annotations]),
        weights_k=np.concatenate([annotation.weights_k for annotation in annotations]),
        blind_areas=tuple(area for annotation in annotations for area in annotation.blind_areas),
    )


def vary_colours(rgb_hwc: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and tint at random; one picture in ten gets grey."""
    varied_hwc = rgb_hwc.astype(np.float32) * rng.uniform(0.65, 1.35)
    mean = varied_hwc.mean()
    varied_hwc = (varied_hwc - mean) * rng.uniform(0.7, 1.3) + mean
    grey_hw1 = varied_hwc.mean(axis=2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.4, 1.4)
    varied_hwc = (grey_hw1 + (varied_hwc - grey_hw1) * saturation) * rng.uniform(0.92, 1.08, 3)
    rounded_hwc: NDArray[np.uint8] = varied_hwc.clip(0, 255).astype(np.uint8)
    return rounded_hwc
