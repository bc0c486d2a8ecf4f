"""Tests of `framevault bench detection`: that all ways are gone, on the frames that it says. Not how fast they are."""

import json
from pathlib import Path

import pytest

from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.detection import DetectionRow, measure_detection
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import run_command


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4", VideoSpec(num_frames=8, width=96, height=64))


@pytest.fixture(scope="module")
def rows(clip: Path) -> tuple[DetectionRow, ...]:
    return measure_detection(str(clip), quality=5, num_frames=5, workers=2, repeats=1)


def test_the_vault_is_looked_through_by_both_detectors_and_the_video_by_one(rows: tuple[DetectionRow, ...]) -> None:
    assert [(row.source, row.detector) for row in rows] == [
        ("vault", "dicm_latents"),
        ("vault", "mobilenet_v2"),
        ("h265", "mobilenet_v2"),
    ]
    assert all(0 < row.median_fps <= row.best_fps for row in rows)
    assert all(row.cpu_ms > 0 for row in rows)


def test_both_detectors_read_the_same_bytes(rows: tuple[DetectionRow, ...]) -> None:
    latents, features, video = rows

    assert latents.bytes_per_frame == features.bytes_per_frame > 0
    assert video.bytes_per_frame > 0


def test_the_command_prints_a_row_a_way_with_its_speed_over_the_opponents(clip: Path) -> None:
    ended = run_command("bench", "detection", clip, "--frames", "2", "--workers", "1", "--format", "json")

    printed = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.code == 0, ended.stderr
    assert [row["source"] for row in printed] == ["vault", "vault", "h265"]
    assert printed[-1]["times_as_fast"] == 1


def test_frames_too_small_for_x265_are_refused(tmp_path: Path) -> None:
    small = make_video(tmp_path / "small.mp4", VideoSpec(num_frames=2, width=48, height=32))

    with pytest.raises(PreflightError, match="at least 64 pixels a side"):
        measure_detection(str(small), quality=5, num_frames=2)
