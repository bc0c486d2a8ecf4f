"""COCO files of boxes, read row by row, and whether what scores against them is installed."""

import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from framevault.pipeline.exits import PreflightError


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoImage:
    """A row of `images`."""

    row: int
    """Its position, from 0."""
    image_id: int
    """Its id in the file."""
    video: str | None
    """Name of the video that it is of, where the file tells."""
    frame_index: int | None
    """Position among a video's frames, from 0; None for pictures."""
    file_name: str | None
    """Path of a picture below the folder; None for frames of a video."""
    size: tuple[int, int] | None
    """Width and height, where the file tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoBox:
    """A row of `annotations`."""

    row: int
    """Its position, from 0."""
    image_id: int
    """Of the picture."""
    category_id: int
    """One of the file's."""
    bbox_xywh: tuple[float, float, float, float]
    """x_min, y_min, width, height in pixels."""
    area: float | None
    """Square pixels, where the file tells."""
    is_crowd: bool
    """Whether it stands around several objects that nobody told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoFile:
    """What a COCO file says of boxes."""

    path: Path
    """The file."""
    images: tuple[CocoImage, ...]
    """Its pictures or frames."""
    boxes: tuple[CocoBox, ...]
    """In them."""
    names: Mapping[int, str]
    """Of the categories, by their ids."""


def read_coco(path: Path) -> CocoFile:
    """Read a COCO file.

    Raises:
        PreflightError: It can't be read, or is no COCO file; names the row.
    """
    members = _read_json(path)
    place = "categories"
    try:
        names = {category["id"]: str(category["name"]) for category in members["categories"]}
        place = "images"
        images = []
        for row, entry in enumerate(members["images"]):
            place = f"images[{row}]"
            images.append(_read_image(row, entry))
        place = "annotations"
        boxes = []
        for row, entry in enumerate(members["annotations"]):
            place = f"annotations[{row}]"
            boxes.append(_read_box(row, entry, names))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise PreflightError(f"{path}: not a COCO file of boxes: {place}: {reason}") from error
    return CocoFile(path=path, images=tuple(images), boxes=tuple(boxes), names=names)


def require_scorer() -> None:
    """Check that average precision can be computed, before minutes are spent on what it is computed from.

    Raises:
        PreflightError: faster-coco-eval is not installed.
    """
    if importlib.util.find_spec("faster_coco_eval") is None:
        raise PreflightError(
            "average precision is computed by faster-coco-eval, which is not installed: pip install 'framevault[bench]'"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        members = json.loads(path.read_bytes())
    except OSError as error:
        raise PreflightError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise PreflightError(f"{path}: expected JSON: {error}") from error
    if not isinstance(members, dict):
        raise PreflightError(f"{path}: expected a JSON object with images, annotations and categories")
    return members


def _read_image(row: int, entry: dict[str, Any]) -> CocoImage:
    index, name = entry.get("frame_index"), entry.get("file_name")
    if index is None and name is None:
        raise ValueError(f"image {entry['id']} has neither frame_index nor file_name")
    if index is not None and (not isinstance(index, int) or index < 0):
        raise ValueError(f"image {entry['id']}: frame_index must be 0 or more, got {index!r}")
    if name is not None and (PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts):
        raise ValueError(f"image {entry['id']}: file_name must be below the folder, got {name!r}")
    size = (entry["width"], entry["height"]) if "width" in entry and "height" in entry else None
    if size is not None and not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"image {entry['id']}: width and height must be whole pixels, got {size[0]!r} x {size[1]!r}")
    return CocoImage(
        row=row,
        image_id=entry["id"],
        video=entry.get("video"),
        frame_index=index,
        file_name=None if index is not None else name,
        size=size,
    )


def _read_box(row: int, entry: dict[str, Any], names: Mapping[int, str]) -> CocoBox:
    category_id, bbox = entry["category_id"], entry["bbox"]
    if category_id not in names:
        raise ValueError(f"category_id {category_id!r} is not among the categories' ids, {', '.join(map(str, names))}")
    is_box = isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(each, int | float) for each in bbox)
    if not is_box or not all(map(math.isfinite, bbox)):
        raise ValueError(f"bbox must be x_min, y_min, width, height in pixels, got {bbox!r}")
    x_min, y_min, width, height = bbox
    return CocoBox(
        row=row,
        image_id=entry["image_id"],
        category_id=category_id,
        bbox_xywh=(x_min, y_min, width, height),
        area=entry.get("area"),
        is_crowd=bool(entry.get("iscrowd", 0)),
    )
