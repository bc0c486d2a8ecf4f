"""Tests of the user's boxes: how they are checked, and found by a picture's name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from framevault.configs.run import DecodeSettings
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.train.candidates import Found, find_candidates
from framevault.pipeline.jobs.train.detector.labels import LabelBook, read_labels
from framevault.pipeline.sources import expand_inputs
from framevault.workers.limits import DecodeLimits
from tests.pipeline.jobs.train.detector.toy import (
    HEIGHT,
    NUM_PICTURES,
    WIDTH,
    make_labelled,
    read_members,
    write_members,
)


def members() -> dict[str, Any]:
    """Two pictures of 64 x 48 pixels, one of them with a cat and a crowd of dogs."""
    return {
        "images": [
            {"id": 7, "file_name": "street/a.png", "width": 64, "height": 48},
            {"id": 8, "file_name": "b.png", "width": 64, "height": 48},
        ],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "bird"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20]},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [30.5, 0, 30, 20], "iscrowd": 1},
            {"id": 3, "image_id": 8, "category_id": 1, "bbox": [40, 2, 24.6, 20]},
        ],
    }


def read(tmp_path: Path, content: dict[str, Any]) -> LabelBook:
    return read_labels(write_members(tmp_path, content))


def test_labels_are_the_categories_that_have_boxes(tmp_path: Path) -> None:
    book = read(tmp_path, members())

    assert book.labels == ("dog", "cat")
    assert [image.annotation.labels_k.tolist() for image in book.images] == [[1], [0]]


def test_boxes_have_corners_and_end_at_the_picture(tmp_path: Path) -> None:
    first, second = (image.annotation for image in read(tmp_path, members()).images)

    assert first.boxes_k4.tolist() == [[1, 2, 11, 22]]
    assert second.boxes_k4.tolist() == [[40, 2, 64, 22]]


def test_a_crowd_is_no_example_but_hides_its_area(tmp_path: Path) -> None:
    (area,) = read(tmp_path, members()).images[0].annotation.blind_areas

    assert (area.first_label, area.end_label, area.box, area.weight) == (0, 1, (30, 0, 61, 20), 0.0)


def test_boxes_go_with_the_picture_to_another_size(tmp_path: Path) -> None:
    scaled = read(tmp_path, members()).images[0].scaled_to(width=32, height=12)

    assert scaled.boxes_k4.tolist() == [[0.5, 0.5, 5.5, 5.5]]
    assert scaled.blind_areas[0].box == (15, 0, 31, 5)


@pytest.mark.parametrize(
    ("name", "row"), [("street/a.png", 0), ("city/street/a.png", 0), ("a.png", 0), ("park/a.png", None), ("b.png", 1)]
)
def test_a_picture_is_found_by_the_end_of_its_path(tmp_path: Path, name: str, row: int | None) -> None:
    image = read(tmp_path, members()).find(name)

    assert (None if image is None else image.row) == row


def test_a_name_of_two_pictures_is_refused(tmp_path: Path) -> None:
    content = members()
    content["images"][1]["file_name"] = "park/a.png"
    book = read(tmp_path, content)

    with pytest.raises(PreflightError, match=r"picture a.png could be images\[0\] \(street/a.png\) or images\[1\]"):
        book.find("a.png")


def change(place: str, number: int, **values: object) -> Callable[[dict[str, Any]], None]:
    """Return what changes a row; a value of None takes a key out."""

    def apply(content: dict[str, Any]) -> None:
        row = content[place][number] | values
        content[place][number] = {name: value for name, value in row.items() if value is not None}

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            change("annotations", 0, bbox=[60, 2, 10, 20]),
            r"annotations\[0\]: bbox \[60, 2, 10, 20\] reaches out of .* 64 x",
        ),
        (change("annotations", 2, bbox=[-2, 2, 10, 20]), r"annotations\[2\]: bbox .* reaches out"),
        (change("annotations", 1, bbox=[5, 5, 0, 20]), r"annotations\[1\]: bbox .* has no area"),
        (change("annotations", 2, image_id=99), r"annotations\[2\]: image_id 99 is no id in images"),
        (change("annotations", 2, category_id=99), r"annotations\[2\]: category_id 99 is not among .* 1, 2, 3"),
        (change("images", 1, id=7), r"images\[1\]: id 7 stands twice"),
        (change("images", 1, width=None), r"images\[1\] \(b.png\): expected width and height"),
        (change("images", 1, height=16), r"images\[1\] \(b.png\): expected at least 32 pixels a side, got 64 x 16"),
        (change("images", 1, file_name=None, frame_index=3), r"images\[1\]: expected file_name, got frame_index"),
        (lambda content: content["images"].clear(), "expected pictures in images, got none"),
        (lambda content: content["annotations"].clear(), "expected boxes in annotations, got none"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, spoil: Callable[[dict[str, Any]], None], message: str) -> None:
    content = members()
    spoil(content)

    with pytest.raises(PreflightError, match=rf"labels\.json: .*{message}"):
        read(tmp_path, content)


def find(folder: Path) -> Found:
    """Find the pictures of a folder."""
    limits = DecodeLimits(**DecodeSettings().model_dump())
    return find_candidates(expand_inputs([str(folder)]), video_fps=2, short_side=40, limits=limits)


def test_pictures_without_a_row_are_left_out(tmp_path: Path) -> None:
    folder = make_labelled(tmp_path / "toy")
    content = read_members(folder)
    content["images"] = content["images"][:3]
    content["annotations"] = content["annotations"][:6]

    chosen = read_labels(write_members(folder, content)).choose(find(folder / "pictures"))

    assert [candidate.name for candidate in chosen.candidates] == [f"pictures/{n:03d}.png" for n in range(3)]


def test_a_picture_that_is_missing_is_named_with_its_row(tmp_path: Path) -> None:
    folder = make_labelled(tmp_path / "toy")
    (folder / "pictures" / "005.png").unlink()

    with pytest.raises(PreflightError, match=rf"images\[5\] \(005.png\) is not in data; 1 of {NUM_PICTURES} pictures"):
        read_labels(folder / "labels.json").choose(find(folder / "pictures"))


def test_a_picture_that_can_not_be_read_is_not_missing(tmp_path: Path) -> None:
    folder = make_labelled(tmp_path / "toy")
    (folder / "pictures" / "005.png").write_text("Dear archive")

    chosen = read_labels(folder / "labels.json").choose(find(folder / "pictures"))

    assert len(chosen.candidates) == NUM_PICTURES - 1
    assert [each.name for each in chosen.unreadable] == ["pictures/005.png"]


def test_a_picture_of_another_size_than_the_file_says_is_refused(tmp_path: Path) -> None:
    folder = make_labelled(tmp_path / "toy")
    Image.new("RGB", (50, 60)).save(folder / "pictures" / "002.png")

    with pytest.raises(PreflightError, match=rf"images\[2\] \(002.png\) says {WIDTH} x {HEIGHT} pixels, .* 50 x 60"):
        read_labels(folder / "labels.json").choose(find(folder / "pictures"))


def test_a_picture_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = make_labelled(tmp_path / "toy")
    more = folder / "pictures" / "more"
    more.mkdir()
    (more / "001.png").write_bytes((folder / "pictures" / "001.png").read_bytes())

    with pytest.raises(PreflightError, match=r"images\[1\] \(001.png\) could be .*001.png or .*001.png of data"):
        read_labels(folder / "labels.json").choose(find(folder / "pictures"))
