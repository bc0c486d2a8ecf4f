"""The two measures against a plain reference, and limits."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from framevault.codecs.hsc.distortion import Distortion, DomainLimits, limits_of, measure
from framevault.codecs.testing import smooth_frames


def test_measures_are_what_their_papers_say() -> None:
    """Against scikit-image, whose similarity with these settings is the paper's with equal weights."""
    first = smooth_frames(2, 40, 52).double() / 255
    second = (first + 0.1 * torch.randn(first.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)

    found = measure((2 * second - 1).float(), (2 * first - 1).float())

    for number in range(2):
        error = float((first[number] - second[number]).square().mean())
        assert float(found.psnr_db_n[number]) == pytest.approx(-10 * math.log10(error), abs=1e-3)
        luma = [
            (x[number].permute(1, 2, 0).numpy() * np.array([0.299, 0.587, 0.114])).sum(axis=2) for x in (first, second)
        ]
        expected = structural_similarity(
            *luma, win_size=7, data_range=1.0, gaussian_weights=False, use_sample_covariance=False
        )  # type: ignore[no-untyped-call]  # scikit-image has no types
        assert float(found.ssim_n[number]) == pytest.approx(float(expected), abs=1e-3)


def test_equal_pictures_have_the_best_values() -> None:
    same = smooth_frames(1, 9, 5).float() / 127.5 - 1

    found = measure(same, same)

    assert found.psnr_db_n.tolist() == [99.0]
    assert found.ssim_n.tolist() == pytest.approx([1.0])


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (7, 7)])
def test_small_pictures_have_measures_too(size: tuple[int, int]) -> None:
    found = measure(torch.zeros(2, 3, *size), torch.ones(2, 3, *size))

    assert found.psnr_db_n.tolist() == pytest.approx([6.02, 6.02], abs=0.01)
    assert bool(torch.isfinite(found.ssim_n).all())


def test_pictures_below_either_limit_of_their_quality_or_of_no_number_are_outside() -> None:
    limits = DomainLimits(psnr_db=(20.0,) * 7 + (30.0,), ssim=(0.5,) * 8)
    found = Distortion(
        psnr_db_n=torch.tensor([25.0, 19.0, 25.0, float("nan"), 20.0]), ssim_n=torch.tensor([0.6, 0.6, 0.4, 0.6, 0.5])
    )

    assert limits.are_outside(found, quality=1) == [False, True, True, True, False]
    assert limits.are_outside(found, quality=8) == [True] * 5


def test_limits_are_low_quantiles() -> None:
    values_n = torch.arange(1001) / 10
    each = Distortion(psnr_db_n=values_n, ssim_n=values_n / 100)

    limits = limits_of([each] * 8)

    assert limits.psnr_db == pytest.approx((0.5,) * 8)
    assert limits.ssim == pytest.approx((0.005,) * 8)
