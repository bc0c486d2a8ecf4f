"""Colours, blur and mirror of views, against numbers worked out here."""

import math

import numpy as np
import pytest
import torch

from framevault.codecs.dicm.views import ViewConfig, blur, change_light, turn_hues, vary

NOTHING = ViewConfig(jitter_share=0, grey_share=0, blur_share=0, mirror_share=0)


def test_nothing_changes_where_no_share_is_changed() -> None:
    pictures = torch.rand(3, 3, 8, 9, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(vary(pictures, NOTHING, rng=np.random.default_rng(0)), pictures)


def test_no_saturation_leaves_the_grey_of_each_pixel() -> None:
    """Pure red is 0.299 of white."""
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)

    grey = turn_hues(red, np.zeros(1), np.zeros(1))

    torch.testing.assert_close(grey.flatten(), torch.full((3,), 0.299))


def test_a_half_turn_of_the_hue_mirrors_colours_about_their_grey() -> None:
    colour = torch.tensor([0.6, 0.3, 0.2]).reshape(1, 3, 1, 1)
    grey = 0.299 * 0.6 + 0.587 * 0.3 + 0.114 * 0.2

    turned = turn_hues(colour, np.array([0.5]), np.ones(1))

    torch.testing.assert_close(turned.flatten(), 2 * grey - colour.flatten())


def test_light_scales_values_and_their_distance_from_the_mean_by_hand() -> None:
    """Greys of 0.2 and 0.6: mean 0.4; at contrast 1/2, 0.3 and 0.5; at brightness 1.2, 0.36 and 0.6."""
    picture = torch.tensor([0.2, 0.6]).expand(1, 3, 1, 2)

    lit = change_light(picture, np.array([1.2]), np.array([0.5]))

    torch.testing.assert_close(lit[0, 0], torch.tensor([[0.36, 0.6]]))


def test_blur_spreads_a_point_as_a_gaussian_and_keeps_its_sum() -> None:
    point = torch.zeros(2, 3, 15, 15)
    point[:, :, 7, 7] = 1

    blurred = blur(point, np.array([0.0, 1.0]))

    torch.testing.assert_close(blurred[0], point[0])
    assert float(blurred[1, 0].sum()) == pytest.approx(1, abs=1e-5)
    # Ratio of neighbours at distance 1 and 0, and on the diagonal.
    assert float(blurred[1, 0, 7, 8] / blurred[1, 0, 7, 7]) == pytest.approx(math.exp(-0.5), rel=1e-4)
    assert float(blurred[1, 0, 8, 8] / blurred[1, 0, 7, 7]) == pytest.approx(math.exp(-1), rel=1e-4)


def test_mirrored_views_run_backwards() -> None:
    pictures = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    config = ViewConfig(jitter_share=0, grey_share=0, blur_share=0, mirror_share=1)

    torch.testing.assert_close(vary(pictures, config, rng=np.random.default_rng(0)), pictures.flip(3))


def test_two_draws_differ_one_seed_repeats_and_values_stay_in_range() -> None:
    pictures = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(1)

    first, second = vary(pictures, ViewConfig(), rng=rng), vary(pictures, ViewConfig(), rng=rng)
    again = vary(pictures, ViewConfig(), rng=np.random.default_rng(1))

    assert torch.equal(first, again)
    assert not torch.allclose(first, second)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
