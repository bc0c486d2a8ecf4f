"""Tests of the stage that fits the detector: its batches, and that it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from framevault.configs.train_detector import TrainDetectorJob
from framevault.pipeline.jobs.train.detector.features import FeatureSource
from framevault.pipeline.jobs.train.detector.fit_stage import FitStage
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.stages import StageSetup
from framevault.pipeline.jobs.train.world import World
from tests.media import test_pattern
from tests.pipeline.jobs.train.detector.toy import NUM_PICTURES, make_labelled, read_pixels

PERSON = 1
"""Position of the label among those of the toy's file."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("labelled") / "toy")


def make_stage(folder: Path, **settings: object) -> tuple[FitStage, PictureSet]:
    """Build a stage as the loop does, over all pictures of the toy."""
    values: dict[str, object] = {"data": ("x",), "out": "out", "labels": str(folder / "labels.json"), "canvas": 64}
    job = TrainDetectorJob.model_validate({**values, "batch_size": 4, **settings})
    names = tuple(f"{number:03d}.png" for number in range(NUM_PICTURES))
    pictures = PictureSet(tuple(read_pixels(folder / "pictures" / name) for name in names), names)
    torch.manual_seed(0)
    setup = StageSetup(
        job=job,
        device=torch.device("cpu"),
        world=World(),
        pictures=pictures,
        draw_samples=lambda draw, num: [],
        say=lambda text: None,
        earlier={},
    )
    return FitStage(setup), pictures


def test_the_targets_centres_lie_on_the_objects(folder: Path) -> None:
    stage, pictures = make_stage(folder)
    rgb_nchw, heat_nchw, *_ = stage.draw(pictures, np.random.default_rng(1)).views

    places = torch.nonzero(heat_nchw[:, PERSON] == 1).tolist()

    assert rgb_nchw.shape == (4, 3, 64, 64)
    assert heat_nchw.shape == (4, 2, 16, 16)
    assert places
    for number, row, column in places:
        red, green, blue = rgb_nchw[number, :, 4 * row + 2, 4 * column + 2].tolist()
        # One picture in ten is made grey, the others keep what is red.
        assert red > max(green, blue) or red == pytest.approx(green, abs=12)


def test_steps_on_one_batch_make_its_loss_smaller(folder: Path) -> None:
    stage, pictures = make_stage(folder, learning_rate=5e-3)
    batch = stage.draw(pictures, np.random.default_rng(1))

    losses = []
    for _ in range(12):
        torch.manual_seed(0)
        losses.append(stage.step(batch, 0.0)["loss"])

    assert losses[-1] < 0.8 * losses[0]


def test_features_come_through_streams_that_cost_more_at_a_higher_quality() -> None:
    source = FeatureSource(None, backbone="mobilenet_v2", device=torch.device("cpu"))
    rgb_nchw = torch.from_numpy(test_pattern(0, width=96, height=64)).permute(2, 0, 1)[None]

    original_nchw = source.original(rgb_nchw)
    (low_nchw, few_bytes), (high_nchw, many_bytes) = (source.through_streams(rgb_nchw, quality=q) for q in (1, 8))

    errors = [float((each_nchw - original_nchw).square().mean()) for each_nchw in (low_nchw, high_nchw)]
    assert original_nchw.shape == low_nchw.shape == (1, 24, 16, 24)
    assert few_bytes < many_bytes
    assert errors[0] > errors[1] > 0
