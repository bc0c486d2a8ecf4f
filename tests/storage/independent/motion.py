"""Moved frames of codec `dicm`, bitstream versions 9, 10, 13 and 14, from FORMAT.md, with Python's integers.

Letters in shapes: C channels that are carried, M those of the latent, h and w positions of the latent grid.
"""

from dataclasses import dataclass

import numpy as np

from tests.storage.independent.checkpoints import Checkpoint
from tests.storage.independent.documents import require
from tests.storage.independent.entropy import Integers, StreamReader, Tables

Flags = list[list[bool]]
"""Of each position, [h][w]."""

COUNTS = {
    8: Tables([[0, 8191, 16382, 24573, 32764, 40955, 49146, 57337, 65528, 65536]], [1]),
    16: Tables([[*range(0, 65521, 4095), 65536]], [1]),
}
"""Of vectors, by how many there may be."""

SETTLED = 8
"""Frames in which a position is neither coded nor moved."""


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


@dataclass
class Background:
    """What settled."""

    latent_chw: Integers
    """Of each position, what it was when it last did, [M, h, w]."""
    ages_hw: list[list[int]]
    """For how many frames each position has been as it is, up to 8."""

    @classmethod
    def of(cls, latent_chw: Integers) -> "Background":
        """Begin with an intra frame."""
        _, height, width = latent_chw.shape
        return cls(latent_chw.copy(), [[0] * width for _ in range(height)])

    def go_on(self, latent_chw: Integers, coded_hw: Flags, moved_hw: Flags) -> None:
        """Take note of another frame."""
        for y, row in enumerate(self.ages_hw):
            for x, age in enumerate(row):
                if coded_hw[y][x] or moved_hw[y][x]:
                    row[x] = 0
                elif age < SETTLED:
                    row[x] = age + 1
                    if row[x] == SETTLED:
                        self.latent_chw[:, y, x] = latent_chw[:, y, x]


def read_field(reader: StreamReader, checkpoint: Checkpoint, before_hw: Flags, *, most_vectors: int) -> Field:
    """Read vectors and flags, given the moved flags of the frame before."""
    (count,) = reader.symbols([0], COUNTS[most_vectors])
    require(1 <= count <= most_vectors, f"{count} vectors")
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


def carry(checkpoint: Checkpoint, previous_chw: Integers, field: Field, background: Background | None) -> Integers:
    """Return what the frame is coded against, [M, h, w]; the background is there from version 13 on."""
    maps, channels = checkpoint.tensors["motion.maps"], checkpoint.config["motion"]
    _, height, width = previous_chw.shape
    carried_chw = previous_chw.copy()
    for y in range(height):
        for x in range(width):
            number = field.number_hw[y][x]
            if number == 0:
                continue
            vector = field.vectors[number - 1]
            if background is not None and vector == (0, 0):
                carried_chw[:, y, x] = background.latent_chw[:, y, x]
                continue
            (rows, i), (columns, j) = (divmod(value + 4, 8) for value in vector)
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
