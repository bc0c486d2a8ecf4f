"""Codecs of small pictures, and stages that train them for a few steps."""

from pathlib import Path

import numpy as np
import torch

from framevault.codecs.hsc.config import HscConfig
from framevault.configs.train_hsc import TrainHscJob
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import StageSetup, State, TrainingStage
from framevault.pipeline.jobs.train.world import World
from tests.media import test_pattern

SIZES: dict[str, object] = {
    "resolution": 64,
    "split": 8,
    "style": 16,
    "channels": (16, 16, 8, 8, 8),
    "body": (8, 8, 8, 8, 8),
    "core": 6,
    "style_hidden": 16,
    "wide": 16,
    "deep": 16,
    "slices": (2, 2, 2),
    "context": 8,
}
"""Of a domain of 64 pixels."""

SMALL = HscConfig.from_json(SIZES)

PICTURES = PictureSet(
    tuple(test_pattern(number, width=width, height=64) for number, width in enumerate((64, 80, 64, 64))), tuple("abcd")
)


def make_setup(
    *,
    earlier: dict[str, Path] | None = None,
    **settings: object,
) -> StageSetup[TrainHscJob]:
    """Return what a stage is made from; from random networks unless a start is given."""
    values: dict[str, object] = {"data": ("x",), "out": "out", "batch_size": 2, "precision": "float32", **settings}
    if "init" not in settings and "generator" not in settings:
        values |= {"from_scratch": True, "sizes": SIZES}
    return StageSetup(
        job=TrainHscJob.model_validate(values),
        device=torch.device("cpu"),
        world=World(),
        pictures=PICTURES,
        draw_samples=lambda draw, num: [draw(PICTURES, np.random.default_rng(n)) for n in range(num)],
        say=lambda text: None,
        earlier=earlier or {},
    )


def step(stage: TrainingStage, progress: float, *, seed: int = 0) -> dict[str, float]:
    """Make a step as the loop does."""
    torch.manual_seed(seed)
    return stage.step(stage.draw(PICTURES, np.random.default_rng(seed)), progress)


def tensors_of(state: State) -> dict[str, torch.Tensor]:
    """Return copies of all tensors of a state, by their path in it."""
    found: dict[str, torch.Tensor] = {}

    def collect(value: object, path: str) -> None:
        if isinstance(value, torch.Tensor):
            found[path] = value.detach().clone()
        elif isinstance(value, dict):
            for name, item in value.items():
                collect(item, f"{path}.{name}" if path else str(name))
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                collect(item, f"{path}.{number}")

    collect(dict(state), "")
    return found


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], prefix: str) -> set[str]:
    """Return the names below a prefix whose tensors differ, without the prefix."""
    return {
        name.removeprefix(prefix)
        for name in after
        if name.startswith(prefix) and name in before and not torch.equal(before[name], after[name])
    }
