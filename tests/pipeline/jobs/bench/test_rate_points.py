"""Tests of points of rate and accuracy, with a codec and a score that are worked by hand."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from framevault.pipeline.jobs.bench.coders import UNCOMPRESSED, Coded
from framevault.pipeline.jobs.bench.material import Frame, Material, Run
from framevault.pipeline.jobs.bench.rate_points import Point, compare, measure_points
from framevault.pipeline.jobs.bench.tallies import Scored


@dataclass(frozen=True)
class Halving:
    """Gives features or pixels of half the values, for ten bytes and the frame's first value."""

    gives_pixels: bool
    codec: str = "toy"
    setting: str = "half"
    is_intra: bool = True

    def code(self, runs: Sequence[Run], *, fps: float) -> Iterator[Coded]:
        for batch_nchw in (batch for run in runs for batch in run):
            half_nchw = batch_nchw // 2 if self.gives_pixels else batch_nchw.float() / 2
            sizes = tuple(10 + int(value) for value in batch_nchw[:, 0, 0, 0])
            yield Coded(sizes=sizes, decoded_nchw=half_nchw)


@dataclass
class Sums:
    """Sums up the features of frames by their target."""

    seen: dict[str, float] = field(default_factory=dict)

    def add(self, frames: Sequence[Frame[str]], features_nchw: Tensor) -> None:
        for frame, feature in zip(frames, features_nchw, strict=True):
            assert frame.target is not None
            self.seen[frame.target] = float(feature.sum())

    def result(self) -> Scored:
        return Scored(metrics=self.seen, values_p={})


def material() -> Material[str]:
    """Three frames of 2 x 2 pixels with the values 4, 6 and 8; the second is not scored."""
    batches = tuple(torch.full((1, 3, 2, 2), value, dtype=torch.uint8) for value in (4, 6, 8))
    frames = tuple(Frame(target=target, source_size=(2, 2)) for target in ("first", None, "last"))
    return Material(runs=(batches,), frames=frames, size=None, fps=10)


@pytest.mark.parametrize(("gives_pixels", "factor"), [(True, 100), (False, 1)])
def test_pixels_go_through_the_head_and_features_do_not(*, gives_pixels: bool, factor: float) -> None:
    (point,) = measure_points(
        material(), [Halving(gives_pixels)], head=lambda rgb_nchw: rgb_nchw.float() * 100, new_tally=Sums
    )

    assert point.scored.metrics == {"first": factor * 2 * 12, "last": factor * 4 * 12}


def test_all_frames_are_paid_for_scored_or_not() -> None:
    (point,) = measure_points(material(), [Halving(gives_pixels=False)], head=lambda x: x, new_tally=Sums)

    assert point.bytes_per_frame == pytest.approx((14 + 16 + 18) / 3)
    assert point.bits_per_pixel == pytest.approx(8 * (14 + 16 + 18) / 12)


def points(codec: str, sizes: Sequence[float], *, is_intra: bool = True, has_values: bool = True) -> list[Point]:
    """Points of 10 pictures; the nth has 3 n + 1 right ones."""
    right = [np.asarray([number < 3 * n + 1 for number in range(10)], np.float64) for n in range(len(sizes))]
    return [
        Point(
            codec=codec,
            setting=str(size),
            is_intra=is_intra,
            sizes_p=np.full(10, size),
            num_pixels=100,
            scored=Scored(metrics={"top1": float(values.mean())}, values_p={"top1": values} if has_values else {}),
        )
        for size, values in zip(sizes, right, strict=True)
    ]


def test_like_is_compared_with_like() -> None:
    measured = [
        *points(UNCOMPRESSED, [1000]),
        *points("dicm intra", [10, 20, 40]),
        *points("dicm video", [1, 2, 4], is_intra=False),
        *points("x265-intra slow", [20, 40, 80]),
        *points("mbt2018", [40, 80, 160]),
        *points("x265-inter slow", [5, 10, 20], is_intra=False),
    ]

    found = [(each.codec, each.anchor, each.metric, each.bd_rate.percent) for each in compare(measured)]

    assert [each[:3] for each in found] == [
        ("dicm intra", "x265-intra slow", "top1"),
        ("dicm intra", "mbt2018", "top1"),
        ("dicm video", "x265-inter slow", "top1"),
    ]
    assert [each[3] for each in found] == pytest.approx([-50, -75, -80])


def test_means_over_pictures_have_an_interval_and_others_none() -> None:
    anchor = points("x265-intra slow", [20, 40, 80])

    (sure,) = compare([*points("dicm intra", [10, 20, 40]), *anchor])
    (unsure,) = compare([*points("dicm intra", [10, 20, 40], has_values=False), *anchor])

    assert sure.interval is not None
    assert (sure.interval.low, sure.interval.high) == pytest.approx((-50, -50))
    assert unsure.interval is None


def test_what_cannot_be_compared_says_why() -> None:
    (found,) = compare([*points("dicm intra", [10]), *points("x265-intra slow", [20, 40])])

    assert math.isnan(found.bd_rate.percent)
    assert found.bd_rate.reason.startswith("the codec has 1 settings")
    assert found.interval is None
