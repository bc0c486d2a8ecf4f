"""Tests of `framevault bench face-tasks`, with a toy checkpoint that knows no faces."""

import json
from pathlib import Path

import pytest

from framevault.pipeline.jobs.bench.face_tasks import choose_qp
from framevault.pipeline.jobs.train.hsc import perceptual
from tests.codecs.hsc.toy import save_toy
from tests.pipeline.command_line import run_command
from tests.pipeline.jobs.bench.test_face_landmarks import write_landmarks
from tests.pipeline.jobs.bench.toy_faces import toy_faces, write_toy_faces


@pytest.fixture(autouse=True)
def without_weights_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_weights", lambda name: None)


def test_both_tasks_are_measured_on_real_streams(tmp_path: Path) -> None:
    learned, tested = write_toy_faces(tmp_path / "learned", 24), write_toy_faces(tmp_path / "tested", 3)
    landmarks = write_landmarks(tmp_path / "learned.csv", [f"{number}.png" for number in range(22)])
    test_landmarks = write_landmarks(tmp_path / "tested.csv", ["2.png", "0.png"])

    ended = run_command(
        "bench", "face-tasks", learned, "--landmarks", landmarks, "--test", tested, "--test-landmarks", test_landmarks,
        "--weights", save_toy(tmp_path / "toy.safetensors"), "--out", tmp_path / "out", "--format", "json",
        "--frames", "21",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    points = [row for row in rows if row["table"].startswith("Landmarks")]
    assert [(row["codec"].split()[0], row["read_from"]) for row in points] == [
        ("none", "nothing: the mean"),
        ("hsc", "core symbols"),
        ("hsc", "S and f"),
        ("hsc", "pixels"),
        ("hsc", "detector"),
        ("x265-intra", "pixels"),
        ("x265-intra", "detector"),
        ("uncompressed", "pixels"),
        ("uncompressed", "detector"),
    ]
    assert points[1]["bytes"] < points[2]["bytes"] == points[3]["bytes"]
    assert all(0 < row["error low"] <= row["error"] <= row["error high"] for row in points)
    found = [row for row in rows if row["table"].startswith("Found")]
    assert [row["read_from"] for row in found] == ["core symbols", "pooled f", *["detector"] * 3]
    assert [row["gallery"] for row in found] == [23] * 5
    assert found[-1]["bytes"] is None
    assert (tmp_path / "out" / "landmarks.csv").is_file()
    assert (tmp_path / "out" / "retrieval.csv").is_file()


def test_the_anchor_has_no_fewer_bytes_than_asked_and_hardly_more() -> None:
    faces_nchw = toy_faces(3)

    sizes = {}
    for least_bytes in (40, 120):
        coder = choose_qp(faces_nchw, least_bytes)
        sizes[least_bytes] = sum(sum(coded.payload_bytes) for coded in coder.code(faces_nchw)) / 3

    assert all(least_bytes <= size < 1.5 * least_bytes for least_bytes, size in sizes.items())


def test_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    faces = write_toy_faces(tmp_path / "faces", 2)
    landmarks = write_landmarks(tmp_path / "a.csv", ["0.png", "gone.png"])

    ended = run_command(
        "bench", "face-tasks", faces, "--landmarks", landmarks, "--test", faces, "--test-landmarks", landmarks,
        "--weights", save_toy(tmp_path / "toy.safetensors"), "--out", tmp_path / "out",
    )  # fmt: skip

    assert ended.code == 2
    assert "there is no picture gone.png, and 0 others" in " ".join(ended.stderr.split())
