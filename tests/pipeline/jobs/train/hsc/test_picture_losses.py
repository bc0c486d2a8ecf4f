"""What restored pictures are blamed for."""

import pytest
import torch

from framevault.pipeline.jobs.train.hsc.perceptual import make_perceptual
from framevault.pipeline.jobs.train.hsc.picture_losses import ABSOLUTE_WEIGHT, PictureLosses, compare_pictures


def compare(difference_3: tuple[float, float, float]) -> PictureLosses:
    torch.manual_seed(0)
    original_nchw = torch.rand(2, 3, 32, 32) - 0.5
    restored_nchw = original_nchw + torch.tensor(difference_3)[:, None, None]
    return compare_pictures(
        restored_nchw,
        original_nchw,
        perceptual=make_perceptual(None, precision=torch.float32),
        perceptual_weight=0.5,
    )


def test_a_grey_difference_is_no_difference_of_colours() -> None:
    losses = compare((0.1, 0.1, 0.1))

    torch.testing.assert_close(losses.absolute_n, torch.full((2,), 0.1))
    torch.testing.assert_close(losses.colours_n, torch.zeros(2), atol=1e-5, rtol=0)


def test_a_tint_costs_what_its_components_say() -> None:
    losses = compare((0.0, 0.0, 0.2))

    # Cb differs by 0.1 and Cr by 0.0162, everywhere; weights are 6 and 12.
    expected_n = torch.full((2,), 18 * (0.1 + 0.0162) / 2)
    torch.testing.assert_close(losses.colours_n, expected_n)
    total_n = ABSOLUTE_WEIGHT * losses.absolute_n + expected_n + 0.5 * losses.features_n
    torch.testing.assert_close(losses.distortion_n, total_n)


def test_colours_that_alternate_from_pixel_to_pixel_are_left_to_the_other_losses() -> None:
    torch.manual_seed(0)
    original_nchw = torch.zeros(1, 3, 32, 32)
    restored_nchw = original_nchw.clone()
    restored_nchw[:, 2, ::2] += 0.2
    restored_nchw[:, 2, 1::2] -= 0.2

    losses = compare_pictures(
        restored_nchw,
        original_nchw,
        perceptual=make_perceptual(None, precision=torch.float32),
        perceptual_weight=0.5,
    )

    assert float(losses.colours_n) == pytest.approx(0, abs=1e-6)
    assert float(losses.absolute_n) == pytest.approx(0.2 / 3)
