"""Tests of `framevault bench rate-perception`, with a toy checkpoint that knows no faces."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from framevault.pipeline.jobs.bench import face_features
from framevault.pipeline.jobs.train.hsc import perceptual
from tests.codecs.hsc.toy import save_toy
from tests.media import make_pictures
from tests.pipeline.command_line import Ended, run_command
from tests.pipeline.jobs.bench.lite_weights import write_lite_weights
from tests.pipeline.jobs.bench.test_compressai_anchors import write_model
from tests.pipeline.jobs.bench.toy_faces import write_toy_faces


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("weights") / "toy.safetensors")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_faces(tmp_path_factory.mktemp("faces") / "aligned", 3)


@pytest.fixture(autouse=True)
def without_weights_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "find_weights", lambda name: None)
    monkeypatch.setattr(face_features, "find_file", lambda: None)


def measure(faces: Path, out: Path, *arguments: str | Path) -> Ended:
    return run_command("bench", "rate-perception", faces, "--out", out, *arguments)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_codecs_are_measured_from_nothing_up(faces: Path, weights: Path, tmp_path: Path) -> None:
    features = write_lite_weights(tmp_path / "lite.pth")
    out = tmp_path / "out"

    ended = measure(
        faces, out, "--weights", weights, "--qualities", "1,8", "--slices", "0,2", "--features", features,
        "--anchors", "x265-intra,webp", "--qps", "20,40", "--webp-qualities", "5,90", "--format", "json",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    points = [row for row in rows if "setting" in row]
    assert [(row["codec"], row["setting"]) for row in points] == [
        ("hsc thinned", "nothing"),
        ("hsc thinned", "quality 8, core alone"),
        ("hsc thinned", "quality 8, slices 2"),
        ("hsc", "quality 1"),
        ("hsc", "quality 8"),
        ("x265-intra slow", "qp 20"),
        ("x265-intra slow", "qp 40"),
        ("webp", "quality 5"),
        ("webp", "quality 90"),
    ]
    metrics = [
        "psnr_db", "ms_ssim",
        "distance (detector)", "unlikeness (detector)",
        "distance (efficientnet_lite0)", "unlikeness (efficientnet_lite0)",
        "frechet (detector)", "frechet (efficientnet_lite0)",
    ]  # fmt: skip
    assert list(points[0])[3:] == ["file_bytes", "payload_bytes", *metrics]
    assert points[0]["file_bytes"] == 0
    assert points[8]["file_bytes"] > points[8]["payload_bytes"] > points[7]["payload_bytes"]
    for metric in ("distance (detector)", "distance (efficientnet_lite0)", "frechet (efficientnet_lite0)"):
        assert 0 < points[8][metric] < points[7][metric], metric
    compared = [row for row in rows if "anchor" in row]
    assert {(row["codec"], row["anchor"]) for row in compared} == {("hsc", "x265-intra slow"), ("hsc", "webp")}
    assert {row["metric"] for row in compared} == set(metrics)
    assert [float(row["ms_ssim"]) for row in read_rows(out / "points.csv")] == [row["ms_ssim"] for row in points]
    assert len(read_rows(out / "bd_rates.csv")) == len(compared)
    report = json.loads((out / "report.json").read_text())
    assert report["title"] == "aligned, 3 faces of 64x64 pixels"
    assert report["ms_ssim_window"] == 3
    assert len(report["hsc_weights_sha256"]) == 64
    for name in ("plot", "sheet-1", "sheet-8", "sheet-hsc"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.width > 4 * 160
    assert "webp quality 5: " in ended.stderr


def test_without_weights_of_the_independent_network_its_columns_are_left_out(
    faces: Path, weights: Path, tmp_path: Path
) -> None:
    ended = measure(
        faces, tmp_path, "--weights", weights, "--qualities", "8", "--slices", "0", "--anchors", "webp",
        "--webp-qualities", "5",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    assert "efficientnet_lite0 is left out" in ended.stderr
    row = read_rows(tmp_path / "points.csv")[0]
    assert "distance (detector)" in row
    assert not any("efficientnet" in name for name in row)
    assert not any(word in name.lower() for name in row for word in ("lpips", "fid"))


def test_a_model_of_compressais_is_one_point(faces: Path, weights: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "low.pth", "bmshj2018-factorized")

    ended = measure(
        faces, tmp_path / "out", "--weights", weights, "--qualities", "8", "--slices", "0", "--anchors", "webp",
        "--webp-qualities", "5", "--anchor-checkpoint", f"bmshj2018-factorized={model}",
    )  # fmt: skip

    assert ended.code == 0, ended.stderr
    row = read_rows(tmp_path / "out" / "points.csv")[-1]
    assert (row["codec"], row["setting"]) == ("bmshj2018-factorized", "low")
    assert float(row["file_bytes"]) == float(row["payload_bytes"]) > 0


def test_what_has_one_setting_only_has_no_bd_rate_and_says_so(faces: Path, weights: Path, tmp_path: Path) -> None:
    measure(
        faces, tmp_path, "--weights", weights, "--qualities", "8", "--slices", "0", "--anchors", "x265-intra",
        "--qps", "30",
    )  # fmt: skip

    row = read_rows(tmp_path / "bd_rates.csv")[0]
    assert row["bd_rate"] == ""
    assert row["reason"].startswith("no equal values: hsc has ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--anchors", "bpg"], "--anchors must be of x265-intra,avif,webp"),
        (["--qualities", "9"], "--qualities must be whole numbers from 1 to 8"),
        (["--slices", "3"], "slices must be 0 to 2"),
        (["--features", "gone.pth"], "no file gone.pth"),
        (["--backbone", "gone.pth"], "gone.pth"),
        (["--anchor-checkpoint", "mbt2018-mean"], "--anchor-checkpoint must be NAME=FILE"),
        (["--webp-qualities", "101"], "--webp-qualities must be whole numbers from 0 to 100"),
    ],
)
def test_settings_that_can_not_be_are_named(
    faces: Path, weights: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    ended = measure(faces, tmp_path, "--weights", weights, *arguments)

    assert ended.code == 2
    assert message in " ".join(ended.stderr.split())


def test_missing_weights_are_named(faces: Path, tmp_path: Path) -> None:
    ended = measure(faces, tmp_path, "--weights", tmp_path / "gone.safetensors")

    assert ended.code == 2
    assert "gone.safetensors" in "".join(ended.stderr.split())


def test_faces_of_another_size_are_refused_not_scaled(weights: Path, tmp_path: Path) -> None:
    make_pictures(tmp_path / "faces", [(64, 64), (96, 64)])

    ended = measure(tmp_path / "faces", tmp_path / "out", "--weights", weights)

    assert ended.code == 2
    assert "expected an aligned face of 64x64 pixels" in " ".join(ended.stderr.split())
    assert "got 96x64" in " ".join(ended.stderr.split())


def test_one_picture_is_too_few_and_none_are_no_folder_of_faces(weights: Path, tmp_path: Path) -> None:
    make_pictures(tmp_path / "one", [(64, 64)])
    (tmp_path / "none").mkdir()

    one = measure(tmp_path / "one", tmp_path / "out", "--weights", weights)
    none = measure(tmp_path / "none", tmp_path / "out", "--weights", weights)
    absent = measure(tmp_path / "absent", tmp_path / "out", "--weights", weights)

    assert (one.code, none.code, absent.code) == (2, 2, 2)
    assert "expected 2 pictures or more, found 1" in " ".join(one.stderr.split())
    assert "none" in none.stderr
    assert "absent" in absent.stderr


def test_a_folder_that_can_not_be_written_is_told_before_anything_runs(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    ended = measure(faces, tmp_path / "file", "--weights", "gone.safetensors")

    assert ended.code == 2
    assert "expected a folder that can be written" in " ".join(ended.stderr.split())
