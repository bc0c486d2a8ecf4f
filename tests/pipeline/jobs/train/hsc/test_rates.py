"""Which rates pictures are restored from, what is steered to, and how pictures become squares."""

import numpy as np
import pytest
import torch

from framevault.codecs.hsc.config import HscConfig
from framevault.pipeline.jobs.train.hsc.rates import (
    CORE_SHARE,
    PREFIX_SHARE,
    TYPICAL_BYTES,
    PictureRates,
    fresh_steering,
    typical_rates,
)
from framevault.pipeline.jobs.train.hsc.squares import centre_square, random_squares, signed
from framevault.pipeline.jobs.train.pictures import PictureSet
from tests.pipeline.jobs.train.hsc.toy import SMALL, make_setup


def make_rates() -> PictureRates:
    job = make_setup().job
    return PictureRates(fresh_steering(job, SMALL, start=0.0), SMALL, torch.device("cpu"))


def test_every_prefix_is_trained_and_most_pictures_have_all_slices() -> None:
    torch.manual_seed(0)

    quality_n, slices_n = make_rates().draw(4000)

    shares = torch.bincount(slices_n, minlength=4).double() / 4000
    assert shares[0] == pytest.approx(CORE_SHARE, abs=0.03)
    assert shares[1] == pytest.approx(PREFIX_SHARE / 2, abs=0.03)
    assert shares[2] == pytest.approx(PREFIX_SHARE / 2, abs=0.03)
    assert set(quality_n.tolist()) == set(range(8))
    assert make_rates().whole(slices_n).double().mean() == shares[3]


def test_low_qualities_do_not_have_all_of_the_gradient() -> None:
    rates = make_rates()

    weights = rates.steering.weights(torch.arange(8))
    factors = rates.loss_factor(torch.arange(8))

    assert weights[0] == pytest.approx(10, rel=1e-3)
    assert weights[7] == pytest.approx(0.4, rel=1e-3)
    assert bool((factors.diff() >= 0).all())
    assert factors[7] == 1


def test_core_symbols_never_pay_more_than_high_qualities_latents_do() -> None:
    rates = make_rates()
    quality_n, bits_n, nothing_n = torch.tensor([0, 7]), torch.full((2,), 64.0**2), torch.zeros(2)

    of_core = rates.weigh(quality_n, core_bits_n=bits_n, latent_bits_n=nothing_n)
    of_latent = rates.weigh(quality_n, core_bits_n=nothing_n, latent_bits_n=bits_n)

    assert of_core.tolist() == pytest.approx([1.0, 0.4], rel=1e-3)
    assert of_latent.tolist() == pytest.approx([10.0, 0.4], rel=1e-3)


def test_bytes_that_are_steered_to_follow_the_latents_size() -> None:
    job = make_setup().job

    assert typical_rates(job, HscConfig()) == pytest.approx([8 * each / 128**2 for each in TYPICAL_BYTES])
    assert typical_rates(job, SMALL)[0] == pytest.approx(8 * 60 * (6 * 4 * 4) / (64 * 8 * 8) / 64**2)
    own = make_setup(target_bytes=tuple(range(10, 90, 10))).job
    assert typical_rates(own, SMALL)[1] == 8 * 20 / 64**2


def test_pictures_of_a_domain_are_never_cut_smaller() -> None:
    left_hwc = np.zeros((40, 60, 3), np.uint8)
    left_hwc[:, :10] = 255
    pictures = PictureSet((left_hwc,), ("wide",))

    squares_nchw = random_squares(pictures, np.random.default_rng(0), num_squares=32, side=40)

    num_bright = (squares_nchw == 255).all(dim=1).all(dim=1).sum(dim=1)
    # Whole rows and any columns, mirrored or not.
    assert {0, 10} <= set(num_bright.tolist()) <= set(range(11))
    assert squares_nchw.shape == (32, 3, 40, 40)


def test_the_middle_square_is_scaled_to_the_side() -> None:
    tall_hwc = np.zeros((96, 32, 3), np.uint8)
    tall_hwc[32:64] = 200

    square_nchw = centre_square(tall_hwc, side=64)

    assert square_nchw.shape == (1, 3, 64, 64)
    assert int(square_nchw.min()) == 200


def test_pixels_become_numbers_around_zero() -> None:
    rgb_nchw = torch.tensor([0, 255], dtype=torch.uint8)[None, None, None].expand(1, 3, 1, 2)

    assert signed(rgb_nchw, torch.device("cpu"))[0, 0, 0].tolist() == [-1, 1]
