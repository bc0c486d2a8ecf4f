"""Means of a training's figures between two rows of metrics."""

import math
from collections.abc import Mapping

from framevault.pipeline.jobs.train.stages import State


class Means:
    """Adds up what steps return; a figure that is no number does not count."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self.num_crops = 0
        """Crops of the steps so far."""

    def add(self, figures: Mapping[str, float], *, num_crops: int) -> None:
        """Add one step's figures."""
        self.num_crops += num_crops
        for name, value in figures.items():
            if math.isfinite(value):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means by name, and start at nothing again."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts, self.num_crops = {}, {}, 0
        return means

    def state_dict(self) -> dict[str, object]:
        """Return what is added up so far."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: State) -> None:
        """Take what `state_dict` gave; crops count from now, as they are there to tell the speed."""
        sums, counts = state["sums"], state["counts"]
        assert isinstance(sums, dict)
        assert isinstance(counts, dict)
        self._sums, self._counts = sums, counts
