"""Which detector `framevault detect` takes, and what it says about it."""

import json
from pathlib import Path

import pytest

from framevault.codecs.spec import CodecSpec, thinned
from framevault.configs.run import DetectJob
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.detector_choice import DetectorChoice
from framevault.pipeline.jobs.detector_choice import choose_detector as choose
from framevault.workers.detectors.base import DetectorError
from framevault.workers.detectors.registry import detector_codec
from tests.codecs.dicm.toy import save_toy
from tests.media import VideoSpec, make_video
from tests.pipeline.command_line import query_rows, run_command

SHIPPED = CodecSpec(name="dicm")
LATENTS = ("--detector", "dicm_latents")


def choose_detector(asked: DetectJob, codecs: list[tuple[str, CodecSpec]]) -> DetectorChoice:
    """Choose where the detector on latents is preferred, whether or not it is today."""
    return choose(asked, codecs, preferred="dicm_latents")


def job(**settings: object) -> DetectJob:
    return DetectJob.model_validate({"vault": "v", **settings})


def toy_codec(folder: Path) -> CodecSpec:
    return CodecSpec(name="dicm", weights=str(save_toy(folder / "own.safetensors")))


def test_the_shipped_latent_detector_reads_the_shipped_codecs_latents() -> None:
    from framevault.codecs.spec import weights_digest

    assert detector_codec("dicm_latents") == weights_digest(SHIPPED)


def test_the_shipped_codecs_videos_are_looked_at_in_their_latents() -> None:
    choice = choose_detector(job(), [("a.mp4", SHIPPED), ("b.mp4", CodecSpec(name="dicm", bitstream_version=1))])

    assert (choice.detector, choice.reason) == ("dicm_latents", "reads the latents of this codec directly")


def test_a_detector_on_features_is_taken_for_all_if_it_is_the_preferred_one() -> None:
    choice = choose(job(), [("a.mp4", SHIPPED)], preferred="mobilenet_v2")

    assert (choice.detector, choice.reason) == ("mobilenet_v2", "is the usual one")


def test_pixels_are_looked_at_by_the_detector_on_features() -> None:
    choice = choose_detector(job(), [("a.mp4", SHIPPED), ("b.mp4", CodecSpec(name="raw"))])

    assert choice.detector == "mobilenet_v2"
    assert "video b.mp4 was not encoded with the codec whose latents dicm_latents reads" in choice.reason


def test_another_checkpoints_latents_are_left_to_the_detector_on_features(tmp_path: Path) -> None:
    assert choose_detector(job(), [("a.mp4", toy_codec(tmp_path))]).detector == "mobilenet_v2"


def test_thinned_videos_are_left_to_the_detector_on_features() -> None:
    choice = choose_detector(job(), [("a.mp4", thinned(SHIPPED, slices=2))])

    assert choice.detector == "mobilenet_v2"
    assert "video a.mp4 was thinned" in choice.reason


def test_what_was_asked_for_is_taken(tmp_path: Path) -> None:
    assert choose_detector(job(detector="mobilenet_v2"), [("a.mp4", SHIPPED)]).reason == "was asked for"
    assert choose_detector(job(detector="dicm_latents"), [("a.mp4", SHIPPED)]).detector == "dicm_latents"
    assert choose_detector(job(detector_weights="own"), [("a.mp4", SHIPPED)]).detector == "mobilenet_v2"
    with pytest.raises(DetectorError, match="detector must be one of"):
        choose_detector(job(detector="nobody"), [("a.mp4", SHIPPED)])


def test_latents_that_it_can_not_read_are_refused_with_what_to_do(tmp_path: Path) -> None:
    asked = job(detector="dicm_latents")

    with pytest.raises(PreflightError, match=r"video a\.mp4 holds latents of codec checkpoint [0-9a-f]{16}, and those"):
        choose_detector(asked, [("a.mp4", toy_codec(tmp_path))])
    with pytest.raises(PreflightError, match=r"video b\.mp4 holds pixels.*choose a detector that reads features"):
        choose_detector(asked, [("a.mp4", SHIPPED), ("b.mp4", CodecSpec(name="raw"))])


def test_the_job_says_which_detector_looked_and_keeps_the_results_of_each(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=6))
    vault = tmp_path / "vault"
    assert run_command("compress", clip, vault).code == 0

    summaries = [
        json.loads(run_command("detect", vault, "--json", *arguments).stdout.splitlines()[-1])
        for arguments in (LATENTS, ("--detector", "mobilenet_v2"), LATENTS)
    ]

    assert [one["detector"] for one in summaries] == ["dicm_latents", "mobilenet_v2", "dicm_latents"]
    assert [one["num_cached"] for one in summaries] == [0, 0, 1]
    assert summaries[0]["detector_reason"] == "was asked for"
    assert run_command("detect", vault, *LATENTS).stdout.count("found by detector dicm_latents") == 1
    assert {row["detector"] for row in query_rows(vault, "select distinct detector from all_detections")} <= {
        "dicm_latents",
        "mobilenet_v2",
    }


def test_a_raw_vault_is_refused_before_anything_runs_if_latents_are_asked_for(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", VideoSpec(num_frames=2))
    assert run_command("compress", clip, tmp_path / "vault", "--codec", "raw").code == 0

    ended = run_command("detect", tmp_path / "vault", "--detector", "dicm_latents")

    assert ended.code == 2
    assert "holds pixels" in ended.stderr
