"""BD-rate: closed forms, dips, curves that do not meet, and how sure it is."""

import math

import numpy as np
import pytest

from framevault.pipeline.jobs.bench.bd_rate import PictureCurve, bd_rate, bootstrap_bd_rate, upper_envelope

CURVE = [(100.0, 0.2), (180.0, 0.45), (400.0, 0.6), (1600.0, 0.8)]


def test_half_the_bytes_at_every_accuracy_is_minus_fifty_percent() -> None:
    found = bd_rate([(size / 2, accuracy) for size, accuracy in CURVE], CURVE)

    assert found.percent == pytest.approx(-50)
    assert (found.lowest, found.highest, found.reason) == (0.2, 0.8, "")


def test_a_curve_against_itself_is_zero_and_swapping_inverts_the_ratio() -> None:
    other = [(90.0, 0.1), (300.0, 0.5), (900.0, 0.7)]

    assert bd_rate(CURVE, CURVE).percent == pytest.approx(0)
    there, back = bd_rate(CURVE, other).percent, bd_rate(other, CURVE).percent
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)


def test_the_share_is_that_of_the_accuracies_that_either_reaches() -> None:
    other = [(90.0, 0.1), (300.0, 0.5)]

    assert bd_rate(CURVE, other).share == pytest.approx((0.5 - 0.2) / (0.8 - 0.1))
    assert bd_rate(CURVE, CURVE).share == pytest.approx(1)


def test_straight_lines_have_their_closed_form() -> None:
    """The logarithm to base 10 is 2 + 2a and 1 + 4a: over 0.2 to 0.8, their difference has the mean -1 + 2 * 0.5."""
    curve = [(10 ** (1 + 4 * accuracy), accuracy) for accuracy in (0.1, 0.3, 0.8)]
    anchor = [(10 ** (2 + 2 * accuracy), accuracy) for accuracy in (0.2, 0.5, 0.6, 0.9)]

    found = bd_rate(curve, anchor)

    assert (found.lowest, found.highest) == (0.2, 0.8)
    assert found.percent == pytest.approx(0, abs=1e-9)
    # Over 0.1 to 0.5 instead, the mean difference is -1 + 2 * 0.3.
    lower = bd_rate([*curve[:2], (10**3.0, 0.5)], [(10**2.2, 0.1), *anchor])
    assert lower.percent == pytest.approx(100 * (10**-0.4 - 1))


def test_between_points_the_interpolation_is_fritsch_and_carlsons() -> None:
    """Three points with slopes 1 and 3 (in natural logarithms): worked by hand.

    The derivative in the middle is the harmonic mean 1.5; at the ends, the three-point formula gives (3 * 1 - 3) / 2
    = 0 and (3 * 3 - 1) / 2 = 4. A cubic's integral over its unit interval is (y0 + y1) / 2 + (d0 - d1) / 12, so the
    first half has 0.5 + (0 - 1.5) / 12 and the second 2.5 + (1.5 - 4) / 12.
    """
    curve = [(1.0, 0.0), (math.e, 1.0), (math.e**4, 2.0)]
    flat = [(1.0, 0.0), (1.0 + 1e-12, 2.0)]

    found = bd_rate(curve, flat)

    mean = (0.5 - 1.5 / 12 + 2.5 - 2.5 / 12) / 2
    assert found.percent == pytest.approx(100 * math.expm1(mean))


def test_points_that_more_bytes_made_worse_are_left_out() -> None:
    dips = [(200.0, 0.45), (700.0, 0.45), (3000.0, 0.79), (100.0, 0.1)]

    assert upper_envelope([*CURVE, *dips]) == sorted(CURVE)
    assert bd_rate([*CURVE, *dips], CURVE).percent == pytest.approx(0)


def test_of_points_with_as_many_bytes_the_best_stays() -> None:
    assert upper_envelope([(100.0, 0.2), (100.0, 0.3), (200.0, 0.3)]) == [(100.0, 0.3)]


def test_curves_that_reach_no_common_accuracy_have_no_bd_rate_and_say_so() -> None:
    found = bd_rate([(50.0, 0.85), (60.0, 0.9)], CURVE)

    assert math.isnan(found.percent)
    assert math.isnan(found.lowest)
    assert found.reason == "no accuracy is reached by both: the codec has 0.85 to 0.9, the anchor 0.2 to 0.8"


def test_a_curve_of_one_rising_point_has_no_bd_rate_and_says_whose() -> None:
    falling = [(100.0, 0.5), (200.0, 0.4)]

    assert bd_rate(falling, CURVE).reason.startswith("the codec has 1 settings of rising accuracy")
    assert bd_rate(CURVE, []).reason.startswith("the anchor has 0 settings")


@pytest.mark.parametrize("point", [(0.0, 0.5), (-1.0, 0.5), (math.nan, 0.5), (100.0, math.nan), (math.inf, 0.5)])
def test_impossible_points_are_refused(point: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="positive bytes and a finite accuracy"):
        bd_rate([*CURVE, point], CURVE)


def picture_curve(num_pictures: int, *, factor: float = 1, seed: int = 0) -> PictureCurve:
    """Four settings; a picture is right from some setting on."""
    rng = np.random.default_rng(seed)
    sizes_kp = factor * np.outer([100, 200, 400, 800], rng.uniform(0.5, 1.5, num_pictures))
    needed_p = rng.uniform(0, 1, num_pictures)
    return PictureCurve(
        sizes_kp=sizes_kp, values_kp=np.asarray([needed_p < share for share in (0.2, 0.4, 0.6, 0.7)], np.float64)
    )


def test_the_interval_holds_the_truth_and_shrinks_with_more_pictures() -> None:
    widths = []

    for num_pictures in (50, 2000):
        curve, anchor = picture_curve(num_pictures, factor=0.5, seed=1), picture_curve(num_pictures, seed=2)
        found = bootstrap_bd_rate(curve, anchor)
        assert found.low < -50 < found.high
        widths.append(found.high - found.low)

    assert widths[1] < widths[0] / 3


def test_draws_take_the_same_pictures_for_both_codecs_and_repeat_by_seed() -> None:
    curve, anchor = picture_curve(40, factor=0.5), picture_curve(40)

    found = bootstrap_bd_rate(curve, anchor, num_draws=20)

    assert (found.low, found.high) == pytest.approx((-50, -50))
    unlike = [bootstrap_bd_rate(curve, picture_curve(40, seed=3), num_draws=20, seed=seed) for seed in (0, 0, 1)]
    assert unlike[0] == unlike[1] != unlike[2]


def test_where_most_draws_have_no_bd_rate_there_is_no_interval() -> None:
    always = PictureCurve(sizes_kp=np.full((3, 10), 5.0), values_kp=np.ones((3, 10)))

    found = bootstrap_bd_rate(always, picture_curve(10), num_draws=10)

    assert math.isnan(found.low)
    assert math.isnan(found.high)
