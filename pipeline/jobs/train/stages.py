"""What a stage of the training must do for the loop, and which stages there are.

The loop (`loop.py`) knows neither networks nor losses: it draws batches, calls `step` until the budget is used up,
saves and restores what `state_dict` gives, and writes down what `step` and `validate` say. A new stage is a class that
fulfils `TrainingStage` and a row of its training's table.

Letters in shapes: N crops, H and W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from framevault.configs.train import TrainSettings
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.world import World

State = Mapping[str, object]
"""Nested mappings and lists of tensors, numbers and strings: what `saved_state.py` can write."""

Row = Mapping[str, object]
"""A row of metrics.jsonl: numbers and strings by name."""

Job = TypeVar("Job", bound=TrainSettings)
"""The settings of one training."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """What one step of one process learns from."""

    views: tuple[Tensor, ...]
    """RGB uint8 [N, 3, H, W], one tensor a view; all views of one place show the same picture. A stage that learns from
    what networks made of pictures has that instead, one that learns from labels has its targets behind them, [N, ...]
    each."""

    @property
    def rgb_nchw(self) -> Tensor:
        """The first view."""
        return self.views[0]

    @property
    def num_crops(self) -> int:
        """Crops in each view."""
        return len(self.views[0])


class TrainingStage(Protocol):
    """One part of the training: networks, losses and optimiser."""

    @property
    def starts_from(self) -> Path | None:
        """The exported file whose networks it began with, to be measured for comparison; None if there is none."""
        ...

    def draw(self, pictures: PictureSet, rng: np.random.Generator) -> Batch:
        """Cut a batch from the pictures; called ahead of the step by other threads, so it changes nothing."""
        ...

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch; torch's random numbers are seeded before each call.

        Args:
            batch: What `draw` gave.
            progress: Share of the stage's budget that is used up, 0..1.

        Returns:
            Figures by name, among them `skipped_not_finite`: 1 where the step had no finite gradient and changed
            nothing. The loop writes down the mean of each since the last row, and draws those that `plots.py` names.
        """
        ...

    def state_dict(self) -> State:
        """Return all that the next step depends on."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave.

        Raises:
            ValueError: It is another stage's, or of other networks.
        """
        ...

    def export(self, path: Path) -> None:
        """Write what is of use after the training; the stage itself stays as it is."""
        ...

    def validate(self, exported: Path, pictures: PictureSet, qualities: Sequence[int]) -> list[Row]:
        """Measure an exported file on held-out pictures: a row a quality; empty if the stage has nothing to measure."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageSetup(Generic[Job]):
    """What a stage is made from."""

    job: Job
    """The settings."""
    device: torch.device
    """Where this process computes."""
    world: World
    """The processes that train together."""
    pictures: PictureSet
    """This process's share of the training pictures."""
    draw_samples: Callable[[Callable[[PictureSet, np.random.Generator], Batch], int], list[Batch]]
    """Draws a number of batches with a stage's `draw`, the same ones each time: for statistics of the data."""
    say: Callable[[str], None]
    """Tells people what they should know, in a sentence."""
    earlier: Mapping[str, Path]
    """What earlier stages of this training exported, by their names."""


def add_nothing(setup: StageSetup[Job], path: Path) -> None:
    """Leave the last export as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow(Generic[Job]):
    """A stage of a training's table."""

    share: float
    """Its part of the budget, relative to the other chosen stages'."""
    makes_product: bool
    """Whether what it exports is what the training is for."""
    build: Callable[[StageSetup[Job]], TrainingStage]
    """Makes it; torch's random numbers are seeded before the call."""
    finish: Callable[[StageSetup[Job], Path], None] = add_nothing
    """Adds to the last export what is found from the training pictures; in the first process alone."""


def as_mapping(value: object) -> Mapping[str, object]:
    """Return a member of a state that is a mapping."""
    assert isinstance(value, dict)
    return value
