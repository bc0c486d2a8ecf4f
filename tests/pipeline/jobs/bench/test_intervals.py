"""Tests of means with intervals."""

import numpy as np
import pytest

from framevault.pipeline.jobs.bench.intervals import mean_columns


def test_an_interval_is_as_wide_as_the_standard_error_says() -> None:
    values_n = np.random.default_rng(1).normal(7, 3, size=400)

    columns = mean_columns("x", values_n)

    assert columns["x"] == pytest.approx(values_n.mean(), rel=1e-3)
    # 1.96 times 3 / sqrt(400) to both sides, which a thousand draws tell to some per cent.
    assert columns["x high"] == pytest.approx(values_n.mean() + 0.294, abs=0.05)
    assert columns["x low"] == pytest.approx(values_n.mean() - 0.294, abs=0.05)
    assert columns == mean_columns("x", values_n)


def test_equal_values_have_no_width() -> None:
    assert mean_columns("x", np.full(5, 0.123456)) == {"x": 0.1235, "x low": 0.1235, "x high": 0.1235}
