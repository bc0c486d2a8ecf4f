"""How many bytes one codec needs for what another one achieves."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Bound = Literal["exact", "below", "above", "none"]
"""How a match is to be read."""

_SIGNS: dict[Bound, str] = {"exact": "", "below": "< ", "above": "> ", "none": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Bytes a frame at which a codec reaches a goal."""

    bytes_per_frame: float | None
    """Interpolated; at a bound, what was measured there; None if there is no goal."""
    bound: Bound
    """`below`: even the fewest bytes measured reach the goal. `above`: not even the most do."""

    @property
    def text(self) -> str:
        """How it stands in a table."""
        if self.bytes_per_frame is None:
            return ""
        return f"{_SIGNS[self.bound]}{self.bytes_per_frame:.0f}"


def match_bytes(curve: Sequence[tuple[float, float]], goal: float) -> Match:
    """Find where a codec's curve reaches a goal.

    Between two points, what is achieved is taken as linear in the logarithm of the bytes. A curve that dips is taken at
    its best: a point counts as reaching what any point of fewer bytes has reached.

    Args:
        curve: Bytes a frame and what they achieve.
        goal: What is to be achieved; NaN where that is not known.
    """
    if math.isnan(goal) or not curve:
        return Match(bytes_per_frame=None, bound="none")
    rising = _best_so_far(sorted(curve))
    if goal <= rising[0][1]:
        return Match(bytes_per_frame=rising[0][0], bound="below")
    for (few, worse), (many, better) in itertools.pairwise(rising):
        if goal <= better:
            share = (goal - worse) / (better - worse)
            return Match(bytes_per_frame=few * (many / few) ** share, bound="exact")
    return Match(bytes_per_frame=rising[-1][0], bound="above")


def _best_so_far(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out the points that achieve no more than one of fewer bytes; the last point stays, as a bound."""
    kept = [curve[0]]
    for size, achieved in curve[1:]:
        if achieved > kept[-1][1]:
            kept.append((size, achieved))
    if kept[-1][0] != curve[-1][0]:
        kept.append((curve[-1][0], kept[-1][1]))
    return kept
