"""Binary masks as COCO's compressed run lengths.

A mask is read column by column; the lengths of its runs (first of zeros, then of ones, and so on) are written as
characters: each length from the fourth on as its difference from the one two before, in groups of 5 bits, lowest
first, with bit 5 saying that another group follows, plus 48. That is the string under `counts` in COCO's JSON, which
pycocotools and its relatives read. Letters in shapes: h and w pixels of a mask or of a part of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_GROUPS = 7
"""5-bit groups of one length: 35 bits hold any difference of lengths of a mask of at most 2^32 pixels."""

MOST_PIXELS = 1 << 32
"""Of a mask; so no sum of run lengths of a string that fits in memory exceeds 63 bits."""


class RleError(ValueError):
    """A string is no mask of the size that it should have."""


def encode_mask(part_hw: NDArray[np.bool_], *, height: int, width: int, top: int = 0, left: int = 0) -> str:
    """Return the run lengths of a mask that is zero outside a part of it.

    Args:
        part_hw: The part that may have ones.
        height: Of the whole mask.
        width: Of the whole mask.
        top: Row of the whole mask where the part begins.
        left: Column where it begins.

    Raises:
        ValueError: The part is not inside the mask, or the mask is too large.
    """
    if height * width > MOST_PIXELS:
        raise ValueError(f"a mask must have at most {MOST_PIXELS} pixels, got {height} x {width}")
    part_height, part_width = part_hw.shape
    if not (top >= 0 and top + part_height <= height and left >= 0 and left + part_width <= width):
        raise ValueError(f"part {part_hw.shape} at ({top}, {left}) must lie in a mask of {height} x {width}")
    columns_wh = np.zeros((part_width, part_height + 2), dtype=np.int8)
    columns_wh[:, 1:-1] = part_hw.T
    # Where a run of ones begins or ends within its column; in pairs, since a column begins and ends with a zero here.
    column, row = np.nonzero(np.diff(columns_wh, axis=1))
    borders = (left + column) * height + top + row
    # A run that goes over the end of a column into the next has an end and a beginning in one place: neither is one.
    continues = borders[1:-1:2] == borders[2::2] if len(borders) else np.zeros(0, dtype=np.bool_)
    inner = np.repeat(~continues, 2)
    borders = np.concatenate([borders[:1], borders[1:-1][inner], borders[-1:]]) if len(borders) else borders
    lengths = np.diff(np.concatenate([[0], borders, [height * width]]))
    return _to_text(lengths[:-1] if len(lengths) > 1 and lengths[-1] == 0 else lengths)


def decode_mask(counts: str, *, height: int, width: int) -> NDArray[np.bool_]:
    """Return a mask [h, w].

    Raises:
        RleError: `counts` is no mask of that size.
    """
    lengths = _lengths_of(counts, height=height, width=width)
    is_one = np.arange(len(lengths)) % 2 == 1
    return np.repeat(is_one, lengths).reshape(width, height).T


def check_mask(counts: str, *, height: int, width: int) -> None:
    """Check that a string is a mask of a size.

    Raises:
        RleError: It is not.
    """
    _lengths_of(counts, height=height, width=width)


def mask_area(counts: str) -> int:
    """Return the number of ones.

    Raises:
        RleError: `counts` is no mask.
    """
    return int(_from_text(counts)[1::2].sum())


def _lengths_of(counts: str, *, height: int, width: int) -> NDArray[np.int64]:
    if height * width > MOST_PIXELS:
        raise RleError(f"a mask must have at most {MOST_PIXELS} pixels, has {height} x {width}")
    lengths = _from_text(counts)
    # First each on its own: a sum of larger ones may come out right modulo 2^64.
    if int(lengths.max()) > height * width:
        raise RleError(f"a run must be within {height} x {width} = {height * width} pixels, is {int(lengths.max())}")
    if int(lengths.sum()) != height * width:
        raise RleError(f"runs must sum up to {height} x {width} = {height * width} pixels, are {int(lengths.sum())}")
    return lengths


def _to_text(lengths: NDArray[np.int64]) -> str:
    values = lengths.astype(np.int64)
    values[3:] -= lengths[1:-2]
    groups = np.zeros((len(values), MOST_GROUPS), dtype=np.uint8)
    is_used = np.zeros((len(values), MOST_GROUPS), dtype=np.bool_)
    goes_on = np.ones(len(values), dtype=np.bool_)
    for number in range(MOST_GROUPS):
        group = values & 31
        values = values >> 5
        is_used[:, number] = goes_on
        # The last group's highest bit is the sign of all.
        goes_on = goes_on & (values != np.where(group & 16, -1, 0))
        groups[:, number] = group + np.where(goes_on, 32, 0) + 48
    return groups[is_used].tobytes().decode("ascii")


def _from_text(counts: str) -> NDArray[np.int64]:
    codes = np.frombuffer(counts.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int64) - 48
    if len(codes) == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise RleError("counts must be characters '0' to 'o' that end with a last group")
    ends = np.nonzero((codes & 32) == 0)[0]
    starts = np.concatenate([[0], ends[:-1] + 1])
    if int((ends - starts).max()) >= MOST_GROUPS:
        raise RleError(f"a run length must have at most {MOST_GROUPS} groups")
    number = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    values: NDArray[np.int64] = np.add.reduceat((codes & 31) << (5 * number), starts)
    is_negative = (codes[ends] & 16) != 0
    values -= np.where(is_negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    # Each length from the fourth on is a difference from the one two before.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    if values.min() < 0:
        raise RleError("a run length must not be negative")
    return values
