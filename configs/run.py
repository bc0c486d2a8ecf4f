"""What a job is told: one frozen model a job, filled from a YAML file and the command line.

A key that no model knows is an error, and no value is bent into another type: `quality: "4"` is refused. Components
never see these models; the job modules hand them plain arguments.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from framevault.codecs.spec import CODECS, DEFAULT_QUALITY, HIGHEST_QUALITY, LOWEST_QUALITY

ExecutorName = Literal["local", "ray"]
"""Who runs the tasks: this process, or the actors of a Ray cluster."""

MODEL_CONFIG = ConfigDict(
    frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
)
"""Shared by all models below: values don't change, unknown keys and other types are errors."""


def _check_codec(name: str) -> str:
    if name not in CODECS:
        raise ValueError(f"should be one of {', '.join(sorted(CODECS))}")
    return name


class DecodeSettings(BaseModel):
    """What decoding one source may use; more than that, and the source goes to quarantine.

    Stands apart from the worker's own `DecodeLimits`, since configs know no worker; a test keeps the two alike.
    """

    model_config = MODEL_CONFIG

    max_pixels: int = Field(default=8192 * 8192, ge=1)
    """Pixels of one frame; checked before a frame is decoded."""
    max_streams: int = Field(default=64, ge=1)
    """Streams of one container."""
    max_frames: int = Field(default=20_000_000, ge=1)
    """Frames of one source."""
    wall_s: float = Field(default=120.0, gt=0)
    """Seconds to wait for a sign of life of the decoding process."""
    start_s: float = Field(default=60.0, gt=0)
    """Seconds that the decoding process may take to start."""
    cpu_s_start: float = Field(default=60.0, gt=0)
    """CPU seconds granted to each request."""
    cpu_s_per_frame: float = Field(default=2.0, gt=0)
    """CPU seconds granted for each packet of a segment besides."""
    cpu_s_per_megabyte: float = Field(default=0.2, gt=0)
    """CPU seconds granted for each megabyte of a source that is probed."""
    memory_bytes: int = Field(default=4 << 30, ge=1 << 28)
    """Address space of the decoding process."""


class ExecutionSettings(BaseModel):
    """The keys of every job that an executor runs. Holds values only."""

    model_config = MODEL_CONFIG

    vault: str = Field(min_length=1)
    """A folder or fsspec URL."""
    executor: ExecutorName = "local"
    """Who runs the tasks."""
    ray_address: str | None = Field(default=None, min_length=1)
    """The cluster's address; None starts one on this machine. For the ray executor only."""
    workers: int | None = Field(default=None, ge=1)
    """Workers at a time; None decides from the CPUs or GPUs that there are."""
    threads_per_worker: int = Field(default=1, ge=1)
    """Threads of torch and OpenMP in each worker."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """`auto` takes a GPU where there is one; `cpu`, `cuda` and `cuda:1` are taken at their word."""
    gpus_per_worker: float = Field(default=1.0, gt=0, le=1)
    """Share of one GPU for each worker of the ray executor; ignored where a worker computes on the CPU."""
    batch_size: int = Field(default=8, ge=1)
    """Frames that go through the networks together."""
    max_attempts: int = Field(default=3, ge=1)
    """Tries of a task whose worker is killed, before it goes to quarantine."""
    same_bug_videos: int = Field(default=3, ge=1)
    """The job stops when the same bug shows on this many videos."""

    @model_validator(mode="after")
    def _check_ray_address(self) -> Self:
        if self.ray_address is not None and self.executor != "ray":
            raise ValueError("ray_address is for executor: ray")
        return self


class StoredStreamsJob(ExecutionSettings):
    """The keys of every job that decodes what a vault holds."""

    weights: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Checkpoints that the vault may have been written with, tried after the shipped one and before its own."""
    checkpoint_cache: str | None = Field(default=None, min_length=1)
    """Folder for checkpoints that are fetched from the vault, on every machine; None takes the usual one."""


class CompressJob(ExecutionSettings):
    """Settings of `framevault compress` and `framevault plan`."""

    inputs: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    """Videos, folders, globs and fsspec URLs."""
    codec: Annotated[str, AfterValidator(_check_codec)] = "dicm"
    """A name of the codecs' table."""
    quality: int = Field(default=DEFAULT_QUALITY, ge=LOWEST_QUALITY, le=HIGHEST_QUALITY)
    """1 is fewest bytes, 8 most."""
    weights: str | None = Field(default=None, min_length=1)
    """Checkpoint of the codec, as `framevault train` exports; None for the shipped one."""
    intra: bool = False
    """Whether every frame is coded by itself, for codecs that would lean on the frame before it."""
    slices: int | None = Field(default=None, ge=0)
    """Slices that streams hold, most important first, as if the vault were thinned afterwards; None for as many as are
    of use at that quality: all, but 2 or 3 of dicm's 4 where frames are predicted."""
    face_quality: int = Field(default=DEFAULT_QUALITY, ge=LOWEST_QUALITY, le=HIGHEST_QUALITY)
    """The same as `quality` of the faces, for codecs that code faces besides frames."""
    face_weights: str | None = Field(default=None, min_length=1)
    """Checkpoint of what codes faces; None for the shipped one."""
    face_score: float = Field(default=0.4, ge=0.05, le=1)
    """Lowest score of a face that is coded."""
    face_size: int = Field(default=0, ge=0)
    """Pixels of the shorter side of a found face's box from which on it is coded; 0 codes all."""
    face_fps: float | None = Field(default=None, gt=0)
    """Frames a second that faces are looked for in; None looks in every frame that is kept."""
    fps: float | None = Field(default=None, gt=0)
    """Frames a second to keep; None keeps all."""
    segment_frames: int = Field(default=128, ge=1)
    """Frames that a segment should have; cuts fall on keyframes only."""
    retry_failed: bool = False
    """Whether to try again what lies in quarantine."""
    limits: DecodeSettings = DecodeSettings()
    """What decoding one source may use."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights is not None and CODECS[self.codec].checkpoint is None:
            raise ValueError(f"weights are for codecs that have some, codec {self.codec} has none")
        return self

    @model_validator(mode="after")
    def _check_faces(self) -> Self:
        given = sorted(name for name in self.model_fields_set if name.startswith("face_"))
        if given and CODECS[self.codec].faces_codec is None:
            able = ", ".join(name for name, row in CODECS.items() if row.faces_codec is not None)
            raise ValueError(f"{given[0]} is for codecs that code faces ({able}), codec {self.codec} does not")
        return self


class DetectJob(StoredStreamsJob):
    """Settings of `framevault detect`."""

    where: str | None = Field(default=None, min_length=1)
    """SQL condition on the columns of `frames`; None takes all frames."""
    score: float = Field(default=0.3, ge=0, le=1)
    """Lowest score that is reported."""
    detector: str | None = Field(default=None, min_length=1)
    """A name of the detectors' table; None takes the preferred one among the shipped, if it reads all chosen videos."""
    detector_weights: str | None = Field(default=None, min_length=1)
    """Checkpoint of the detector; None for the shipped one, or for torchvision's by the detector's name."""
    masks: bool = False
    """Whether masks are stored beside boxes; for detectors that give them."""


class ClassifyJob(StoredStreamsJob):
    """Settings of `framevault classify`."""

    where: str | None = Field(default=None, min_length=1)
    """SQL condition on the columns of `frames`; None takes all frames."""
    top: int = Field(default=5, ge=1, le=10)
    """Labels of a frame that are counted; ten are kept."""
    classifier: str = Field(default="mobilenet_v2", min_length=1)
    """A name of the known weights that classify."""
    classifier_weights: str | None = Field(default=None, min_length=1)
    """Checkpoint of the classifier; None finds the published one."""
    vectors: bool = False
    """Whether vectors for `framevault similar` are stored in the same pass; 2.3 kB a frame."""


class ThinJob(StoredStreamsJob):
    """Settings of `framevault thin`."""

    slices: int | None = Field(default=None, ge=0)
    """Slices of frames to keep, most important first; None leaves frames as they are."""
    face_slices: int | None = Field(default=None, ge=0)
    """The same of each face that a codec codes besides frames; None leaves faces as they are."""
    where: str | None = Field(default=None, min_length=1)
    """SQL condition on the columns of `frames`; None takes all frames. A segment is thinned as a whole."""

    @model_validator(mode="after")
    def _check_slices(self) -> Self:
        if self.slices is None and self.face_slices is None:
            raise ValueError("slices or face_slices (or both) must say how many are kept, got neither")
        return self


class SimilarJob(StoredStreamsJob):
    """Settings of `framevault similar`."""

    image: str = Field(min_length=1)
    """Path of the picture that frames are compared with."""
    face: bool = False
    """Whether faces are compared by hsc's core symbols, not whole frames by what a classifier sees."""
    where: str | None = Field(default=None, min_length=1)
    """SQL condition on the columns of `frames`; None takes all frames."""
    top: int = Field(default=10, ge=1)
    """Frames that are shown."""
    apart_s: float = Field(default=1.0, ge=0)
    """Seconds that two shown frames of one video are apart, at least."""
    classifier: str = Field(default="mobilenet_v2", min_length=1)
    """A name of the known weights that classify: its pooled features are compared."""
    classifier_weights: str | None = Field(default=None, min_length=1)
    """Checkpoint of the classifier; None finds the published one."""

    @model_validator(mode="after")
    def _check_face(self) -> Self:
        if self.face and self.classifier_weights is not None:
            raise ValueError("classifier_weights are for whole frames, faces need none")
        return self
