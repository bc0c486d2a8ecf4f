"""Boxes that people drew, from a COCO file, made ready to be scored against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framevault.pipeline.coco import CocoFile, read_coco
from framevault.pipeline.exits import PreflightError


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthImage:
    """One picture or frame with boxes, or known to have none."""

    image_id: int
    """Its id in the file."""
    frame_index: int | None
    """Position among a video's frames, from 0; None for pictures."""
    file_name: str | None
    """Path of a picture below the folder; None for frames of a video."""
    size: tuple[int, int] | None
    """Width and height, where the file tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A COCO file of some pictures."""

    path: Path
    """The file."""
    images: tuple[TruthImage, ...]
    """Its pictures; only these are scored."""
    labels: tuple[str, ...]
    """Names of its categories."""
    coco: dict[str, Any]
    """images, annotations and categories, as they are scored."""

    @property
    def is_video(self) -> bool:
        """Whether the pictures are frames of a video."""
        return self.images[0].frame_index is not None


def load_truth(path: Path, *, video_name: str, merge: Mapping[str, str]) -> Truth:
    """Read a COCO file.

    Entries of `images` name frames by `frame_index` or pictures by `file_name`. Where they also name a `video`, only
    those of `video_name` are taken.

    Args:
        path: The file.
        video_name: Name of the video, without folders.
        merge: Categories whose boxes count as another category's, such as bus as vehicle.

    Raises:
        PreflightError: The file can't be read, is no COCO file, or has none of what is asked for.
    """
    file = read_coco(path)
    images = tuple(
        TruthImage(image_id=image.image_id, frame_index=image.frame_index, file_name=image.file_name, size=image.size)
        for image in file.images
        if image.video in (None, video_name)
    )
    if not images:
        raise PreflightError(
            f"{path}: expected entries in images (of video {video_name}, where they name one), got none"
        )
    if len({image.frame_index is None for image in images}) > 1:
        raise PreflightError(f"{path}: expected frame_index in all entries of images or in none")
    coco = {
        "images": [{"id": image.image_id} for image in images],
        "categories": [{"id": number, "name": name} for number, name in file.names.items()],
        "annotations": _annotations(file, images, merge=_known(file, merge)),
    }
    return Truth(path=path, images=images, labels=tuple(file.names.values()), coco=coco)


def keep_labels(truth: Truth, labels: Sequence[str]) -> dict[str, Any]:
    """Return the COCO file with only these labels' categories and boxes."""
    numbers = {one["id"] for one in truth.coco["categories"] if one["name"] in labels}
    return {
        "images": truth.coco["images"],
        "categories": [one for one in truth.coco["categories"] if one["id"] in numbers],
        "annotations": [one for one in truth.coco["annotations"] if one["category_id"] in numbers],
    }


def _annotations(file: CocoFile, images: Sequence[TruthImage], *, merge: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the boxes of the pictures; COCO's evaluation wants `area` and `iscrowd` in each."""
    numbers = {name: number for number, name in file.names.items()}
    chosen = {image.image_id for image in images}
    found: list[dict[str, Any]] = []
    for box in file.boxes:
        if box.image_id in chosen:
            name = file.names[box.category_id]
            _, _, width, height = box.bbox_xywh
            found.append(
                {
                    "id": len(found) + 1,
                    "image_id": box.image_id,
                    "category_id": numbers[merge.get(name, name)],
                    "bbox": list(box.bbox_xywh),
                    "area": width * height if box.area is None else box.area,
                    "iscrowd": int(box.is_crowd),
                }
            )
    return found


def _known(file: CocoFile, merge: Mapping[str, str]) -> Mapping[str, str]:
    known = file.names.values()
    if unknown := sorted({*merge, *merge.values()} - {*known}):
        raise PreflightError(f"{file.path}: --merge names {', '.join(unknown)}; its labels are {', '.join(known)}")
    return merge
