"""How the encoder finds what moved; the decoder needs to know nothing of it.

Blocks of 32 x 32 pixels around the latent positions are looked for in the frame before, on brightness at a quarter and
then half of the resolution. That only gives candidates: whether a vector is worth its bits is decided by the latents
that it predicts. Letters in shapes: h and w positions of the latent grid, Y and X pixels, P positions that changed, K
pixels of a window's side, V candidates.
"""

import itertools
from collections import Counter

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from framevault.codecs.dicm.motion import Motion, MotionField
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.entropy.latents import MEAN_STEPS
from framevault.codecs.entropy.tables import Int32Array, Uint8Array

COARSE_REACH = 8
"""Pixels at a quarter of the resolution: 32 of the frame's, in each direction."""

NUM_COARSE, NUM_FINE = 12, 32
"""Candidates that are kept at a quarter of the resolution, and at half of it."""

MOST_ASKED = 512
"""Positions that are looked for; of more, every so manieth."""

LENGTH_PRICE = 0.02
"""Of a pixel of a vector, in levels of brightness."""

LEAST_CHANGED = 2
"""Positions; fewer are coded as they are."""

VECTOR_BITS, MOVED_BITS, CODED_BITS = 40.0, 3.0, 6.0
"""What a vector costs with its map of flags, a position that moved, and one that is coded whatever is in it: rough."""


def rough_bits(change_cn: Tensor, *, rule: SkipRule, is_moved: bool) -> Tensor:
    """Return about what positions cost whose latents differ by so much from what predicts them, [n] of [C, n]."""
    coded_n = CODED_BITS + 1.2 * torch.log2(1 + 3 * change_cn.abs()).sum(dim=0)
    # Error that is left alone is worth something, too.
    left_alone_n = 0.05 * change_cn.square().sum(dim=0)
    return torch.where(rule.is_coded(change_cn, is_moved=is_moved), coded_n, left_alone_n)


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
    rule: SkipRule,
    most_vectors: int,
    background16_mhw: Tensor | None = None,
) -> MotionField | None:
    """Find what of a frame is better predicted from elsewhere; None if nothing is worth its bits.

    Args:
        y_chw: Latents of the frame that are coded, float32 [c, h, w].
        previous16_mhw: The decoded latent of the frame before, in sixteenths [M, h, w].
        changed_hw: Which positions would be coded without motion, bool [h, w].
        motion: The checkpoint's.
        brightness_yx: The frame's, of `half_brightness`.
        previous_yx: Of the frame before.
        rule: Which positions are coded.
        most_vectors: That a frame may have.
        background16_mhw: What vectors of nothing stand for, in sixteenths [M, h, w]; None if for nothing.
    """
    positions_p = torch.nonzero(changed_hw.flatten())[:, 0]
    if len(positions_p) < LEAST_CHANGED:
        return None
    candidates = _candidates(brightness_yx, previous_yx, positions_p, grid_width=changed_hw.shape[1])
    if background16_mhw is not None:
        candidates = [(0, 0), *candidates]
    if not candidates:
        return None
    num_judged = min(len(y_chw), motion.num_channels)
    y_cp = y_chw[:num_judged].flatten(1)[:, positions_p]
    still_cp = previous16_mhw[:num_judged].flatten(1)[:, positions_p] * (1 / MEAN_STEPS)
    best_p = rough_bits(y_cp - still_cp, rule=rule, is_moved=False)

    def moved_bits(vector: tuple[int, int]) -> Tensor:
        predicted_mp = motion.predict(
            previous16_mhw, positions_p, vector, background16_mhw=background16_mhw, dtype=torch.float32
        )
        change_cp = y_cp - predicted_mp[:num_judged] * (1 / MEAN_STEPS)
        return MOVED_BITS + rough_bits(change_cp, rule=rule, is_moved=any(vector))

    bits_vp = torch.stack([moved_bits(vector) for vector in candidates])
    number_p = torch.zeros(len(positions_p), dtype=torch.uint8, device=y_chw.device)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < most_vectors:
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


def _candidates(
    brightness_yx: Tensor, previous_yx: Tensor, positions_p: Tensor, *, grid_width: int
) -> list[tuple[int, int]]:
    """Return the commonest vectors, down and right in steps of 2 pixels, of positions that changed."""
    asked_p = positions_p[:: -(-len(positions_p) // MOST_ASKED)]
    places = torch.stack([asked_p // grid_width, asked_p % grid_width])
    quarter_yx, quarter_previous_yx = (
        functional.avg_pool2d(_even(each)[None], 2)[0] for each in (brightness_yx, previous_yx)
    )
    reach = range(-COARSE_REACH, COARSE_REACH + 1)
    coarse_steps = [(down, right) for down in reach for right in reach]
    coarse = _commonest(quarter_yx, quarter_previous_yx, places, coarse_steps, side=4)
    around = [
        (2 * down + i, 2 * right + j)
        for down, right in coarse[:NUM_COARSE]
        for i, j in itertools.product((-1, 0, 1), repeat=2)
    ]
    fine = _commonest(brightness_yx, previous_yx, places, list(dict.fromkeys([(0, 0), *around])), side=8)
    return [vector for vector in fine if vector != (0, 0)][:NUM_FINE]


def _even(brightness_yx: Tensor) -> Tensor:
    """Repeat the last row and column until both sides are even."""
    height, width = brightness_yx.shape
    return functional.pad(brightness_yx[None], (0, width % 2, 0, height % 2), mode="replicate")[0]


def _commonest(
    now_yx: Tensor, before_yx: Tensor, places_2p: Tensor, steps: list[tuple[int, int]], *, side: int
) -> list[tuple[int, int]]:
    """Return the steps that fit a position best, the commonest first; positions are `side` pixels."""
    most = max(max(abs(down), abs(right)) for down, right in steps)
    now_pkk = _windows(now_yx, places_2p, side=side, margin=0)
    before_pkk = _windows(before_yx, places_2p, side=side, margin=most)
    window = now_pkk.shape[1]
    errors = []
    for down, right in steps:
        moved_pkk = before_pkk[:, most + down : most + down + window, most + right : most + right + window]
        # Of steps that fit alike, the shorter one.
        errors.append((now_pkk - moved_pkk).abs().mean(dim=(1, 2)) + LENGTH_PRICE * (abs(down) + abs(right)))
    best_p = torch.stack(errors).argmin(dim=0)
    return [steps[number] for number, _ in Counter(best_p.tolist()).most_common()]


def _windows(brightness_yx: Tensor, places_2p: Tensor, *, side: int, margin: int) -> Tensor:
    """Return the pixels around some positions, twice their side and a margin, [P, K, K]; beyond the border lies it."""
    height, width = brightness_yx.shape
    around_k = torch.arange(-(side // 2) - margin, side + side // 2 + margin, device=brightness_yx.device)
    rows_pk = (places_2p[0][:, None] * side + around_k).clamp(0, height - 1)
    columns_pk = (places_2p[1][:, None] * side + around_k).clamp(0, width - 1)
    return brightness_yx.flatten()[rows_pk[:, :, None] * width + columns_pk[:, None, :]]
