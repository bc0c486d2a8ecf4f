"""Means over pictures, and how far those of other pictures of the same kind may lie from them.

Letters in shapes: D draws, N pictures.
"""

import numpy as np
from numpy.typing import NDArray

NUM_DRAWS = 1000
"""Samples that a bootstrap draws."""


def mean_columns(name: str, values_n: NDArray[np.float64]) -> dict[str, object]:
    """Return a table's columns: the mean, and the bounds of 95 % of bootstrap samples of it, with four digits.

    Args:
        name: Of the first; the others are called `NAME low` and `NAME high`.
        values_n: At least one.
    """
    drawn_dn = np.random.default_rng(0).integers(len(values_n), size=(NUM_DRAWS, len(values_n)))
    low, high = np.percentile(values_n[drawn_dn].mean(axis=1), (2.5, 97.5)).tolist()
    return {name: _short(float(values_n.mean())), f"{name} low": _short(low), f"{name} high": _short(high)}


def _short(value: float) -> float:
    return float(f"{value:.4g}")
