"""Which class each picture of a folder shows, for top-1.

Without a file of labels, the folders say it: each folder directly below the data is a class, named as the classifier
names it (`English springer`, or `English_springer`) or by its number. A JSON file says it otherwise:

    {"n01440764": 0, "n02102040": "English springer"}                    what folders stand for
    [{"file": "a/0001.jpg", "index": 0}, {"file": "b.png", "label": "tench"}]     what single pictures show
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.sources import PICTURE_SUFFIXES


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPicture:
    """A picture and what it shows."""

    path: str
    """Where it is."""
    class_id: int
    """Position among the classifier's labels."""


def load_classes(folder: Path, labels_file: Path | None, *, known: Sequence[str]) -> list[LabelledPicture]:
    """Find the labelled pictures of a folder.

    Args:
        folder: The data.
        labels_file: JSON, as above; None takes the names of the folders.
        known: The classifier's labels.

    Raises:
        PreflightError: There are no labelled pictures, one is missing, or a class is unknown; names it.
    """
    if not folder.is_dir():
        raise PreflightError(f"{folder}: expected a folder of pictures to classify")
    content = None if labels_file is None else _read_json(labels_file)
    if isinstance(content, list):
        return _from_entries(folder, content, known=known, source=labels_file)
    return _from_folders(folder, content, known=known, source=labels_file or folder)


def _from_folders(
    folder: Path, names: Mapping[str, object] | None, *, known: Sequence[str], source: Path
) -> list[LabelledPicture]:
    classes = sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if names is not None and (strangers := [name for name in classes if name not in names]):
        raise PreflightError(f"{source} does not say what the folders {_some(strangers)} of {folder} stand for")
    pictures: list[LabelledPicture] = []
    for name in classes:
        if files := _pictures_below(folder / name):
            class_id = _class_id(name if names is None else names[name], known, where=f"{source}: folder {name}")
            pictures.extend(LabelledPicture(path=file, class_id=class_id) for file in files)
    if not pictures:
        raise PreflightError(
            f"{folder}: expected a folder of pictures for each class, found no pictures in {len(classes)} folders; "
            "name a file that says what each picture shows with --labels"
        )
    return pictures


def _from_entries(
    folder: Path, entries: Sequence[object], *, known: Sequence[str], source: object
) -> list[LabelledPicture]:
    pictures: list[LabelledPicture] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "file" not in entry or not ({"index", "label"} & set(entry)):
            raise PreflightError(f"{source}: entry {number} must have file, and index or label, got {entry!s:.80}")
        name = str(entry["file"])
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise PreflightError(f"{source}: entry {number}: file must be below the folder, got {name!r}")
        class_id = _class_id(entry.get("index", entry.get("label")), known, where=f"{source}: {name}")
        pictures.append(LabelledPicture(path=str(folder / name), class_id=class_id))
    if not pictures:
        raise PreflightError(f"{source}: expected labelled pictures, got none")
    if missing := [picture.path for picture in pictures if not os.path.isfile(picture.path)]:
        raise PreflightError(
            f"{source}: {len(missing)} of {len(pictures)} pictures are not there, such as {missing[0]}"
        )
    return pictures


def _class_id(name: object, known: Sequence[str], *, where: str) -> int:
    """Return the number of a class that is given by number or name."""
    if isinstance(name, str) and name.isascii() and name.isdigit():
        name = int(name)
    if isinstance(name, int) and not isinstance(name, bool):
        if not 0 <= name < len(known):
            raise PreflightError(f"{where}: class numbers are 0 to {len(known) - 1}, got {name}")
        return name
    wanted = _plain(str(name))
    found = [number for number, label in enumerate(known) if _plain(label) == wanted]
    if len(found) > 1:
        raise PreflightError(f"{where}: {name!r} is the name of classes {found[0]} and {found[1]}: give the number")
    if not found:
        raise PreflightError(
            f"{where}: {name!r} is none of the classifier's {len(known)} classes, such as {known[0]!r}: name a file "
            "that says which number or name it stands for with --labels"
        )
    return found[0]


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()


def _pictures_below(folder: Path) -> list[str]:
    return sorted(
        str(path) for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."
    )


def _read_json(path: Path) -> Mapping[str, object] | list[object]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise PreflightError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise PreflightError(f"{path}: expected JSON: {error}") from error
    if not isinstance(content, dict | list):
        raise PreflightError(f"{path}: expected an object of folders or a list of pictures")
    if isinstance(content, dict) and "annotations" in content:
        raise PreflightError(f"{path}: these are boxes, which --task detect scores; expected the classes of pictures")
    return content


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
