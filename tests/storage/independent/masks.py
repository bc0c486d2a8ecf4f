"""Masks as run lengths, from FORMAT.md."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.storage.independent.documents import require

MOST_PIXELS = 2**32
MOST_GROUPS = 7


def parse_numbers(text: str) -> list[int]:
    """Return the numbers of a string: groups of 5 bits, lowest first, in two's complement."""
    numbers = []
    groups: list[int] = []
    for character in text:
        require("0" <= character <= "o", f"{character!r} stands in no mask")
        value = ord(character) - 48
        groups.append(value % 32)
        require(len(groups) <= MOST_GROUPS, "a number of too many groups")
        if value < 32:
            number = sum(group * 32**position for position, group in enumerate(groups))
            numbers.append(number - 32 ** len(groups) if groups[-1] >= 16 else number)
            groups = []
    require(not groups, "a mask ends within a number")
    require(len(numbers) > 0, "a mask of no run")
    return numbers


def parse_runs(text: str, *, height: int, width: int) -> list[int]:
    """Return the runs of a mask: outside, inside, outside and so on."""
    require(height * width <= MOST_PIXELS, "too many pixels")
    runs: list[int] = []
    for number in parse_numbers(text):
        runs.append(number + runs[-2] if len(runs) >= 3 else number)
        require(runs[-1] >= 0, "a run below 0")
    require(sum(runs) == height * width, f"runs add up to {sum(runs)}, must be {height} x {width}")
    return runs


def draw_runs(runs: Sequence[int], *, height: int, width: int) -> NDArray[np.uint8]:
    """Return the mask, 1 inside, [height, width]."""
    pixels = bytearray()
    for position, run in enumerate(runs):
        pixels += bytes([position % 2]) * run
    mask_hw: NDArray[np.uint8] = np.frombuffer(bytes(pixels), np.uint8).reshape(width, height).transpose()
    return mask_hw
