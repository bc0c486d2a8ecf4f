"""Tests of reading COCO files row by row."""

import json
from pathlib import Path
from typing import Any

import pytest

from framevault.pipeline.coco import CocoFile, read_coco, require_scorer
from framevault.pipeline.exits import PreflightError


def coco_members() -> dict[str, Any]:
    """A picture with a box, and a frame of a clip with a crowd."""
    return {
        "images": [
            {"id": 7, "file_name": "a/b.png", "width": 64, "height": 48},
            {"id": 8, "video": "clip.mp4", "frame_index": 4},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "bus"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10.5, 20]},
            {"id": 2, "image_id": 8, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 5, "iscrowd": 1},
        ],
    }


def read(tmp_path: Path, members: object) -> CocoFile:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(members))
    return read_coco(path)


def test_rows_are_read_with_their_positions(tmp_path: Path) -> None:
    file = read(tmp_path, coco_members())

    assert [(image.row, image.image_id, image.file_name, image.size) for image in file.images] == [
        (0, 7, "a/b.png", (64, 48)),
        (1, 8, None, None),
    ]
    assert (file.images[1].video, file.images[1].frame_index) == ("clip.mp4", 4)
    assert [(box.row, box.image_id, file.names[box.category_id], box.bbox_xywh) for box in file.boxes] == [
        (0, 7, "bus", (1, 2, 10.5, 20)),
        (1, 8, "person", (1, 2, 30, 20)),
    ]
    assert [(box.area, box.is_crowd) for box in file.boxes] == [(None, False), (5, True)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "none"}, "images"),
        ({"images": [{"id": 7}]}, r"images\[0\]: image 7 has neither frame_index nor file_name"),
        ({"images": [{"id": 7, "file_name": "a", "width": "64", "height": 48}]}, r"images\[0\]: image 7: width and"),
        ({"images": [{"file_name": "a", "frame_index": -1}]}, r"images\[0\]: KeyError: 'id'"),
        (
            {"annotations": [{"image_id": 7, "category_id": 9, "bbox": [0, 0, 1, 1]}]},
            "category_id 9 is not among .* 1, 3",
        ),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1]}]}, r"annotations\[0\]: bbox must be"),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, r"annotations\[0\]: KeyError: 'bbox'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(PreflightError, match=rf"labels\.json: not a COCO file of boxes: .*{message}"):
        read(tmp_path, {**coco_members(), **changes})


def test_a_box_with_values_that_are_no_numbers_is_named(tmp_path: Path) -> None:
    members = coco_members()
    members["annotations"][1]["bbox"][2] = float("nan")

    with pytest.raises(PreflightError, match=r"annotations\[1\]: bbox must be .* got \[1, 2, nan, 20\]"):
        read(tmp_path, members)


def test_without_the_scorer_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(PreflightError, match=r"faster-coco-eval, which is not installed: pip install"):
        require_scorer()
