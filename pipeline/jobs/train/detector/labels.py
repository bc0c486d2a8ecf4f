"""The user's boxes: read from a COCO file, checked row by row, and found again by a picture's name.

Letters in shapes: K boxes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from framevault.pipeline.coco import CocoBox, CocoFile, CocoImage, read_coco
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.candidates import LEAST_SIDE, Candidate, Found
from framevault.workers.detectors.training import Annotation, BlindArea

OUTSIDE_PX = 1.0
"""Boxes may reach so far out of their picture, and are cut: tools round in different ways."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledImage:
    """One picture of the label file."""

    row: int
    """Its position in `images`."""
    file_name: str
    """Its path in the file."""
    width: int
    """In pixels, as the file tells."""
    height: int
    """In pixels, as the file tells."""
    annotation: Annotation
    """In these pixels; boxes around crowds are blind areas."""

    @property
    def place(self) -> str:
        """Says which row it is."""
        return f"images[{self.row}] ({self.file_name})"

    def scaled_to(self, *, width: int, height: int) -> Annotation:
        """Return what is known of it, in the pixels of another size."""
        factors = np.tile(np.array([width / self.width, height / self.height], np.float32), 2)
        areas = (
            BlindArea(
                first_label=area.first_label,
                end_label=area.end_label,
                box=_whole_pixels(np.array(area.box) * factors),
                weight=area.weight,
            )
            for area in self.annotation.blind_areas
        )
        return Annotation(
            boxes_k4=self.annotation.boxes_k4 * factors,
            labels_k=self.annotation.labels_k,
            weights_k=self.annotation.weights_k,
            blind_areas=tuple(areas),
        )


class LabelBook:
    """All labelled pictures of a file, found by their names."""

    def __init__(self, path: Path, labels: tuple[str, ...], images: Sequence[LabelledImage]) -> None:
        """Remember them."""
        self.path = path
        """The file."""
        self.labels = labels
        """Names of the categories that have boxes, in the file's order."""
        self.images = tuple(images)
        """In the file's order."""
        self._by_last: dict[str, list[LabelledImage]] = {}
        for image in self.images:
            self._by_last.setdefault(PurePosixPath(image.file_name).name, []).append(image)

    def find(self, name: str) -> LabelledImage | None:
        """Return the picture of a name, or of the end of its path; None if the file does not know it.

        Raises:
            PreflightError: The file has several.
        """
        found = [image for image in self._by_last.get(PurePosixPath(name).name, []) if _is_same(image.file_name, name)]
        if len(found) > 1:
            places = " or ".join(image.place for image in found)
            raise PreflightError(f"{self.path}: picture {name} could be {places}")
        return found[0] if found else None

    def choose(self, found: Found) -> Found:
        """Return the pictures that the file knows.

        Raises:
            PreflightError: One that the file names is missing, of another size, or there twice.
        """
        chosen: dict[int, Candidate] = {}
        for candidate in found.candidates:
            image = self.find(candidate.name)
            if image is None:
                continue
            if image.row in chosen:
                names = f"{chosen[image.row].name} or {candidate.name}"
                raise PreflightError(f"{self.path}: {image.place} could be {names} of data")
            self._check_size(image, candidate)
            chosen[image.row] = candidate
        self._check_complete(found, chosen.keys())
        return Found(candidates=tuple(chosen.values()), unreadable=found.unreadable)

    def _check_size(self, image: LabelledImage, candidate: Candidate) -> None:
        size = candidate.segment.display_width, candidate.segment.display_height
        if size != (image.width, image.height):
            raise PreflightError(
                f"{self.path}: {image.place} says {image.width} x {image.height} pixels, the picture has "
                f"{size[0]} x {size[1]}"
            )

    def _check_complete(self, found: Found, rows: Collection[int]) -> None:
        unreadable = [self.find(each.name) for each in found.unreadable]
        missing = [image for image in self.images if image.row not in rows and image not in unreadable]
        if missing:
            raise PreflightError(
                f"{self.path}: {missing[0].place} is not in data; {len(missing)} of {len(self.images)} pictures are "
                "missing"
            )


def read_labels(path: Path) -> LabelBook:
    """Read a COCO file to learn from.

    Raises:
        PreflightError: It can't be read, names no pictures, or a row is wrong; names the row.
    """
    file = read_coco(path)
    if not file.images:
        raise PreflightError(f"{path}: expected pictures in images, got none")
    used = {box.category_id for box in file.boxes if not box.is_crowd}
    if not used:
        raise PreflightError(f"{path}: expected boxes in annotations, got none")
    labels = tuple(dict.fromkeys(name for number, name in file.names.items() if number in used))
    boxes = _group_boxes(file)
    images = [_read_image(file, image, boxes[image.image_id], labels) for image in file.images]
    return LabelBook(path, labels, images)


def _group_boxes(file: CocoFile) -> dict[int, list[CocoBox]]:
    """Return the boxes of each picture by its id."""
    boxes: dict[int, list[CocoBox]] = {}
    for image in file.images:
        if image.image_id in boxes:
            raise PreflightError(f"{file.path}: images[{image.row}]: id {image.image_id} stands twice")
        boxes[image.image_id] = []
    for box in file.boxes:
        if box.image_id not in boxes:
            raise PreflightError(f"{file.path}: annotations[{box.row}]: image_id {box.image_id} is no id in images")
        boxes[box.image_id].append(box)
    return boxes


def _read_image(file: CocoFile, image: CocoImage, boxes: Sequence[CocoBox], labels: Sequence[str]) -> LabelledImage:
    place = f"{file.path}: images[{image.row}]"
    if image.file_name is None:
        raise PreflightError(f"{place}: expected file_name, got frame_index: frames of videos have to be pictures")
    if image.size is None:
        raise PreflightError(f"{place} ({image.file_name}): expected width and height in pixels, got none")
    width, height = image.size
    if min(width, height) < LEAST_SIDE:
        raise PreflightError(
            f"{place} ({image.file_name}): expected at least {LEAST_SIDE} pixels a side, got {width} x {height}"
        )
    corners = {box.row: _corners(file, box, width=width, height=height) for box in boxes}
    examples = [box for box in boxes if not box.is_crowd]
    return LabelledImage(
        row=image.row,
        file_name=image.file_name,
        width=width,
        height=height,
        annotation=Annotation(
            boxes_k4=np.array([corners[box.row] for box in examples], np.float32).reshape(-1, 4),
            labels_k=np.array([labels.index(file.names[box.category_id]) for box in examples], np.int64),
            weights_k=np.ones(len(examples), np.float32),
            blind_areas=tuple(
                _crowd(corners[box.row], labels.index(file.names[box.category_id]))
                for box in boxes
                if box.is_crowd and file.names[box.category_id] in labels
            ),
        ),
    )


def _crowd(corners: Sequence[float], label: int) -> BlindArea:
    """Return where it is not taught that there is nothing of a label."""
    return BlindArea(first_label=label, end_label=label + 1, box=_whole_pixels(np.array(corners)), weight=0.0)


def _corners(file: CocoFile, box: CocoBox, *, width: int, height: int) -> tuple[float, float, float, float]:
    """Return x_min, y_min, x_max, y_max of a box that lies in its picture."""
    x, y, box_width, box_height = box.bbox_xywh
    place = f"{file.path}: annotations[{box.row}]: bbox {list(box.bbox_xywh)}"
    if box_width <= 0 or box_height <= 0:
        raise PreflightError(f"{place} has no area")
    if min(x, y) < -OUTSIDE_PX or x + box_width > width + OUTSIDE_PX or y + box_height > height + OUTSIDE_PX:
        raise PreflightError(f"{place} reaches out of its picture of {width} x {height} pixels")
    return max(x, 0.0), max(y, 0.0), min(x + box_width, float(width)), min(y + box_height, float(height))


def _is_same(one: str, other: str) -> bool:
    """Whether one path is the end of the other."""
    parts, others = PurePosixPath(one).parts, PurePosixPath(other).parts
    length = min(len(parts), len(others))
    return parts[-length:] == others[-length:]


def _whole_pixels(corners_4: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Grow a box to whole pixels."""
    x_min, y_min = np.floor(corners_4[:2]).astype(int).tolist()
    x_max, y_max = np.ceil(corners_4[2:]).astype(int).tolist()
    return x_min, y_min, x_max, y_max
