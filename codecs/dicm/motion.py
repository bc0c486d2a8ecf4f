"""What moved since the frame before, from bitstream version 9 on: vectors, and the latents that they carry along.

A latent position stands for 16 pixels, so a latent can't be shifted by 5 pixels. But what it becomes can be said: where
a vector of whole steps of 2 pixels is known, a linear map of the 3x3 latents around where it comes from predicts the
latent of the shifted picture as well as rounding leaves it (squared error 0.060 steps for 8 pixels, where rounding has
0.064 and copying 0.364). There is a map for each of the 8 x 8 steps within a position; whole positions are an index.

::

    a vector (down, right), steps -> whole positions (rows, columns) and the step within, -4..3 each
    3x3 latents around the place it comes from, sixteenths [9 C] -> map of that step [C, 9 C], 64ths -> rounded [C]

Maps are whole numbers, and sums are taken in float64, where they are exact in any order. Channels behind the first C
are not carried: they stay what they were. From version 13 on, a vector of nothing means that a position is taken from
the background (`background.py`), in all channels. Letters in shapes: K vectors, M latent channels, C those that are
carried, h and w positions of the latent grid, P positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder
from framevault.codecs.entropy.tables import BoolArray, FlagTable, FrequencyTables, Int32Array, Uint8Array
from framevault.codecs.errors import BitstreamError

STEP_PIXELS = 2
"""Of a vector. An error of a pixel costs nothing that rounding does not hide."""

STEPS = 8
"""To a position: maps are for -4..3 of them, down and right."""

WEIGHT_UNIT = 64
"""Maps are whole numbers in 64ths, int8."""

LONGEST_VECTOR = 1 << 12
"""Steps, in each direction."""

LATENT_LIMIT = 2**19
"""Carried latents are kept within it, in sixteenths."""


@cache
def count_table(most_vectors: int) -> FrequencyTables:
    """Return how likely a frame has so many vectors, 1 and more: all alike."""
    # The rest is the escape's, 8 of 65536 at least.
    each = 65528 // most_vectors
    return FrequencyTables(
        cumulative=np.array([[*range(0, each * most_vectors + 1, each), 65536]], np.int32),
        lengths=np.array([most_vectors + 2], np.int32),
        offsets=np.array([1], np.int32),
    )


_WIDEST = 32


def _vector_table() -> FrequencyTables:
    """Return frequencies that fall with the distance from 0: 9000 over one more than it, rounded down."""
    frequencies = [9000 // (abs(step) + 1) for step in range(-_WIDEST, _WIDEST + 1)]
    cumulative = np.array([[0, *np.cumsum(frequencies), 65536]], np.int32)
    lengths = np.array([len(frequencies) + 2], np.int32)
    return FrequencyTables(cumulative=cumulative, lengths=lengths, offsets=np.array([-_WIDEST], np.int32))


VECTOR_TABLE = _vector_table()
"""Each number of a vector; beyond 32 steps they escape."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionField:
    """Where each position of a frame comes from."""

    vectors_k2: Int32Array
    """Down and right, in steps, from a position to where it was in the frame before; int32 [K, 2]."""
    number_hw: Uint8Array
    """0 where nothing moved, else 1 to K: which vector; uint8 [h, w]."""

    @property
    def moved_hw(self) -> BoolArray:
        """Which positions have a vector, bool [h, w]."""
        return self.number_hw > 0

    @property
    def displaced_hw(self) -> BoolArray:
        """Which of them have one of some length, bool [h, w]."""
        has_length = np.concatenate([[False], self.vectors_k2.any(axis=1)])
        displaced_hw: BoolArray = has_length[self.number_hw]
        return displaced_hw

    def choices(self) -> Iterator[tuple[BoolArray, BoolArray]]:
        """Yield which positions have each vector but the last, and which have none before it; bool [h, w]."""
        left_hw = self.moved_hw
        for number in range(1, len(self.vectors_k2)):
            chosen_hw = self.number_hw == number
            yield chosen_hw, left_hw
            left_hw = left_hw & ~chosen_hw


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Motion:
    """A checkpoint's maps and tables; thread-safe."""

    maps: Tensor
    """Whole numbers in 64ths, float64 [64, C, 9 C]: that of a step is number 8 (down + 4) + right + 4; columns are
    channel, then neighbour."""
    moved_table: FlagTable
    """How likely a position moved, given its neighbours and which moved in the frame before."""
    choice_table: FlagTable
    """How likely a position has a vector, given its neighbours and which have none of the vectors before it."""

    @property
    def num_channels(self) -> int:
        """C."""
        return self.maps.shape[1]

    def to(self, device: torch.device | str) -> "Motion":
        """Return it on a device."""
        return replace(self, maps=self.maps.to(device))

    def carry(self, latent16_mhw: Tensor, field: MotionField, *, background16_mhw: Tensor | None = None) -> Tensor:
        """Return what a frame is coded against: the frame before it, moved; the same on every device.

        Args:
            latent16_mhw: The frame before's latent in sixteenths, whole numbers in float32 [M, h, w].
            field: What moved.
            background16_mhw: What positions with a vector of nothing are taken from, in sixteenths [M, h, w]; without
                it, such a vector has a map as any other.
        """
        carried_mn = latent16_mhw.flatten(1).clone()
        numbers_n = torch.from_numpy(field.number_hw).to(latent16_mhw.device).flatten()
        for number, vector in enumerate(field.vectors_k2.tolist(), start=1):
            positions_p = torch.nonzero(numbers_n == number)[:, 0]
            predicted_cp = self.predict(latent16_mhw, positions_p, vector, background16_mhw=background16_mhw)
            carried_mn[: len(predicted_cp), positions_p] = predicted_cp
        return carried_mn.reshape(latent16_mhw.shape)

    def predict(
        self,
        latent16_mhw: Tensor,
        positions_p: Tensor,
        vector: tuple[int, int] | list[int],
        *,
        background16_mhw: Tensor | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """Return some positions' latents when they come from a vector away, whole numbers in float32.

        Args:
            latent16_mhw: The frame before's latent in sixteenths, whole numbers in float32 [M, h, w].
            positions_p: Their numbers, row by row, int64 [P].
            vector: Down and right, in steps.
            background16_mhw: As in `carry`.
            dtype: Of the sums: float64 is exact; float32 is faster, and nearly so.

        Returns:
            [C, P]; from the background all channels, [M, P].
        """
        if background16_mhw is not None and not any(vector):
            return background16_mhw.flatten(1)[:, positions_p]
        (rows, row_step), (columns, column_step) = (divmod(steps + STEPS // 2, STEPS) for steps in vector)
        height, width = latent16_mhw.shape[1:]
        around = torch.arange(-1, 2, device=latent16_mhw.device)
        # Beyond the border lies the border.
        rows_p3 = ((positions_p // width + rows)[:, None] + around).clamp(0, height - 1)
        columns_p3 = ((positions_p % width + columns)[:, None] + around).clamp(0, width - 1)
        places_pk = (rows_p3[:, :, None] * width + columns_p3[:, None, :]).flatten(1)
        seen_cpk = latent16_mhw[: self.num_channels].flatten(1)[:, places_pk]
        seen_pn = seen_cpk.permute(1, 0, 2).flatten(1).to(dtype)
        sums_pc = seen_pn @ self.maps[row_step * STEPS + column_step].to(dtype).T
        rounded_pc = torch.floor((sums_pc + WEIGHT_UNIT // 2) / WEIGHT_UNIT)
        return rounded_pc.clamp(-LATENT_LIMIT, LATENT_LIMIT).to(torch.float32).T

    def push(
        self, encoder: SymbolEncoder, field: MotionField, previous_moved_hw: BoolArray, *, most_vectors: int
    ) -> None:
        """Add a field to a stream: the number of vectors, the vectors, what moved, and by which of them."""
        vectors = field.vectors_k2.astype(np.int32)
        encoder.push(np.array([len(vectors)], np.int32), np.zeros(1, np.uint8), count_table(most_vectors))
        encoder.push(vectors.ravel(), np.zeros(vectors.size, np.uint8), VECTOR_TABLE)
        encoder.push_flags(field.moved_hw, previous_moved_hw, self.moved_table)
        for chosen_hw, left_hw in field.choices():
            encoder.push_flags(chosen_hw, left_hw, self.choice_table)

    def pull(self, decoder: SymbolDecoder, previous_moved_hw: BoolArray, *, most_vectors: int) -> MotionField:
        """Take a field out of a stream.

        Raises:
            BitstreamError: It is none.
        """
        count = int(decoder.pull(np.zeros(1, np.uint8), count_table(most_vectors))[0])
        if not 1 <= count <= most_vectors:
            raise BitstreamError(f"a frame must have 1 to {most_vectors} vectors, got {count}")
        vectors_k2 = decoder.pull(np.zeros(2 * count, np.uint8), VECTOR_TABLE).reshape(count, 2)
        if np.abs(vectors_k2.astype(np.int64)).max() > LONGEST_VECTOR:
            raise BitstreamError(f"a vector must have at most {LONGEST_VECTOR} steps, got {vectors_k2.tolist()}")
        left_hw = decoder.pull_flags(previous_moved_hw, self.moved_table)
        number_hw = np.where(left_hw, np.uint8(count), np.uint8(0))
        for number in range(1, count):
            chosen_hw = decoder.pull_flags(left_hw, self.choice_table)
            if (chosen_hw & ~left_hw).any():
                raise BitstreamError(f"vector {number} must be of positions that moved and have none before it")
            number_hw[chosen_hw] = number
            left_hw = left_hw & ~chosen_hw
        return MotionField(vectors_k2=vectors_k2, number_hw=number_hw)
