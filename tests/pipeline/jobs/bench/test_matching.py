"""Tests of the bytes at which a codec reaches a goal."""

import math

import pytest

from framevault.pipeline.jobs.bench.matching import Match, match_bytes

CURVE = [(100.0, 0.2), (400.0, 0.6), (1600.0, 0.8)]


def test_a_goal_that_was_measured_needs_the_bytes_that_were_measured() -> None:
    found = [match_bytes(CURVE, goal).bytes_per_frame for goal in (0.6, 0.8)]

    assert found == pytest.approx([400, 1600])


def test_between_two_points_the_logarithm_of_the_bytes_is_interpolated() -> None:
    match = match_bytes(CURVE, 0.4)

    assert match.bytes_per_frame == pytest.approx(200)
    assert match.text == "200"


def test_the_order_of_the_points_does_not_matter() -> None:
    assert match_bytes(CURVE[::-1], 0.7) == match_bytes(CURVE, 0.7)


def test_goals_beyond_the_curve_are_bounds() -> None:
    below, above = match_bytes(CURVE, 0.1), match_bytes(CURVE, 0.9)

    assert (below.bytes_per_frame, below.text) == (100, "< 100")
    assert (above.bytes_per_frame, above.text) == (1600, "> 1600")


def test_a_curve_that_dips_is_taken_at_its_best() -> None:
    dipping = [(100.0, 0.2), (400.0, 0.6), (800.0, 0.3), (1600.0, 0.8)]

    assert match_bytes(dipping, 0.6).bytes_per_frame == pytest.approx(400)
    assert match_bytes(dipping, 0.7) == match_bytes(CURVE, 0.7)


def test_a_curve_that_ends_with_a_dip_has_its_most_bytes_as_the_bound() -> None:
    assert match_bytes([*CURVE, (3200.0, 0.7)], 0.9).text == "> 3200"


def test_without_a_goal_there_is_no_match() -> None:
    assert match_bytes(CURVE, math.nan) == Match(bytes_per_frame=None, bound="none")
    assert match_bytes(CURVE, math.nan).text == ""
