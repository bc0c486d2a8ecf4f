"""How a checkpoint gets its maps and tables of motion: least squares on shifted crops, and counting; no descent.

Of a picture, crops that are 0 to 8 steps apart are put through head and g_a. Each step's map is the linear one that
comes nearest from the 3x3 rounded latents of one crop to those of the other. Letters in shapes: C channels that are
carried, h and w positions of the latent grid, n positions with neighbours on all sides.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.dicm.motion import STEP_PIXELS, STEPS, WEIGHT_UNIT, Motion, MotionField
from framevault.codecs.dicm.temporal_model import NEIGHBOURHOOD
from framevault.codecs.entropy.tables import BoolArray, FlagTable, flag_table_from_examples

RIDGE = 20.0
"""Weight of the maps' squares, over the squared error of all positions: for few pictures."""

FINENESS = 3
"""Latents that maps learn from are rounded to this part of a step. From whole steps they learn to blur the rounding
away, and what is carried through many frames fades: 9 to 15 % more bytes at the same error; with tenths 4 % more."""

STILL = (STEPS // 2) * STEPS + STEPS // 2
"""The number of the map for a step of nothing: what was there, as it was."""

_INT8 = 127


def step_pixels(number: int) -> tuple[int, int]:
    """Return how far down and right a map's latents come from, in pixels, -8 to 6 each."""
    down, right = divmod(number, STEPS)
    return STEP_PIXELS * (down - STEPS // 2), STEP_PIXELS * (right - STEPS // 2)


class MapFit:
    """Collects what least squares need; the pictures are not kept."""

    def __init__(self, num_channels: int, *, device: torch.device | str = "cpu") -> None:
        """Begin with nothing seen."""
        width = NEIGHBOURHOOD * num_channels
        self._num_channels = num_channels
        self._squares = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._products = torch.zeros(STEPS * STEPS, width, num_channels, dtype=torch.float64, device=device)

    def add(self, still_chw: Tensor, moved_by_step: Iterable[Tensor]) -> None:
        """Learn from a picture.

        Args:
            still_chw: Latents of a crop, at least C channels, float32 [.., h, w].
            moved_by_step: Those of the crops that lie `step_pixels(number)` away, for each number from 0 to 63.
        """
        still_chw = (still_chw[: self._num_channels] * FINENESS).round() / FINENESS
        seen_nk = functional.unfold(still_chw[None], 3)[0].T.to(torch.float64)
        self._squares += seen_nk.T @ seen_nk
        for number, moved_chw in enumerate(moved_by_step):
            inner_cn = moved_chw[: self._num_channels, 1:-1, 1:-1].flatten(1)
            self._products[number] += seen_nk.T @ inner_cn.T.to(torch.float64)

    def solve(self) -> Tensor:
        """Return the maps, whole numbers in 64ths, float64 [64, C, 9 C]."""
        ridge = RIDGE * torch.eye(len(self._squares), dtype=torch.float64, device=self._squares.device)
        factor = torch.linalg.cholesky(self._squares + ridge)
        maps = torch.cholesky_solve(self._products, factor.expand(len(self._products), -1, -1)).transpose(1, 2)
        whole = (maps * WEIGHT_UNIT).round().clamp(-_INT8, _INT8)
        # Nothing is lost where whole positions are all that moved.
        centre = torch.arange(self._num_channels) * NEIGHBOURHOOD + NEIGHBOURHOOD // 2
        whole[STILL] = 0
        whole[STILL, torch.arange(self._num_channels), centre] = WEIGHT_UNIT
        return whole.cpu()


def first_motion(maps: Tensor) -> Motion:
    """Return motion with tables that know nothing yet, to count real ones with."""
    return Motion(maps=maps, moved_table=_unknown_table(), choice_table=_unknown_table())


def counted_motion(maps: Tensor, clips: Sequence[Sequence[MotionField | None]]) -> Motion:
    """Return motion with tables counted on what the encoder found.

    Args:
        maps: As `MapFit.solve` returns them.
        clips: Of each clip, the motion of its frames in order, None where nothing moved; at least one that moved.
    """
    choices = [choice for clip in clips for field in clip if field is not None for choice in field.choices()]
    return Motion(
        maps=maps,
        moved_table=flag_table_from_examples(_moved_examples(clips)),
        choice_table=flag_table_from_examples(choices) if choices else _unknown_table(),
    )


def _unknown_table() -> FlagTable:
    """Return a table by which one flag in ten is set, whatever is around it."""
    nothing_hw = np.zeros((1, 10), np.bool_)
    return flag_table_from_examples([(np.arange(10)[None] == 9, nothing_hw)])


def _moved_examples(clips: Sequence[Sequence[MotionField | None]]) -> Iterator[tuple[BoolArray, BoolArray]]:
    for clip in clips:
        before = None
        for field in clip:
            if field is not None:
                yield field.moved_hw, np.zeros_like(field.moved_hw) if before is None else before
            before = None if field is None else field.moved_hw
