"""Crops and batches: repeatable, and of the right part of pictures."""

import numpy as np
import pytest
import torch

from framevault.pipeline.jobs.train.crops import random_crops
from framevault.pipeline.jobs.train.pictures import PictureSet
from framevault.pipeline.jobs.train.prefetch import BatchQueue
from framevault.pipeline.jobs.train.stages import Batch
from tests.media import test_pattern

PICTURES = PictureSet(
    tuple(
        test_pattern(number, width=width, height=height)
        for number, (width, height) in enumerate([(300, 200), (40, 90)])
    ),
    ("large", "small"),
)


def draw(rng: np.random.Generator) -> Batch:
    return Batch(views=(random_crops(PICTURES, rng, num_crops=3, side=64),))


def take(num: int, *, first_step: int, num_threads: int) -> list[torch.Tensor]:
    with BatchQueue(draw, seed=(7, 0), first_step=first_step, num_threads=num_threads) as batches:
        return [batches.take().rgb_nchw for _ in range(num)]


def test_crops_have_their_size_whatever_the_pictures_size() -> None:
    crops = random_crops(PICTURES, np.random.default_rng(0), num_crops=20, side=128)

    assert crops.shape == (20, 3, 128, 128)
    assert crops.dtype == torch.uint8
    assert all(crop.float().std() > 5 for crop in crops)


def test_a_crop_of_one_colour_stays_that_colour_but_for_its_brightness() -> None:
    grey = PictureSet((np.full((100, 100, 3), 100, np.uint8),), ("grey",))

    crops = random_crops(grey, np.random.default_rng(0), num_crops=50, side=64).float()

    values = crops.amax(dim=(1, 2, 3))
    assert torch.equal(values, crops.amin(dim=(1, 2, 3)))
    assert (values == 100).sum() > 20
    assert values.min() >= 80
    assert values.max() <= 120


def test_a_batch_follows_from_its_step_whatever_the_threads_and_the_first_step() -> None:
    one, three, later = (
        take(6, first_step=0, num_threads=1),
        take(6, first_step=0, num_threads=3),
        take(3, first_step=3, num_threads=2),
    )

    assert all(map(torch.equal, one, three))
    assert all(map(torch.equal, one[3:], later))
    assert not torch.equal(one[0], one[1])


def test_an_error_in_drawing_reaches_the_one_who_takes() -> None:
    def fail(rng: np.random.Generator) -> Batch:
        raise RuntimeError("no picture")

    with (
        BatchQueue(fail, seed=(0,), first_step=0, num_threads=1) as batches,
        pytest.raises(RuntimeError, match="no pic"),
    ):
        batches.take()
