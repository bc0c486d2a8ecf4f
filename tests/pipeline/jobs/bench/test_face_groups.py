"""Tests of `framevault bench face-groups`, with a toy checkpoint that knows no faces."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from framevault.pipeline.jobs.bench import face_features
from framevault.pipeline.jobs.bench.face_groups import FaceErrors, group_rows
from framevault.pipeline.jobs.bench.face_labels import Group
from framevault.pipeline.jobs.train.hsc import perceptual
from tests.codecs.hsc.toy import save_toy
from tests.pipeline.command_line import run_command
from tests.pipeline.jobs.bench.toy_faces import write_toy_faces


@pytest.fixture(autouse=True)
def without_weights_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_weights", lambda name: None)
    monkeypatch.setattr(face_features, "find_file", lambda: None)


def test_a_row_has_the_mean_and_an_interval_around_it() -> None:
    errors = [
        FaceErrors(
            codec="hsc",
            setting="quality 5",
            sizes_n=np.arange(100.0),
            metrics_n={"psnr_db": np.concatenate([np.full(90, 30.0), np.linspace(20, 40, 10)])},
            outside_n=np.repeat((0.0, 1.0), 50),
        )
    ]

    (even,) = group_rows(Group(by="turn", name="0 to 1", members=tuple(range(40, 60))), errors)
    (spread,) = group_rows(Group(by="turn", name="1 to 2", members=tuple(range(90, 100))), errors)

    assert (even["faces"], even["bytes"], even["outside_share"]) == (20, 49.5, 0.5)
    assert even["psnr_db low"] == even["psnr_db"] == even["psnr_db high"] == 30
    # The standard error is 6.38 / sqrt(10); 95 % lie within 1.96 times that, which a thousand draws tell to some 0.2.
    assert spread["psnr_db"] == pytest.approx(30)
    assert spread["psnr_db low"] == pytest.approx(26.05, abs=0.5)
    assert spread["psnr_db high"] == pytest.approx(33.95, abs=0.5)


def test_groups_are_printed_and_every_face_is_listed(tmp_path: Path) -> None:
    faces = write_toy_faces(tmp_path / "faces", 5)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,glasses\n0.png,yes\n1.png,no\n2.png,no\nother.png,no\n")
    out = tmp_path / "out"

    ended = run_command(
        "bench", "face-groups", faces, "--out", out, "--by", "lightness", "--labels", labels, "--format", "json",
        "--weights", save_toy(tmp_path / "toy.safetensors"), "--qp", "40",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(row["by"], row["group"], row["faces"]) for row in rows if row["by"] != "lightness"] == [
        ("all", "all", 5), ("all", "all", 5),
        ("glasses", "no", 2), ("glasses", "no", 2),
        ("glasses", "yes", 1), ("glasses", "yes", 1),
        ("glasses", "not known", 2), ("glasses", "not known", 2),
    ]  # fmt: skip
    assert sum(row["faces"] for row in rows if row["by"] == "lightness" and row["codec"] == "hsc") == 5
    assert [row["codec"] for row in rows[:2]] == ["hsc", "x265-intra slow"]
    assert rows[0]["outside_share"] == 0
    assert rows[1]["outside_share"] is None
    assert rows[0]["distance (detector) low"] <= rows[0]["distance (detector)"] <= rows[0]["distance (detector) high"]
    with (out / "faces.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["file"] for row in listed] == [f"{number}.png" for number in range(5)]
    assert [row["glasses"] for row in listed] == ["yes", "no", "no", "", ""]
    mean = np.mean([float(row["hsc distance (detector)"]) for row in listed])
    assert mean == pytest.approx(rows[0]["distance (detector)"], rel=1e-3)
    for name in ("worst", "best"):
        with Image.open(out / f"sheet-{name}.png") as sheet:
            assert sheet.width > 6 * 240


def test_labels_of_other_pictures_and_unknown_measures_are_told(tmp_path: Path) -> None:
    faces = write_toy_faces(tmp_path / "faces", 2)
    weights = save_toy(tmp_path / "toy.safetensors")
    (tmp_path / "labels.csv").write_text("file,glasses\nother.png,yes\n")
    arguments = ("--out", tmp_path / "out", "--weights", weights)

    others = run_command("bench", "face-groups", faces, *arguments, "--labels", tmp_path / "labels.csv")
    unknown = run_command("bench", "face-groups", faces, *arguments, "--by", "age")

    assert (others.code, unknown.code) == (2, 2)
    assert "expected labels of 0.png and others, got those of other.png" in " ".join(others.stderr.split())
    assert "--by must be of lightness,contrast" in " ".join(unknown.stderr.split())
