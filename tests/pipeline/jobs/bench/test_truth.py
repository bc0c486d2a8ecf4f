"""Tests of reading COCO files of boxes."""

import json
from pathlib import Path
from typing import Any

import pytest

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.truth import Truth, keep_labels, load_truth


def coco_members() -> dict[str, Any]:
    """A person in frame 0 of a clip, a bus in frame 4, and a frame of another clip."""
    return {
        "images": [
            {"id": 7, "video": "clip.mp4", "frame_index": 0, "width": 64, "height": 48},
            {"id": 8, "video": "clip.mp4", "frame_index": 4, "width": 64, "height": 48},
            {"id": 9, "video": "other.mp4", "frame_index": 900},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "vehicle"}, {"id": 3, "name": "bus"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20]},
            {"id": 2, "image_id": 8, "category_id": 3, "bbox": [1, 2, 30, 20]},
            {"id": 3, "image_id": 9, "category_id": 1, "bbox": [1, 2, 10, 20]},
        ],
    }


def load(tmp_path: Path, members: object, **merge: str) -> Truth:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(members))
    return load_truth(path, video_name="clip.mp4", merge=merge)


def test_frames_of_other_videos_are_left_out(tmp_path: Path) -> None:
    truth = load(tmp_path, coco_members())

    assert truth.is_video
    assert [(image.image_id, image.frame_index, image.size) for image in truth.images] == [
        (7, 0, (64, 48)),
        (8, 4, (64, 48)),
    ]
    assert [row["image_id"] for row in truth.coco["annotations"]] == [7, 8]


def test_what_coco_wants_beside_a_box_is_filled_in(tmp_path: Path) -> None:
    (first, _) = load(tmp_path, coco_members()).coco["annotations"]

    assert (first["area"], first["iscrowd"]) == (200, 0)


def test_merged_labels_count_as_the_other(tmp_path: Path) -> None:
    truth = load(tmp_path, coco_members(), bus="vehicle")

    vehicles = keep_labels(truth, ["vehicle"])

    assert [one["name"] for one in vehicles["categories"]] == ["vehicle"]
    assert [row["bbox"] for row in vehicles["annotations"]] == [[1, 2, 30, 20]]
    assert len(vehicles["images"]) == 2


def test_pictures_are_named_by_file(tmp_path: Path) -> None:
    members = {**coco_members(), "images": [{"id": 7, "file_name": "a/b.png"}], "annotations": []}

    truth = load(tmp_path, members)

    assert not truth.is_video
    assert [(image.file_name, image.size) for image in truth.images] == [("a/b.png", None)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "expected entries in images"),
        ({"images": [{"id": 1}]}, "image 1 has neither frame_index nor file_name"),
        ({"images": [{"id": 1, "frame_index": -1}]}, "frame_index must be 0 or more, got -1"),
        ({"images": [{"id": 1, "file_name": "../b.png"}]}, "file_name must be below the folder"),
        ({"images": [{"id": 1, "file_name": "/b.png"}]}, "file_name must be below the folder"),
        (
            {"images": [{"id": 1, "file_name": "b.png"}, {"id": 2, "frame_index": 0}]},
            "in all entries of images or in none",
        ),
        ({"images": "none"}, "not a COCO file of boxes"),
        ({"annotations": [{"image_id": 7, "category_id": 99, "bbox": [0, 0, 1, 1]}]}, "not a COCO file of boxes"),
    ],
)
def test_a_file_that_is_no_coco_file_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        load(tmp_path, {**coco_members(), **changes})


def test_unknown_labels_to_merge_are_named(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="--merge names lorry; its labels are person, vehicle, bus"):
        load(tmp_path, coco_members(), lorry="vehicle")


def test_a_file_that_is_missing_or_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("boxes")
    (tmp_path / "list.json").write_text("[]")

    for name, message in (("none", "can't be read"), ("text", "expected JSON"), ("list", "expected a JSON object")):
        with pytest.raises(PreflightError, match=rf"{name}\.json: {message}"):
            load_truth(tmp_path / f"{name}.json", video_name="clip.mp4", merge={})
