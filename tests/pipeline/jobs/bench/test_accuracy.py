"""Tests of `framevault bench accuracy`: the truth is what the detector itself finds, so that pixels must score one."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from framevault.codecs.dicm.codec import load_dicm
from framevault.codecs.spec import CodecSpec
from framevault.workers.detectors.registry import load_detector
from tests.media import VideoSpec, make_pictures, make_video
from tests.pipeline.command_line import run_command
from tests.pipeline.jobs.bench.portrait import SIDE, portrait_frames, write_portraits

pytest.importorskip("faster_coco_eval", reason="average precision needs the extra 'bench'")

NUM_FRAMES = 3


def best_face(frames_nchw: Tensor) -> list[list[float]]:
    """Return the best face of each frame as x, y, width, height."""
    detector = load_detector()
    face = detector.labels.index("face")
    features_nchw = load_dicm(CodecSpec(name="dicm")).head_features(frames_nchw)
    boxes = []
    for found in detector(features_nchw, height=SIDE, width=SIDE):
        x_min, y_min, x_max, y_max = found.boxes_xyxy[found.labels == face][0].tolist()
        boxes.append([x_min, y_min, x_max - x_min, y_max - y_min])
    return boxes


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in `pictures/`, and `labels.json` with the best face of each, there called visage."""
    folder = tmp_path_factory.mktemp("portraits")
    paths = write_portraits(folder / "pictures", NUM_FRAMES)
    members: dict[str, Any] = {
        "images": [
            {"id": 10 + n, "file_name": path.name, "width": SIDE, "height": SIDE} for n, path in enumerate(paths)
        ],
        "categories": [{"id": 3, "name": "visage"}],
        "annotations": [
            {"id": n + 1, "image_id": 10 + n, "category_id": 3, "bbox": box}
            for n, box in enumerate(best_face(portrait_frames(NUM_FRAMES)))
        ],
    }
    (folder / "labels.json").write_text(json.dumps(members))
    return folder


def test_the_best_find_scores_one_from_pixels_and_real_streams_cost_bytes(portraits: Path) -> None:
    ended = run_command(
        "bench", "accuracy", portraits / "labels.json", portraits / "pictures",
        "--labels", "face=visage", "--qualities", "1,8", "--format", "json",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    pixels, lowest, highest = (json.loads(line) for line in ended.stdout.splitlines())
    assert (pixels["source"], lowest["source"], highest["source"]) == ("pixels", "quality 1", "quality 8")
    assert (pixels["label"], pixels["num_boxes"]) == ("visage", NUM_FRAMES)
    assert pixels["ap50"] == pytest.approx(1)
    assert pixels["bytes_per_frame"] is None
    assert 0 < lowest["bytes_per_frame"] < highest["bytes_per_frame"]
    assert highest["bits_per_pixel"] == pytest.approx(8 * highest["bytes_per_frame"] / SIDE**2)
    assert all(0 <= row["ap50"] <= 1 for row in (lowest, highest))


def test_every_takes_each_kth_picture_and_the_table_has_a_column_a_label(portraits: Path) -> None:
    ended = run_command(
        "bench", "accuracy", portraits / "labels.json", portraits / "pictures",
        "--labels", "face=visage", "--qualities", "5", "--every", "2",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    assert "on 2 frames of pictures" in ended.stdout
    assert "visage (2)" in ended.stdout


def test_frames_of_a_video_are_found_by_their_index(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=12))
    members = {
        "images": [{"id": 5, "frame_index": 4}, {"id": 6, "frame_index": 9}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": 1, "image_id": 6, "category_id": 1, "bbox": [0, 0, 10, 10]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(members))

    ended = run_command(
        "bench", "accuracy", tmp_path / "labels.json", clip, "--every", "3", "--qualities", "5", "--format", "json"
    )

    assert ended.code == 0, ended.stderr
    assert [(row["label"], row["num_boxes"]) for row in map(json.loads, ended.stdout.splitlines())] == [
        ("person", 1),
        ("person", 1),
    ]


def test_labels_that_do_not_fit_the_frames_are_refused(tmp_path: Path, portraits: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=3))
    smaller = make_pictures(tmp_path / "smaller", sizes=[(40, 30)] * NUM_FRAMES)
    for number in range(NUM_FRAMES):
        (smaller / f"{number:03d}.png").rename(smaller / f"{number}.png")
    categories = [{"id": 1, "name": "person"}]
    late, empty = tmp_path / "late.json", tmp_path / "empty.json"
    late.write_text(json.dumps({"images": [{"id": 1, "frame_index": 3}], "categories": categories, "annotations": []}))
    empty.write_text(json.dumps({"images": [{"id": 1, "frame_index": 1}], "categories": categories, "annotations": []}))
    faces = portraits / "labels.json"
    cases = [
        ((late, clip), "has boxes in frame 3, but"),
        ((empty, clip), "no boxes of person in the chosen frames"),
        ((empty, clip, "--every", "2"), "no labelled frame has a frame_index divisible by 2"),
        ((empty, portraits / "pictures"), "is no video"),
        ((faces, portraits / "pictures"), "share no label"),
        ((faces, tmp_path, "--labels", "face=visage"), "3 of 3 pictures are not there"),
        ((faces, smaller, "--labels", "face=visage"), "image 10 is (192, 192), the frame is (40, 30)"),
        ((faces, portraits / "pictures", "--labels", "face"), "--labels must be like"),
        ((tmp_path / "none.json", clip), "none.json: can't be read"),
    ]

    for arguments, message in cases:
        ended = run_command("bench", "accuracy", *arguments, "--qualities", "5")
        assert (ended.code, message in ended.stderr) == (2, True), (arguments, ended)
