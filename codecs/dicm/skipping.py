"""Which positions of a frame that leans on the one before are worth coding; the decoder needs to know nothing of it.

Letters in shapes: m channels that are coded, h and w positions of the latent grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from framevault.codecs.entropy.latents import MEAN_STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRule:
    """When the encoder leaves a position alone."""

    dead_zone: float = 0.5
    """Of a step: latents nearer to their prediction gain nothing by being coded."""
    least_gain: float = 4.0
    """Squared error, in squared steps over all channels, that coding a position must save."""
    largest_change: float = 1.5
    """A latent that moved by more steps is coded in any case."""
    moved_gain: float = 1.2
    """`least_gain` of positions that come from elsewhere: what moves is no noise, and often what is looked for."""
    moved_change: float = 0.8
    """`largest_change` of these."""
    most_coded: float = 0.4
    """From this share of coded positions on, the frame is coded in both ways."""
    least_saving: float = 0.2
    """Then prediction, which rounds more coarsely, must save this share of the intra frame's bytes to be kept."""

    def is_coded(self, change: Tensor, *, is_moved: Tensor | bool = False) -> Tensor:
        """Return which positions are worth coding, bool [...].

        Args:
            change: By how many steps latents differ from what they are coded against, [m, ...].
            is_moved: Which of them come from elsewhere, bool [...], or whether all do.
        """
        left = change - round_to_zero(change, dead_zone=self.dead_zone)
        gain = (change.square() - left.square()).sum(dim=0)
        largest = change.abs().amax(dim=0)
        is_large = (gain > self.least_gain) | (largest > self.largest_change)
        if is_moved is False:
            return is_large
        return is_large | (is_moved & ((gain > self.moved_gain) | (largest > self.moved_change)))


def find_changes(y_mhw: Tensor, previous16_mhw: Tensor, *, rule: SkipRule, moved_hw: Tensor | None = None) -> Tensor:
    """Return which positions are worth coding for the given channels, bool [h, w]; without channels none is.

    Args:
        y_mhw: Latents, float32 [m, h, w].
        previous16_mhw: What they are coded against, in sixteenths [m, h, w].
        rule: What is left alone.
        moved_hw: Which positions come from elsewhere, bool [h, w]; None: none does.
    """
    if len(y_mhw) == 0:
        return torch.zeros(y_mhw.shape[1:], dtype=torch.bool, device=y_mhw.device)
    change_mhw = y_mhw - previous16_mhw * (1 / MEAN_STEPS)
    return rule.is_coded(change_mhw, is_moved=False if moved_hw is None else moved_hw)


def round_to_zero(x: Tensor, *, dead_zone: float) -> Tensor:
    """Round, but up in magnitude only from `dead_zone` past a whole number."""
    return torch.sign(x) * torch.floor(x.abs() + (1 - dead_zone))
