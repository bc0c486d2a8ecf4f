"""Boxes that people drew, from a COCO file, made ready to be scored against."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

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
    members = _read_json(path)
    try:
        entries = [one for one in members["images"] if one.get("video", video_name) == video_name]
        images = tuple(_read_image(one) for one in entries)
        names = {category["id"]: str(category["name"]) for category in members["categories"]}
        coco = {
            "images": [{"id": image.image_id} for image in images],
            "categories": [{"id": number, "name": name} for number, name in names.items()],
            "annotations": _annotations(members["annotations"], names, images, merge=_known(path, names, merge)),
        }
    except PreflightError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PreflightError(f"{path}: not a COCO file of boxes: {type(error).__name__}: {error}") from error
    if not images:
        raise PreflightError(
            f"{path}: expected entries in images (of video {video_name}, where they name one), got none"
        )
    if len({image.frame_index is None for image in images}) > 1:
        raise PreflightError(f"{path}: expected frame_index in all entries of images or in none")
    return Truth(path=path, images=images, labels=tuple(names.values()), coco=coco)


def keep_labels(truth: Truth, labels: Sequence[str]) -> dict[str, Any]:
    """Return the COCO file with only these labels' categories and boxes."""
    numbers = {one["id"] for one in truth.coco["categories"] if one["name"] in labels}
    return {
        "images": truth.coco["images"],
        "categories": [one for one in truth.coco["categories"] if one["id"] in numbers],
        "annotations": [one for one in truth.coco["annotations"] if one["category_id"] in numbers],
    }


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


def _read_image(entry: dict[str, Any]) -> TruthImage:
    index, name = entry.get("frame_index"), entry.get("file_name")
    if index is None and name is None:
        raise ValueError(f"image {entry['id']} has neither frame_index nor file_name")
    if index is not None and (not isinstance(index, int) or index < 0):
        raise ValueError(f"image {entry['id']}: frame_index must be 0 or more, got {index!r}")
    if name is not None and (PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts):
        raise ValueError(f"image {entry['id']}: file_name must be below the folder, got {name!r}")
    size = (entry["width"], entry["height"]) if "width" in entry and "height" in entry else None
    return TruthImage(image_id=entry["id"], frame_index=index, file_name=None if index is not None else name, size=size)


def _annotations(
    rows: Sequence[dict[str, Any]],
    names: Mapping[int, str],
    images: Sequence[TruthImage],
    *,
    merge: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the boxes of the pictures; COCO's evaluation wants `area` and `iscrowd` in each."""
    numbers = {name: number for number, name in names.items()}
    chosen = {image.image_id for image in images}
    found: list[dict[str, Any]] = []
    for row in rows:
        if row["image_id"] in chosen:
            name = names[row["category_id"]]
            _, _, width, height = row["bbox"]
            found.append(
                {
                    "id": len(found) + 1,
                    "image_id": row["image_id"],
                    "category_id": numbers[merge.get(name, name)],
                    "bbox": row["bbox"],
                    "area": row.get("area", width * height),
                    "iscrowd": row.get("iscrowd", 0),
                }
            )
    return found


def _known(path: Path, names: Mapping[int, str], merge: Mapping[str, str]) -> Mapping[str, str]:
    if unknown := sorted({*merge, *merge.values()} - {*names.values()}):
        raise PreflightError(f"{path}: --merge names {', '.join(unknown)}; its labels are {', '.join(names.values())}")
    return merge
