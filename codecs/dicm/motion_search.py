"""How the encoder finds what moved; the decoder needs to know nothing of it.

Blocks of 32 x 32 pixels around the latent positions are looked for in the frame before, on brightness at a quarter and
then half of the resolution. That only gives candidates: whether a vector is worth its bits is decided by the latents
that it predicts. Letters in shapes: h and w positions of the latent grid, Y and X pixels at half of the resolution, P
positions that changed, V candidates.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.dicm.motion import MOST_VECTORS, Motion, MotionField
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.entropy.tables import Int32Array, Uint8Array

COARSE_REACH = 8
"""Pixels at a quarter of the resolution: 32 of the frame's, in each direction."""

NUM_COARSE, NUM_FINE = 6, 16
"""Candidates that are kept at a quarter of the resolution, and at half of it."""

LEAST_CHANGED = 2
"""Positions; fewer are coded as they are."""

VECTOR_BITS, MOVED_BITS, CODED_BITS = 40.0, 3.0, 6.0
"""What a vector costs with its map of flags, a position that moved, and one that is coded whatever is in it: rough."""


class Threshold(NamedTuple):
    """From where on a position is coded."""

    least_gain: float
    """Squared error, in squared steps over all channels, that coding must save."""
    largest_change: float
    """A latent that differs by more steps is coded in any case."""

    def bits(self, change_cn: Tensor) -> Tensor:
        """Return about what positions cost whose latents differ by so much from what predicts them, [n] of [C, n]."""
        left_cn = change_cn - change_cn.round()
        gain_n = (change_cn.square() - left_cn.square()).sum(dim=0)
        is_coded_n = (gain_n > self.least_gain) | (change_cn.abs().amax(dim=0) > self.largest_change)
        coded_n = CODED_BITS + 1.2 * torch.log2(1 + 3 * change_cn.abs()).sum(dim=0)
        # Error that is left alone is worth something, too.
        return torch.where(is_coded_n, coded_n, 0.05 * change_cn.square().sum(dim=0))


class Thresholds(NamedTuple):
    """From where on positions are coded."""

    still: Threshold
    """Those that are where they were."""
    moved: Threshold
    """Those that come from elsewhere."""


def half_brightness(frames_nchw: Tensor) -> Tensor:
    """Return the brightness of frames, RGB uint8 [N, 3, H, W], at half of the resolution, float32 [N, Y, X]."""
    brightness_n1hw = frames_nchw.float().mean(dim=1, keepdim=True)
    even_n1hw = functional.pad(
        brightness_n1hw, (0, frames_nchw.shape[3] % 2, 0, frames_nchw.shape[2] % 2), mode="replicate"
    )
    return functional.avg_pool2d(even_n1hw, 2)[:, 0]


def find_motion(
    y_chw: Tensor,
    previous16_mhw: Tensor,
    changed_hw: Tensor,
    *,
    motion: Motion,
    brightness_yx: Tensor,
    previous_yx: Tensor,
    thresholds: Thresholds,
) -> MotionField | None:
    """Find what of a frame is better predicted from elsewhere; None if nothing is worth its bits.

    Args:
        y_chw: Latents of the frame that are coded, float32 [c, h, w].
        previous16_mhw: The decoded latent of the frame before, in sixteenths [M, h, w].
        changed_hw: Which positions would be coded without motion, bool [h, w].
        motion: The checkpoint's.
        brightness_yx: The frame's, of `half_brightness`.
        previous_yx: Of the frame before.
        thresholds: From where on positions are coded.
    """
    positions_p = torch.nonzero(changed_hw.flatten())[:, 0]
    if len(positions_p) < LEAST_CHANGED:
        return None
    candidates = _candidates(brightness_yx, previous_yx, changed_hw)
    if not candidates:
        return None
    num_judged = min(len(y_chw), motion.num_channels)
    y_cp = y_chw[:num_judged].flatten(1)[:, positions_p]
    still_cp = previous16_mhw[:num_judged].flatten(1)[:, positions_p] * (1 / MEAN_STEPS)
    best_p = thresholds.still.bits(y_cp - still_cp)
    bits_vp = torch.stack(
        [
            MOVED_BITS
            + thresholds.moved.bits(
                y_cp - motion.predict(previous16_mhw, positions_p, vector)[:num_judged] * (1 / MEAN_STEPS)
            )
            for vector in candidates
        ]
    )
    number_p = torch.zeros(len(positions_p), dtype=torch.uint8, device=y_chw.device)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < MOST_VECTORS:
        saved_v = (best_p - bits_vp).clamp_min(0).sum(dim=1)
        best = int(saved_v.argmax())
        if float(saved_v[best]) < VECTOR_BITS:
            break
        chosen.append(candidates[best])
        is_better_p = bits_vp[best] < best_p
        number_p[is_better_p] = len(chosen)
        best_p = torch.minimum(best_p, bits_vp[best])
    if not chosen:
        return None
    number_n = torch.zeros(changed_hw.numel(), dtype=torch.uint8, device=y_chw.device)
    number_n[positions_p] = number_p
    number_hw = number_n.reshape(changed_hw.shape).cpu().numpy()
    return _without_unused(np.array(chosen, np.int32), number_hw)


def _without_unused(vectors_k2: Int32Array, number_hw: Uint8Array) -> MotionField | None:
    """Return the field of those vectors that a position has."""
    used = [number for number in range(1, len(vectors_k2) + 1) if (number_hw == number).any()]
    if not used:
        return None
    renumbered = np.zeros(len(vectors_k2) + 1, np.uint8)
    renumbered[used] = np.arange(1, len(used) + 1)
    return MotionField(vectors_k2=vectors_k2[np.array(used) - 1], number_hw=renumbered[number_hw])


def _candidates(brightness_yx: Tensor, previous_yx: Tensor, changed_hw: Tensor) -> list[tuple[int, int]]:
    """Return the commonest vectors, down and right in steps of 2 pixels, of positions that changed."""
    quarter_yx, quarter_previous_yx = (
        functional.avg_pool2d(_even(each)[None, None], 2)[0, 0] for each in (brightness_yx, previous_yx)
    )
    reach = range(-COARSE_REACH, COARSE_REACH + 1)
    steps = [(down, right) for down in reach for right in reach]
    coarse = _commonest(_match(quarter_yx, quarter_previous_yx, steps, changed_hw, side=4), steps, changed_hw)
    around = [
        (2 * down + i, 2 * right + j) for down, right in coarse[:NUM_COARSE] for i in (-1, 0, 1) for j in (-1, 0, 1)
    ]
    fine_steps = list(dict.fromkeys([(0, 0), *around]))
    fine = _commonest(_match(brightness_yx, previous_yx, fine_steps, changed_hw, side=8), fine_steps, changed_hw)
    return [vector for vector in fine if vector != (0, 0)][:NUM_FINE]


def _even(brightness_yx: Tensor) -> Tensor:
    """Repeat the last row and column until both sides are even."""
    height, width = brightness_yx.shape
    return functional.pad(brightness_yx[None], (0, width % 2, 0, height % 2), mode="replicate")[0]


def _match(now_yx: Tensor, before_yx: Tensor, steps: list[tuple[int, int]], changed_hw: Tensor, *, side: int) -> Tensor:
    """Return which step fits each position best, int64 [h, w]; positions are `side` pixels."""
    height, width = now_yx.shape
    most = max(max(abs(down), abs(right)) for down, right in steps)
    padded_yx = functional.pad(before_yx[None], (most, most, most, most), mode="replicate")[0]
    grid_height, grid_width = changed_hw.shape
    margin = side // 2
    border = (margin, margin + grid_width * side - width, margin, margin + grid_height * side - height)
    best_hw = torch.full(changed_hw.shape, torch.inf, device=now_yx.device)
    step_hw = torch.zeros(changed_hw.shape, dtype=torch.int64, device=now_yx.device)
    for number, (down, right) in enumerate(steps):
        moved_yx = padded_yx[most + down : most + down + height, most + right : most + right + width]
        difference_yx = functional.pad((now_yx - moved_yx).abs()[None], border, mode="replicate")
        error_hw = functional.avg_pool2d(difference_yx, 2 * side, stride=side)[0]
        # Of vectors that fit alike, the shorter one.
        error_hw = error_hw + 0.02 * (abs(down) + abs(right))
        is_better_hw = error_hw < best_hw
        best_hw = torch.where(is_better_hw, error_hw, best_hw)
        step_hw = torch.where(is_better_hw, number, step_hw)
    return step_hw


def _commonest(step_hw: Tensor, steps: list[tuple[int, int]], changed_hw: Tensor) -> list[tuple[int, int]]:
    """Return the steps of positions that changed, the commonest first."""
    return [steps[number] for number, _ in Counter(step_hw[changed_hw].tolist()).most_common()]
