"""Points of rate and likeness: sizes, metrics, and who is compared with whom."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from framevault.pipeline.jobs.bench.face_coders import CodedFaces
from framevault.pipeline.jobs.bench.face_points import (
    Counted,
    FacePoint,
    compare_faces,
    measure_faces,
    msssim_window,
    pixel_metrics,
    shown_faces,
)
from tests.pipeline.jobs.bench.toy_faces import SIDE, toy_faces


@dataclass(frozen=True)
class Brighter:
    """Makes pictures brighter, for a price; has a header of 7 bytes."""

    codec: str
    levels: int
    price: int

    @property
    def setting(self) -> str:
        """How much brighter."""
        return str(self.levels)

    def code(self, faces_nchw: Tensor) -> Iterator[CodedFaces]:
        """Code pictures two by two; later ones cost a byte more each."""
        for start in range(0, len(faces_nchw), 2):
            some_nchw = faces_nchw[start : start + 2]
            sizes = [self.price + start + n for n in range(len(some_nchw))]
            yield CodedFaces(
                file_bytes=tuple(size + 7 for size in sizes),
                payload_bytes=tuple(sizes),
                decoded_nchw=some_nchw + self.levels,
            )


def measure(*coders: Brighter, num_faces: int = 5) -> list[FacePoint]:
    return list(measure_faces(coders, toy_faces(num_faces) // 2, []))


def test_bytes_and_metrics_are_means_over_all_faces() -> None:
    (point,) = measure(Brighter("some", 5, 100))

    assert point.bytes_per_face("payload_bytes") == 102
    assert point.bytes_per_face("file_bytes") == 109
    assert point.sizes_n["payload_bytes"].tolist() == [100, 101, 102, 103, 104]
    assert point.metrics["psnr_db"] == pytest.approx(20 * math.log10(255 / 5))


def test_equal_pictures_have_a_finite_psnr() -> None:
    faces_nchw = toy_faces(2)

    found = pixel_metrics(faces_nchw, faces_nchw)

    assert found["psnr_db"].tolist() == pytest.approx([99, 99])
    assert found["ms_ssim"].tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(("side", "window"), [(64, 3), (128, 7), (160, 9), (176, 11), (256, 11)])
def test_the_window_of_ms_ssim_is_the_largest_that_fits(side: int, window: int) -> None:
    x_nchw = torch.zeros(1, 3, side, side, dtype=torch.uint8)

    assert msssim_window(side) == window
    assert (window - 1) * 16 < side
    assert pixel_metrics(x_nchw, x_nchw)["ms_ssim"].tolist() == [1]


def test_half_the_bytes_at_equal_likeness_is_minus_fifty_percent_and_headers_count_in_one_way() -> None:
    ours = [Brighter("hsc", levels, price) for levels, price in ((20, 98), (10, 198), (2, 398))]
    thinned = Brighter("hsc thinned", 40, 1)
    anchor = [Brighter("webp", levels, price) for levels, price in ((20, 198), (10, 398), (2, 798))]

    found = {(each.metric, each.counted): each for each in compare_faces(measure(*ours, thinned, *anchor))}

    assert set(found) == {(m, c) for m in ("psnr_db", "ms_ssim") for c in ("file_bytes", "payload_bytes")}
    payload, whole = found["psnr_db", "payload_bytes"], found["psnr_db", "file_bytes"]
    assert payload.anchor == "webp"
    assert payload.bd_rate.percent == pytest.approx(-50)
    assert -50 < whole.bd_rate.percent < -45
    assert payload.interval is not None
    assert payload.interval.low == pytest.approx(-50, abs=1)


def test_where_no_value_is_equal_it_says_what_each_codec_reaches() -> None:
    points = measure(Brighter("hsc", 20, 50), Brighter("hsc", 18, 90), Brighter("avif", 3, 50), Brighter("avif", 2, 90))

    found = next(each for each in compare_faces(points) if each.metric == "psnr_db")

    assert math.isnan(found.bd_rate.percent)
    assert found.bd_rate.reason == (
        "no equal values: hsc has 22.11 to 23.03 in 2 settings, avif has 38.59 to 42.11 in 2 settings"
    )
    assert found.interval is None


def test_lower_distances_are_better() -> None:
    def with_distance(codec: str, size: float, distance: float) -> FacePoint:
        sizes: dict[Counted, NDArray[np.float64]] = {"file_bytes": np.full(4, size), "payload_bytes": np.full(4, size)}
        return FacePoint(
            codec=codec, setting="", sizes_n=sizes, metrics={"frechet (x)": distance}, values_n={},
            shown_nchw=torch.zeros(0), shown_sizes={},
        )  # fmt: skip

    ours = [with_distance("hsc", size, distance) for size, distance in ((50, 8.0), (100, 4.0), (200, 1.0))]
    theirs = [with_distance("avif", size, distance) for size, distance in ((200, 8.0), (400, 4.0), (800, 1.0))]

    found = compare_faces([*ours, *theirs])[0]

    assert found.bd_rate.percent == pytest.approx(-75)
    assert (found.bd_rate.lowest, found.bd_rate.highest) == (-8, -1)
    assert found.interval is None


def test_shown_faces_are_spread_over_all() -> None:
    assert shown_faces(3) == [0, 1, 2]
    assert shown_faces(60) == [0, 10, 20, 30, 40, 50]
    (point,) = measure(Brighter("some", 0, 10), num_faces=12)
    assert point.shown_nchw.shape == (6, 3, SIDE, SIDE)
    assert point.shown_sizes["payload_bytes"] == (10, 12, 14, 16, 18, 20)
