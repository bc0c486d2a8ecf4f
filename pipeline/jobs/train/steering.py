"""Keeps each quality of one model at its rate, by the weight of the rate in the loss.

A weight moves by the error of its rate's logarithm, slowly and by samples: faster, it swings; by the error itself, low
rates never move. It is frozen towards the end, where the learning rate is too small for the networks to follow.

Letters in shapes: N crops, Q qualities (counted from 0).
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from framevault.pipeline.jobs.train.world import World

LOWEST_WEIGHT, HIGHEST_WEIGHT = 0.01, 100.0
"""Weights outside are of no use: there the rate no longer follows."""

RATE_MEMORY = 0.05
"""Share of the newest rates in the running averages that are steered by."""

STEER_UNTIL = 0.8
"""Share of the training after which the weights are frozen."""


class RateSteering:
    """Rate weights and mean rates of all qualities."""

    def __init__(self, targets: Sequence[float], weights: Sequence[float], *, gain: float, start: float) -> None:
        """Begin at the targets.

        Args:
            targets: Bits a pixel to steer to.
            weights: Weights to begin with.
            gain: Change of a weight's logarithm for each sample, at an error of one e-fold.
            start: Share of the training before anything is steered.
        """
        self._log_targets_q = torch.tensor(targets, dtype=torch.float64).log()
        self.rates_q = torch.tensor(targets, dtype=torch.float64)
        """Running average of each quality's bits a pixel."""
        self._log_weights_q = _clamp(torch.tensor(weights, dtype=torch.float64).log())
        self._gain = gain
        self._start = start

    def weights(self, quality_n: Tensor) -> Tensor:
        """Return each crop's rate weight, float32 [N], on the device of the qualities."""
        return self._log_weights_q.exp().float().to(quality_n.device)[quality_n]

    @property
    def weights_q(self) -> list[float]:
        """The weight of each quality."""
        return [float(weight) for weight in self._log_weights_q.exp().tolist()]

    def learn(self, quality_n: Tensor, rate_n: Tensor, *, progress: float, world: World) -> None:
        """Take the rates of one step's crops, of all processes.

        Args:
            quality_n: Qualities.
            rate_n: Their bits a pixel; not finite ones don't count.
            progress: Share of the training that is over.
            world: The processes.
        """
        quality_n, rate_n = quality_n.cpu(), rate_n.detach().double().cpu()
        quality_n, rate_n = quality_n[rate_n.isfinite()], rate_n[rate_n.isfinite()]
        num = len(self.rates_q)
        sums_q = torch.zeros(num, dtype=torch.float64).index_add_(0, quality_n, rate_n)
        counts_q = torch.bincount(quality_n, minlength=num).double()
        sums_q, counts_q = world.sum(torch.stack([sums_q, counts_q]))
        if self._start <= progress < STEER_UNTIL:
            error_q = (self.rates_q.log() - self._log_targets_q).clamp(-1, 1)
            self._log_weights_q = _clamp(self._log_weights_q + self._gain * error_q * counts_q)
        means_q = torch.where(counts_q > 0, sums_q / counts_q.clamp_min(1), self.rates_q)
        # A rate of zero bits has no logarithm.
        self.rates_q = (self.rates_q + RATE_MEMORY * (means_q - self.rates_q)).clamp_min(1e-6)

    def state_dict(self) -> dict[str, object]:
        """Return all that the next step depends on; the targets, too, as they may have been measured."""
        return {"log_weights": self._log_weights_q, "rates": self.rates_q, "log_targets": self._log_targets_q}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take what `state_dict` gave."""
        log_weights, rates, log_targets = state["log_weights"], state["rates"], state["log_targets"]
        assert isinstance(log_weights, Tensor)
        assert isinstance(rates, Tensor)
        assert isinstance(log_targets, Tensor)
        self._log_weights_q, self.rates_q, self._log_targets_q = log_weights, rates, log_targets


def weights_from_slopes(rates: Sequence[float], distortions: Sequence[float]) -> list[float]:
    """Return the rate weights at which a trained model's own rates are the best ones: minus the slope of its curve.

    Args:
        rates: Bits a pixel of each quality, rising.
        distortions: Of each quality, in the loss's unit.
    """
    weights = []
    for q in range(len(rates)):
        low, high = max(0, q - 1), min(len(rates) - 1, q + 1)
        slope = (distortions[low] - distortions[high]) / max(rates[high] - rates[low], 1e-6)
        weights.append(min(max(slope, LOWEST_WEIGHT), HIGHEST_WEIGHT) if math.isfinite(slope) else 1.0)
    return weights


def _clamp(log_weights_q: Tensor) -> Tensor:
    return log_weights_q.clamp(math.log(LOWEST_WEIGHT), math.log(HIGHEST_WEIGHT))
