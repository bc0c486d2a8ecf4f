"""Tests of `framevault bench rate` on a drifting portrait."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch

from framevault.pipeline.jobs.bench.rate import X265_CRFS, RateReport, measure_rates
from framevault.workers.detectors.registry import load_detector
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import run_command
from tests.pipeline.jobs.bench.portrait import SIDE, portrait_frames, write_portraits

pytest.importorskip("faster_coco_eval", reason="average precision needs the extra 'bench'")


@pytest.fixture(scope="module")
def report() -> RateReport:
    return measure_rates(portrait_frames(3), detector=load_detector(), fps=25, qualities=(1, 8))


def test_the_original_agrees_with_itself(report: RateReport) -> None:
    (raw,) = report.of_codec("raw")

    assert report.num_objects >= 1
    assert raw.agreement == pytest.approx(1)
    assert raw.feature_error == 0


def test_bytes_fall_and_errors_rise_with_the_rate_factor(report: RateReport) -> None:
    for codec in ("x265 intra", "x265 inter"):
        points = report.of_codec(codec)

        assert [point.setting for point in points] == [f"crf {crf}" for crf in X265_CRFS]
        sizes, errors = [point.bytes_per_frame for point in points], [point.feature_error for point in points]
        assert sizes == sorted(sizes, reverse=True)
        assert errors == sorted(errors)
        assert errors[0] > 0


def test_prediction_between_frames_saves_bytes(report: RateReport) -> None:
    for intra, inter in zip(report.of_codec("x265 intra"), report.of_codec("x265 inter"), strict=True):
        assert inter.bytes_per_frame < intra.bytes_per_frame


@pytest.mark.parametrize("codec", ["dicm intra", "dicm"])
def test_a_higher_quality_takes_more_bytes_and_comes_closer(report: RateReport, codec: str) -> None:
    lowest, highest = report.of_codec(codec)

    assert (lowest.setting, highest.setting) == ("quality 1", "quality 8")
    assert 0 < lowest.bytes_per_frame < highest.bytes_per_frame
    assert lowest.feature_error > highest.feature_error > 0


def test_bits_a_pixel_follow_from_bytes_a_frame(report: RateReport) -> None:
    for point in report.points:
        assert point.bits_per_pixel == pytest.approx(8 * point.bytes_per_frame / SIDE**2)


def test_lossless_is_matched_within_what_was_measured_of_x265(report: RateReport) -> None:
    (raw,) = report.of_codec("raw")

    intra, _ = report.matches(raw)

    sizes = [point.bytes_per_frame for point in report.of_codec("x265 intra")]
    assert intra.bytes_per_frame is not None
    assert min(sizes) <= intra.bytes_per_frame <= max(sizes)


def test_where_nothing_is_found_there_is_nothing_to_agree_on() -> None:
    grey_nchw = torch.full((2, 3, 64, 96), 128, dtype=torch.uint8)

    report = measure_rates(grey_nchw, detector=load_detector(), fps=25, qualities=(5,))

    assert report.num_objects == 0
    assert all(math.isnan(point.agreement) for point in report.points)
    assert report.matches(report.points[0])[0].text == ""


def test_the_command_prints_a_row_a_setting_as_json(tmp_path: Path) -> None:
    write_portraits(tmp_path / "portraits", 3)

    ended = run_command(
        "bench", "rate", tmp_path / "portraits", "--frames", "1", "--every", "2", "--qualities", "5", "--format", "json"
    )

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    points = [row for row in rows if "bits_per_pixel" in row]
    assert [row["codec"] for row in points] == [
        "raw",
        "dicm intra",
        "dicm",
        *["x265 intra"] * len(X265_CRFS),
        *["x265 inter"] * len(X265_CRFS),
    ]
    matches = [row for row in rows if "x265_intra" in row]
    assert [(row["codec"], row["setting"]) for row in matches] == [("dicm intra", "quality 5"), ("dicm", "quality 5")]


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=2))
    small = make_video(tmp_path / "small.mp4", VideoSpec(width=62, num_frames=1))
    cases = [
        ((tmp_path / "none.mp4",), "none.mp4: no such file or folder"),
        ((clip, "--qualities", "5,9"), "--qualities must be like 1,3,5, from 1 to 8, each once, got '5,9'"),
        ((clip, "--qualities", "5,5"), "each once"),
        ((clip, "--every", "0"), "--every"),
        ((clip, "--frames", "0"), "--frames"),
        ((small,), "expected frames of one size, 64x64 or larger, got 62x64"),
    ]

    for arguments, message in cases:
        ended = run_command("bench", "rate", *arguments)
        assert (ended.code, message in ended.stderr) == (2, True), (arguments, ended)


def test_a_missing_scorer_is_named_before_anything_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "faster_coco_eval" else find_spec(name, *more)
    )

    ended = run_command("bench", "rate", tmp_path / "none.mp4")

    assert ended.code == 2
    assert "pip install 'framevault[bench]'" in ended.stderr
