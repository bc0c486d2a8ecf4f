"""Tests of which class each picture shows."""

import json
from pathlib import Path

import pytest

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.class_labels import load_classes
from tests.media import make_pictures

KNOWN = ("tench", "English springer", "crane", "gas pump", "crane")


def folders(tmp_path: Path, *names: str) -> Path:
    """Folders of two pictures each."""
    for name in names:
        make_pictures(tmp_path / "data" / name, sizes=[(8, 8)] * 2)
    return tmp_path / "data"


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_folders_are_named_as_classes_or_by_their_numbers(tmp_path: Path) -> None:
    data = folders(tmp_path, "english_Springer", "3", "tench/deeper", ".hidden")

    found = load_classes(data, None, known=KNOWN)

    assert [(Path(picture.path).relative_to(data).as_posix(), picture.class_id) for picture in found] == [
        ("3/000.png", 3),
        ("3/001.png", 3),
        ("english_Springer/000.png", 1),
        ("english_Springer/001.png", 1),
        ("tench/deeper/000.png", 0),
        ("tench/deeper/001.png", 0),
    ]


def test_a_file_says_what_folders_stand_for(tmp_path: Path) -> None:
    data = folders(tmp_path, "n01440764", "n02102040")

    found = load_classes(data, write(tmp_path, {"n01440764": 0, "n02102040": "English springer"}), known=KNOWN)

    assert [picture.class_id for picture in found] == [0, 0, 1, 1]


def test_a_file_says_what_single_pictures_show(tmp_path: Path) -> None:
    data = folders(tmp_path, "all")
    labels = write(tmp_path, [{"file": "all/001.png", "index": 4}, {"file": "all/000.png", "label": "gas pump"}])

    found = load_classes(data, labels, known=KNOWN)

    assert [(Path(picture.path).name, picture.class_id) for picture in found] == [("001.png", 4), ("000.png", 3)]


@pytest.mark.parametrize(
    ("names", "content", "message"),
    [
        (("n01440764",), None, "'n01440764' is none of the classifier's 5 classes, such as 'tench': name a file"),
        (("5",), None, "class numbers are 0 to 4, got 5"),
        (("crane",), None, "'crane' is the name of classes 2 and 4: give the number"),
        (("a", "b"), {"a": 0}, "does not say what the folders b of"),
        (("a",), {"a": -1}, "class numbers are 0 to 4, got -1"),
        (("a",), {"a": True}, "'True'|True is none of the classifier's 5 classes"),
        (("a",), [], "expected labelled pictures, got none"),
        (("a",), [{"file": "a/000.png"}], "entry 0 must have file, and index or label"),
        (("a",), ["a/000.png"], "entry 0 must have file"),
        (("a",), [{"file": "../000.png", "index": 0}], "file must be below the folder, got '../000.png'"),
        (("a",), [{"file": "a/0.png", "index": 0}], "1 of 1 pictures are not there, such as .*a/0.png"),
        (("a",), 3, "expected an object of folders or a list of pictures"),
        (("a",), {"images": [], "annotations": []}, "these are boxes, which --task detect scores"),
    ],
)
def test_what_does_not_label_pictures_is_refused(
    tmp_path: Path, names: tuple[str, ...], content: object, message: str
) -> None:
    data = folders(tmp_path, *names)

    with pytest.raises(PreflightError, match=message):
        load_classes(data, None if content is None else write(tmp_path, content), known=KNOWN)


def test_data_that_is_not_there_or_has_no_labels_is_named(tmp_path: Path) -> None:
    flat = make_pictures(tmp_path / "flat", sizes=[(8, 8)])

    with pytest.raises(PreflightError, match=r"none: expected a folder of pictures to classify"):
        load_classes(tmp_path / "none", None, known=KNOWN)
    with pytest.raises(PreflightError, match=r"found no pictures in 0 folders; name a file .* with --labels"):
        load_classes(flat, None, known=KNOWN)
    with pytest.raises(PreflightError, match=r"none\.json: can't be read"):
        load_classes(flat, tmp_path / "none.json", known=KNOWN)
