"""Tests of `framevault bench stages`: that everything is measured, on the frames that it says. Not how fast it is."""

import json
from pathlib import Path

import pytest

from framevault.pipeline.executors.base import count_cpus
from framevault.pipeline.jobs.bench.stages import JobSpeeds, StagesReport, measure_stages
from framevault.pipeline.jobs.bench.timing import WARM_UP, Speed, Stopwatch
from tests.media import VideoSpec, make_pictures, make_video
from tests.pipeline.command_line import run_command

NUM_FRAMES = 10


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clips") / "clip.mp4", VideoSpec(num_frames=16, b_frames=2))


@pytest.fixture(scope="module")
def report(clip: Path) -> StagesReport:
    return measure_stages(str(clip), codec="dicm", quality=5, num_frames=NUM_FRAMES, repeats=1, detector="mobilenet_v2")


def speed(stage: str, fps: float) -> Speed:
    return Speed(stage=stage, num_workers=1, median_fps=fps, best_fps=fps, cpu_ms=1)


def test_every_stage_of_both_jobs_is_measured(report: StagesReport) -> None:
    compress, detect = report.jobs

    assert [stage.stage for stage in compress.stages] == [
        "decode",
        "encode",
        "encode: colour",
        "encode: head and g_a",
        "encode: h_a",
        "encode: prediction and entropy coding",
        "write",
    ]
    assert [stage.stage for stage in detect.stages] == [
        "read",
        "decode",
        "decode: prediction and entropy coding",
        "decode: synthesis",
        "detect",
        "write",
    ]
    for job in report.jobs:
        assert all(0 < stage.median_fps <= stage.best_fps for stage in (*job.stages, job.end_to_end))
        assert all(stage.cpu_ms > 0 for stage in (*job.stages, job.end_to_end))


def test_the_workers_are_those_of_the_job(report: StagesReport) -> None:
    compress, _ = report.jobs
    decode, encode, *_ = compress.stages

    assert encode.num_workers == compress.end_to_end.num_workers == count_cpus()
    assert decode.num_workers == count_cpus() + 1


def test_frames_are_copied_until_all_threads_have_an_equal_share(report: StagesReport) -> None:
    num_copies, rest = divmod(report.num_frames, NUM_FRAMES)

    assert rest == 0
    assert num_copies % count_cpus() == 0
    assert num_copies % (count_cpus() + 1) == 0


def test_start_up_is_reported_apart(report: StagesReport) -> None:
    assert all(seconds > 0 for _, seconds in report.start_up_s)
    assert len(report.start_up_s) == 4


def test_stages_that_take_turns_are_slower_than_the_slowest() -> None:
    stages = (speed("decode", 200), speed("encode", 50), speed("encode: networks", 60), speed("write", 200))

    job = JobSpeeds(job="compress", end_to_end=speed("end to end", 40), stages=stages)

    assert job.slowest.stage == "encode"
    assert job.shared_fps == pytest.approx(1 / (1 / 200 + 1 / 50 + 1 / 200))


def test_the_share_of_the_entropy_layer_is_its_parts_time_over_the_codecs(report: StagesReport) -> None:
    stages = (
        speed("decode", 1),
        speed("encode", 10),
        speed("encode: head and g_a", 20),
        speed("encode: integer networks", 100),
        speed("encode: entropy coding", 50),
    )

    compress = JobSpeeds(job="compress", end_to_end=speed("end to end", 1), stages=stages)

    assert compress.entropy_share == pytest.approx((0.01 + 0.02) / 0.1)
    assert JobSpeeds(job="compress", end_to_end=speed("end to end", 1), stages=stages[:2]).entropy_share is None
    for job in report.jobs:
        assert job.entropy_share is not None
        assert job.entropy_share > 0


def test_each_thread_warms_up_and_each_repeat_does_all_items() -> None:
    done: list[tuple[str, int]] = []

    measured = Stopwatch(num_frames=6, repeats=2).time_threads(
        "stage", lambda item, repeat: done.append((item, repeat)), ["a", "b"], num_workers=3
    )

    assert done[:3] == [("a", WARM_UP)] * 3
    assert sorted(done[3:]) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert measured.num_workers == 3


@pytest.mark.slow
def test_the_raw_codec_is_measured_too_and_at_another_size(clip: Path) -> None:
    ended = run_command(
        "bench", "stages", clip, "--codec", "raw", "--frames", "4", "--size", "64x48", "--format", "json"
    )

    assert ended.code == 0, ended.stderr
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    stages = [(row["job"], row["stage"]) for row in rows if "stage" in row]
    assert ("compress", "encode") in stages
    assert ("detect", "end to end") in stages
    assert all("64x48" in row["table"] for row in rows if "stage" in row)
    for job in ("compress", "detect"):
        shares = [row["share"] for row in rows if row.get("job") == job and ":" not in row.get("stage", ":")]
        assert sum(share for share in shares if share is not None) == pytest.approx(1, abs=0.01)
    ratios = [row for row in rows if "ratio" in row]
    assert [row["job"] for row in ratios] == ["compress", "detect"]
    assert all(row["ratio"] > 0 for row in ratios)
    assert all(row["entropy_share"] is None for row in ratios)


def test_wrong_arguments_are_named(tmp_path: Path, clip: Path) -> None:
    mixed = make_pictures(tmp_path / "mixed", sizes=[(40, 30), (30, 40)])
    (tmp_path / "letter.mp4").write_text("Dear archive,\n" * 50)
    cases = [
        ((tmp_path / "none.mp4",), "none.mp4: no such file or folder"),
        ((tmp_path / "letter.mp4",), "letter.mp4"),
        ((mixed,), "frames of several sizes"),
        ((clip, "--codec", "h264"), "h264"),
        ((clip, "--quality", "9"), "--quality"),
        ((clip, "--size", "640"), "--size must be like 1280x720"),
    ]

    for arguments, message in cases:
        ended = run_command("bench", "stages", *arguments)
        assert (ended.code, message in ended.stderr) == (2, True), (arguments, ended)
