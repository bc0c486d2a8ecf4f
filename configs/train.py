"""What `framevault train` is told: the data, the budget and the recipe, with every default.

The defaults of the recipe are those that trained the shipped checkpoint. Where None stands, the value depends on
whether the training starts from a checkpoint's networks or from random ones; `pipeline/jobs/train/` says both values.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from framevault.codecs.dicm.config import BackboneName
from framevault.codecs.spec import HIGHEST_QUALITY, LOWEST_QUALITY
from framevault.configs.run import MODEL_CONFIG, DecodeSettings

StageName = Literal["pretrain", "re", "codec", "video"]
"""A part of the training: the paper's three, and what codes a frame against the one before it."""

STAGE_ORDER: tuple[StageName, ...] = ("pretrain", "re", "codec", "video")
"""Stages run in this order, whichever are chosen."""

DEFAULT_MINUTES = 30.0
"""Of training, if neither minutes nor steps are given."""

CROP_MULTIPLE = 64
"""Crops are multiples of the hyper-latent's stride, in pixels."""

NUM_QUALITIES = HIGHEST_QUALITY - LOWEST_QUALITY + 1
"""Rates that one checkpoint serves."""

FREE_KEYS = frozenset({"device", "threads", "data_threads", "save_minutes", "report_steps", "cache_dir", "limits"})
"""Settings that a resumed training may change: they say how it runs, not what is trained."""


class TrainSettings(BaseModel):
    """The keys of every training: data, budget, start, processes, optimiser, measuring. Holds values only."""

    model_config = MODEL_CONFIG

    data: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    """Pictures and videos: files, folders, globs and fsspec URLs."""
    out: str = Field(min_length=1)
    """A folder of this machine for checkpoints, metrics and plots; the same one resumes."""

    minutes: float | None = Field(default=None, gt=0)
    """Budget in minutes, loading and measuring not counted; half an hour, if there are no steps either."""
    steps: int | None = Field(default=None, ge=1)
    """Budget in steps instead: repeatable to the bit on one machine."""

    init: str | None = Field(default=None, min_length=1)
    """Checkpoint whose networks are the start; None for the shipped one."""
    from_scratch: bool = False
    """Whether to start from random networks instead."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """`auto` takes the GPUs where there are any; `cpu`, `cuda` and `cuda:1` are taken at their word."""
    processes: int | None = Field(default=None, ge=1)
    """Processes that train together; None for one a GPU. Each has a share of the data and `batch_size` crops a step."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of torch in each process; None leaves the number to torch."""
    data_threads: int = Field(default=1, ge=1)
    """Threads that decode sources and cut crops ahead."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of frozen networks, and of what tolerates it; `auto` takes bfloat16 where the hardware multiplies it."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of crops, noise and random weights."""

    batch_size: int = Field(default=12, ge=1)
    """Crops a step and process."""
    video_fps: float = Field(default=2.0, gt=0)
    """Frames that are taken from a second of video."""
    cache_bytes: int = Field(default=4 << 30, ge=1)
    """Decoded pictures that are kept, in bytes; what is more is left out, evenly, and said."""
    cache_dir: str | None = Field(default=None, min_length=1)
    """Folder for the decoded pictures; None keeps them in memory."""

    average_decay: float = Field(default=0.998, ge=0, lt=1)
    """Of the running average of the weights, which is what is exported."""
    max_bad_steps: int = Field(default=20, ge=1)
    """Steps in a row without a finite gradient after which the training stops."""

    held_out: float = Field(default=0.05, ge=0, le=0.5)
    """Share of the pictures that is never trained on, chosen by their names; the figures are measured on it."""
    validation_pictures: int = Field(default=16, ge=1)
    """Held-out pictures that are measured."""
    validation_qualities: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (1, 3, 5, 8)
    """Qualities that are measured while the training runs; at its end all are."""
    validate_minutes: float = Field(default=10.0, gt=0)
    """Minutes between measurements."""
    save_minutes: float = Field(default=3.0, gt=0)
    """Minutes between saved states: what a kill can cost."""
    report_steps: int = Field(default=20, ge=1)
    """Steps between rows of metrics."""
    limits: DecodeSettings = DecodeSettings()
    """What decoding one source may use."""

    @property
    def trained_minutes(self) -> float | None:
        """The budget in minutes; None if it is counted in steps."""
        return None if self.steps is not None else self.minutes or DEFAULT_MINUTES

    @field_validator("validation_qualities")
    @classmethod
    def _check_qualities(cls, qualities: tuple[int, ...]) -> tuple[int, ...]:
        return check_qualities(qualities)

    @model_validator(mode="after")
    def _check_budget_and_start(self) -> Self:
        if self.minutes is not None and self.steps is not None:
            raise ValueError("the budget is either minutes or steps, got both")
        if self.init is not None and self.from_scratch:
            raise ValueError("the start is either init or from_scratch, got both")
        return self


class TrainDicmJob(TrainSettings):
    """Settings of `framevault train dicm`."""

    stages: Annotated[tuple[StageName, ...] | None, Field(min_length=1, strict=False)] = None
    """What is trained, the budget shared out; None for `codec`, and `video` where frames follow one another."""

    architecture: BackboneName = "mobilenet_v2"
    """The backbone that is cut in two around the codec."""
    backbone: str | None = Field(default=None, min_length=1)
    """File of the backbone's weights (torchvision's names), safetensors or .pth, or a name of `framevault weights`;
    None for the start's, or, from random networks, the architecture's usual ones."""
    blocks: Literal["gated", "hornet"] = "hornet"
    """What random g_a and g_s are made of: `hornet` costs fewer bytes, `gated` less time."""

    crop: int = Field(default=192, ge=CROP_MULTIPLE)
    """Side of a crop in pixels, a multiple of 64."""
    short_side: int = Field(default=540, ge=CROP_MULTIPLE)
    """Larger pictures are scaled down to this short side before they are kept."""

    learning_rate: float | None = Field(default=None, gt=0, le=0.1)
    """Of AdamW; None for 8e-4 from random networks, 2e-4 from a checkpoint's. The entropy model's goes with it."""
    gain_rate_factor: float = Field(default=2.5, gt=0)
    """Gains and densities learn this many times faster."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Of AdamW; gains and densities have none."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Longest gradient."""
    target_bpp: Annotated[tuple[float, ...] | None, Field(strict=False)] = None
    """Bits a pixel to steer the eight qualities to; None for the start's own rates, or a table from random networks."""
    steer_gain: float = Field(default=0.0025, ge=0, le=0.1)
    """How fast a quality's rate weight follows its rate: change of its logarithm a sample; 0 leaves it as it starts."""
    deep_start: float | None = Field(default=None, ge=0, le=1)
    """Share of the training before the deep losses begin; None for 0.27 from random networks, 0 from a checkpoint's."""
    deep_fade: float = Field(default=0.1, gt=0, le=1)
    """Share of the training over which they grow to full weight."""

    @field_validator("stages")
    @classmethod
    def _check_stages(cls, stages: tuple[StageName, ...] | None) -> tuple[StageName, ...] | None:
        check_order(stages, STAGE_ORDER)
        return stages

    @field_validator("crop")
    @classmethod
    def _check_crop(cls, crop: int) -> int:
        if crop % CROP_MULTIPLE:
            raise ValueError(f"should be a multiple of {CROP_MULTIPLE}")
        return crop

    @field_validator("target_bpp")
    @classmethod
    def _check_targets(cls, target_bpp: tuple[float, ...] | None) -> tuple[float, ...] | None:
        check_targets(target_bpp)
        return target_bpp

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.short_side < self.crop // 2:
            raise ValueError(f"short_side must be at least half of crop ({self.crop}), got {self.short_side}")
        return self


def check_qualities(qualities: tuple[int, ...]) -> tuple[int, ...]:
    """Return qualities that exist and rise.

    Raises:
        ValueError: They don't.
    """
    if list(qualities) != sorted(set(qualities) & set(range(LOWEST_QUALITY, HIGHEST_QUALITY + 1))):
        raise ValueError(f"should be {LOWEST_QUALITY} to {HIGHEST_QUALITY}, rising, each at most once")
    return qualities


def check_order(stages: Sequence[str] | None, order: Sequence[str]) -> None:
    """Check that chosen stages stand in their order, each once.

    Raises:
        ValueError: They don't.
    """
    if stages is not None and list(stages) != [name for name in order if name in stages]:
        raise ValueError(f"should be in the order {', '.join(order)}, each at most once")


def check_targets(targets: Sequence[float] | None) -> None:
    """Check that there is a rate for each quality.

    Raises:
        ValueError: There isn't, or they don't rise.
    """
    if targets is None:
        return
    rises = all(low < high for low, high in pairwise(targets))
    if len(targets) != NUM_QUALITIES or targets[0] <= 0 or not rises:
        raise ValueError(f"should be {NUM_QUALITIES} positive numbers that rise")


def changed_keys(before: TrainSettings, now: TrainSettings) -> list[str]:
    """Return the settings in which a training differs from the one it would resume; where it lies doesn't count."""
    ignored = FREE_KEYS | {"out"}
    return [key for key in type(now).model_fields if key not in ignored and getattr(before, key) != getattr(now, key)]
