"""BD-rate: how many more or fewer bytes one codec needs than another for the same accuracy.

After G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33 (2001), with the piecewise
cubic interpolation (PCHIP) that JCT-VC and CompressAI use since, and with accuracy in the place of PSNR: the logarithm
of the bytes is interpolated as a function of accuracy, and the mean difference over the accuracies that both codecs
reach becomes a percentage. Nothing is extrapolated.

Accuracy is measured on some hundred pictures, so a curve is noisy and may dip where bytes grow. A curve is therefore
replaced by its upper envelope: a point stays if it is more accurate than every point of as many or fewer bytes. That is
what somebody gets who picks the best setting within a budget. It errs on the lucky side, for a codec with many points
more than for one with few; how much is in the interval that `bootstrap_bd_rate` gives.

Letters in shapes: D draws, K settings, P pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Curve = Sequence[tuple[float, float]]
"""A codec's settings: bytes (or bits a pixel) and the accuracy that they reach, in any order."""

NUM_DRAWS = 200
"""Samples that a bootstrap draws: the ends of a 95 % interval are its fifth values from both ends."""

FEWEST_DRAWS = 0.9
"""Share of the draws that must have a BD-rate; with fewer, those that are left say nothing about the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BdRate:
    """Bytes of one codec against another's at equal accuracy."""

    percent: float
    """-50 for half the bytes, 100 for twice; NaN if there is no telling."""
    lowest: float
    """Least accuracy that both reach by some setting; NaN if there is none."""
    highest: float
    """Greatest accuracy that both reach; NaN if there is none."""
    share: float
    """Those accuracies over all that either reaches: near 0, the figure stands on a sliver of both curves; NaN if there
    is no telling."""
    reason: str = ""
    """Why there is no telling; empty if there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Where 95 % of a bootstrap's BD-rates lie."""

    low: float
    """In percent; NaN if too few draws have a BD-rate."""
    high: float
    """In percent; NaN if too few draws have a BD-rate."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureCurve:
    """A codec's settings, picture by picture."""

    sizes_kp: NDArray[np.float64]
    """Bytes of each picture."""
    values_kp: NDArray[np.float64]
    """What each picture adds to the accuracy, which is their mean: 1 for a right label, 0 for a wrong one."""

    def weighted(self, weights_p: NDArray[np.float64]) -> Curve:
        """Return the curve of pictures with weights that sum up to 1."""
        return list(zip((self.sizes_kp @ weights_p).tolist(), (self.values_kp @ weights_p).tolist(), strict=True))


def upper_envelope(curve: Curve) -> list[tuple[float, float]]:
    """Return the points that are more accurate than all of as many or fewer bytes, by bytes.

    Raises:
        ValueError: A size is not a positive number, or an accuracy is no number.
    """
    kept: list[tuple[float, float]] = []
    for size, accuracy in sorted(curve, key=lambda point: (point[0], -point[1])):
        if not (0 < size < math.inf and math.isfinite(accuracy)):
            raise ValueError(f"points must be positive bytes and a finite accuracy, got {(size, accuracy)}")
        if not kept or accuracy > kept[-1][1]:
            kept.append((size, accuracy))
    return kept


def bd_rate(curve: Curve, anchor: Curve) -> BdRate:
    """Compare a codec with an anchor.

    Raises:
        ValueError: A point is impossible.
    """
    ours, theirs = upper_envelope(curve), upper_envelope(anchor)
    for whose, envelope in (("the codec", ours), ("the anchor", theirs)):
        if len(envelope) < 2:
            return _unknown(f"{whose} has {len(envelope)} settings of rising accuracy, at least 2 are needed")
    lowest, highest = max(ours[0][1], theirs[0][1]), min(ours[-1][1], theirs[-1][1])
    if lowest >= highest:
        ranges = (f"{envelope[0][1]:.4g} to {envelope[-1][1]:.4g}" for envelope in (ours, theirs))
        return _unknown("no accuracy is reached by both: the codec has {}, the anchor {}".format(*ranges))
    difference = _mean_log_size(ours, lowest, highest) - _mean_log_size(theirs, lowest, highest)
    reach = max(ours[-1][1], theirs[-1][1]) - min(ours[0][1], theirs[0][1])
    return BdRate(
        percent=100 * math.expm1(difference), lowest=lowest, highest=highest, share=(highest - lowest) / reach
    )


def bootstrap_bd_rate(
    curve: PictureCurve, anchor: PictureCurve, *, num_draws: int = NUM_DRAWS, seed: int = 0
) -> Interval:
    """Return how far a BD-rate may be from what other pictures of the same kind would give.

    Pictures are drawn with replacement, the same ones for both codecs. Draws without a BD-rate are left out; if they
    are more than a tenth, there is no interval.

    Args:
        curve: The codec.
        anchor: The same pictures through the other codec.
        num_draws: Samples.
        seed: Of the draws.
    """
    num_pictures = curve.sizes_kp.shape[1]
    rng = np.random.default_rng(seed)
    weights_dp = rng.multinomial(num_pictures, [1 / num_pictures] * num_pictures, size=num_draws) / num_pictures
    found = [bd_rate(curve.weighted(weights_p), anchor.weighted(weights_p)).percent for weights_p in weights_dp]
    known = [percent for percent in found if not math.isnan(percent)]
    if len(known) < FEWEST_DRAWS * num_draws:
        return Interval(low=math.nan, high=math.nan)
    low, high = np.percentile(known, (2.5, 97.5)).tolist()
    return Interval(low=low, high=high)


def _mean_log_size(envelope: Sequence[tuple[float, float]], lowest: float, highest: float) -> float:
    """Return the mean natural logarithm of the bytes over an interval of accuracies."""
    sizes, accuracies = zip(*envelope, strict=True)
    interpolated = PchipInterpolator(accuracies, np.log(sizes))
    return float(interpolated.integrate(lowest, highest)) / (highest - lowest)


def _unknown(reason: str) -> BdRate:
    return BdRate(percent=math.nan, lowest=math.nan, highest=math.nan, share=math.nan, reason=reason)
