"""Moved frames of codec `dicm`, bitstream versions 9 and 10, from FORMAT.md, with Python's integers.

Letters in shapes: C channels that are carried, M those of the latent, h and w positions of the latent grid.
"""

from dataclasses import dataclass

import numpy as np

from tests.storage.independent.checkpoints import Checkpoint
from tests.storage.independent.documents import require
from tests.storage.independent.entropy import Integers, StreamReader, Tables

Flags = list[list[bool]]
"""Of each position, [h][w]."""

COUNTS = Tables([[*range(0, 65529, 8191), 65536]], [1])
"""Of vectors."""


def vector_table() -> Tables:
    """Return how likely each number of a vector is."""
    row = [0]
    for n in range(-32, 33):
        row.append(row[-1] + 9000 // (abs(n) + 1))
    require(row[-1] == 64584, "frequencies add up to what the page says")
    return Tables([[*row, 65536]], [-32])


VECTORS = vector_table()


@dataclass(frozen=True)
class Field:
    """What a moved frame says of where its positions were."""

    vectors: list[tuple[int, int]]
    """Down and right."""
    moved_hw: Flags
    """Which positions have one."""
    number_hw: list[list[int]]
    """Which one, from 1; 0 for none."""


def read_field(reader: StreamReader, checkpoint: Checkpoint, before_hw: Flags) -> Field:
    """Read vectors and flags, given the moved flags of the frame before."""
    (count,) = reader.symbols([0], COUNTS)
    require(1 <= count <= 8, f"{count} vectors")
    values = reader.symbols([0] * (2 * count), VECTORS)
    require(all(-4096 <= value <= 4096 for value in values), f"a vector of {values}")
    moved_hw = reader.flags(before_hw, checkpoint.tensors["tables.moved"].tolist())
    left_hw = [list(row) for row in moved_hw]
    number_hw = [[0] * len(row) for row in moved_hw]
    for number in range(1, count):
        chosen_hw = reader.flags(left_hw, checkpoint.tensors["tables.choices"].tolist())
        for y, row in enumerate(chosen_hw):
            for x, is_chosen in enumerate(row):
                if is_chosen:
                    require(left_hw[y][x], "a choice of what is not left")
                    number_hw[y][x], left_hw[y][x] = number, False
    for y, row in enumerate(left_hw):
        for x, is_left in enumerate(row):
            if is_left:
                number_hw[y][x] = count
    return Field(list(zip(values[::2], values[1::2], strict=True)), moved_hw, number_hw)


def carry(checkpoint: Checkpoint, previous_chw: Integers, field: Field) -> Integers:
    """Return what the frame is coded against, [M, h, w]."""
    maps, channels = checkpoint.tensors["motion.maps"], checkpoint.config["motion"]
    _, height, width = previous_chw.shape
    carried_chw = previous_chw.copy()
    for y in range(height):
        for x in range(width):
            number = field.number_hw[y][x]
            if number == 0:
                continue
            (rows, i), (columns, j) = (divmod(value + 4, 8) for value in field.vectors[number - 1])
            around = [
                int(previous_chw[c, clamp(y + rows + k // 3 - 1, height), clamp(x + columns + k % 3 - 1, width)])
                for c in range(channels)
                for k in range(9)
            ]
            for c in range(channels):
                weights = maps[8 * i + j, c].tolist()
                total = sum(weight * value for weight, value in zip(weights, around, strict=True))
                carried_chw[c, y, x] = np.clip((total + 32) // 64, -(2**19), 2**19)
    return carried_chw


def clamp(position: int, size: int) -> int:
    """Return the nearest place inside the grid."""
    return min(max(position, 0), size - 1)
