"""The jobs' models: their defaults, and what they refuse."""

import dataclasses

import pytest
from pydantic import ValidationError

from framevault.codecs.spec import DEFAULT_QUALITY
from framevault.configs.run import CompressJob, DecodeSettings, DetectJob
from framevault.workers.limits import DecodeLimits


def compress_job(**values: object) -> CompressJob:
    return CompressJob.model_validate({"inputs": ["a.mp4"], "vault": "v", **values})


def test_a_compress_job_needs_only_inputs_and_a_vault() -> None:
    job = compress_job()

    assert job.inputs == ("a.mp4",)
    assert (job.codec, job.quality, job.fps) == ("dicm", DEFAULT_QUALITY, None)
    assert (job.executor, job.workers, job.threads_per_worker, job.device) == ("local", None, 1, "auto")
    assert (job.max_attempts, job.same_bug_videos, job.retry_failed) == (3, 3, False)


def test_a_detect_job_needs_only_a_vault() -> None:
    job = DetectJob.model_validate({"vault": "v"})

    assert (job.where, job.score, job.detector) == (None, 0.3, None)


def test_a_job_does_not_change() -> None:
    job = compress_job()

    with pytest.raises(ValidationError, match="frozen"):
        job.quality = 8


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inputs", []),
        ("inputs", "a.mp4"),
        ("vault", ""),
        ("codec", "h264"),
        ("quality", 0),
        ("quality", 9),
        ("quality", "4"),
        ("quality", 4.5),
        ("quality", True),
        ("fps", 0),
        ("fps", -5.0),
        ("fps", float("nan")),
        ("fps", float("inf")),
        ("executor", "dask"),
        ("ray_address", "auto"),
        ("workers", 0),
        ("threads_per_worker", 0),
        ("device", "gpu"),
        ("device", "cuda:"),
        ("gpus_per_worker", 0.0),
        ("gpus_per_worker", 2.0),
        ("face_quality", 5),
        ("face_weights", "x"),
        ("face_score", 0.4),
        ("face_size", 24),
        ("face_fps", 1.0),
        ("segment_frames", 0),
        ("batch_size", 0),
        ("max_attempts", 0),
        ("same_bug_videos", 0),
        ("retry_failed", "yes"),
        ("limits", {"memory_bytes": 1}),
        ("limits", {"max_pixel": 1}),
        ("colour", "red"),
    ],
)
def test_a_wrong_value_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        compress_job(**{key: value})

    assert len(caught.value.errors()) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("face_quality", 0),
        ("face_quality", 9),
        ("face_weights", ""),
        ("face_score", 0.04),
        ("face_score", 1.01),
        ("face_size", -1),
        ("face_size", 1.5),
        ("face_fps", 0.0),
        ("face_fps", float("inf")),
    ],
)
def test_a_wrong_value_about_faces_is_refused_where_there_are_some(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        compress_job(codec="dicm+hsc", **{key: value})


def test_settings_of_faces_are_for_codecs_with_faces() -> None:
    job = compress_job(codec="dicm+hsc", face_quality=2, face_score=0.5, face_fps=1)

    assert (job.face_quality, job.face_weights, job.face_score, job.face_fps) == (2, None, 0.5, 1.0)
    with pytest.raises(ValidationError, match=r"face_score is for codecs that code faces \(dicm\+hsc\), codec raw"):
        compress_job(codec="raw", face_score=0.5)


@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_a_score_outside_0_to_1_is_refused(score: float) -> None:
    with pytest.raises(ValidationError, match="score"):
        DetectJob.model_validate({"vault": "v", "score": score})


def test_a_whole_number_is_a_rate_too() -> None:
    assert compress_job(fps=5).fps == 5.0


def test_a_ray_address_goes_with_the_ray_executor() -> None:
    assert compress_job(executor="ray", ray_address="auto").ray_address == "auto"


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices_are_taken_at_their_word(device: str) -> None:
    assert compress_job(device=device).device == device


def test_the_decode_settings_are_those_of_the_worker() -> None:
    limits = dataclasses.asdict(DecodeLimits())

    assert DecodeSettings().model_dump() == limits


def test_every_key_is_described() -> None:
    for model in (CompressJob, DetectJob, DecodeSettings):
        assert [name for name, field in model.model_fields.items() if not field.description] == []
