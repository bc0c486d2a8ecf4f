"""What `framevault train detector` is told: labelled pictures, the budget and the recipe, with every default."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from framevault.codecs.spec import HIGHEST_QUALITY, LOWEST_QUALITY
from framevault.configs.train import TrainSettings, check_qualities

CANVAS_MULTIPLE = 32
"""Canvases are multiples of the detector's coarsest stride, in pixels."""


class TrainDetectorJob(TrainSettings):
    """Settings of `framevault train detector`."""

    labels: str = Field(min_length=1)
    """A COCO file of the pictures' boxes."""
    weights: str | None = Field(default=None, min_length=1)
    """Checkpoint of codec dicm whose features it shall read; None for the shipped one."""
    qualities: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = tuple(
        range(LOWEST_QUALITY, HIGHEST_QUALITY + 1)
    )
    """Of the streams that half of each batch is decoded from, taken at random."""

    batch_size: int = Field(default=6, ge=1)
    """Canvases a step and process."""
    canvas: int = Field(default=448, ge=2 * CANVAS_MULTIPLE)
    """Side of a canvas in pixels, a multiple of 32; cuts of one, two or four pictures fill it."""
    mirrored: float = Field(default=0.5, ge=0, le=1)
    """Share of the cuts that are mirrored; 0 where letters or sides tell labels apart."""
    short_side: int = Field(default=1080, ge=2 * CANVAS_MULTIPLE)
    """Larger pictures are scaled down to this short side before they are kept."""

    learning_rate: float = Field(default=1e-3, gt=0, le=0.1)
    """Of AdamW."""
    tail_rate_factor: float = Field(default=0.25, ge=0)
    """The backbone's tail learns so many times as fast."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Of AdamW."""
    clip_norm: float = Field(default=10.0, gt=0)
    """Longest gradient."""

    held_out: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the pictures that is never trained on, chosen by their names; average precision is measured on it."""
    validation_pictures: int = Field(default=64, ge=1)
    """Held-out pictures that are measured."""
    validation_qualities: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (5,)
    """Qualities that are measured while the training runs; at its end all are."""

    @field_validator("canvas")
    @classmethod
    def _check_canvas(cls, canvas: int) -> int:
        if canvas % CANVAS_MULTIPLE:
            raise ValueError(f"should be a multiple of {CANVAS_MULTIPLE}")
        return canvas

    @field_validator("qualities")
    @classmethod
    def _check_decoded(cls, qualities: tuple[int, ...]) -> tuple[int, ...]:
        return check_qualities(qualities)

    @model_validator(mode="after")
    def _check_has_start(self) -> Self:
        if self.from_scratch:
            raise ValueError("from_scratch: a detector is fitted from a checkpoint's networks: name one with init")
        return self
