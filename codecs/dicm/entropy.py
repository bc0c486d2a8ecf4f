"""One frame's symbols <-> one rANS stream.

A stream holds the hyper-latent z, then those latents of y whose scale index says that they can be anything but zero;
the order within each is channel, row, column. Tables were made after training and lie in the checkpoint, so nothing
here computes a probability. Letters in shapes: Z and M channels, h and w of the latent grid.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from framevault.codecs.dicm.rans import RansDecoder, RansEncoder, make_decoder, make_encoder
from framevault.codecs.errors import BitstreamError

SYMBOL_LIMIT = 2**20
"""Largest magnitude of a symbol; encoders clamp to it."""

Int32Array = npt.NDArray[np.int32]
"""Symbols, scale indices and the like."""


@dataclass(frozen=True, slots=True)
class FrequencyTables:
    """Cumulative frequencies (16 bits) of a set of densities, as compressai's coder takes them."""

    cumulative: list[list[int]]
    """A row a density; each starts at 0 and ends at 65536; the last interval escapes to a variable-length code."""
    lengths: list[int]
    """Entries used of each row."""
    offsets: list[int]
    """The symbol of each row's first interval."""

    @classmethod
    def from_tensors(cls, cumulative: Tensor, lengths: Tensor, offsets: Tensor) -> "FrequencyTables":
        """Take the int32 tensors of a checkpoint: [K, L], [K] and [K].

        Raises:
            ValueError: They are no frequency tables.
        """
        rows = cumulative.tolist()
        for number, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
            used = row[:length]
            rises = all(low < high for low, high in itertools.pairwise(used))
            if length < 3 or used[0] != 0 or used[-1] != 1 << 16 or not rises:
                raise ValueError(f"frequency table {number} must rise from 0 to 65536, got {used[:3]}..{used[-1:]}")
        return cls(rows, lengths.tolist(), offsets.tolist())


@dataclass(frozen=True, slots=True)
class EntropyCoder:
    """The frequency tables of a checkpoint with the coder; thread-safe."""

    hyper: FrequencyTables
    """A density a channel of z."""
    latent: FrequencyTables
    """A density a scale index of y."""
    skip_below: int
    """Latents with a smaller scale index are not coded."""

    def encode(self, z_chw: Int32Array, y_chw: Int32Array, index_chw: Int32Array) -> bytes:
        """Code a frame.

        Args:
            z_chw: Hyper-latent symbols [Z, h/4, w/4].
            y_chw: Latent symbols (value minus mean) [M, h, w]; zero wherever the index is below `skip_below`.
            index_chw: Scale indices [M, h, w].
        """
        coded = index_chw >= self.skip_below
        encoder = make_encoder()
        _push(encoder, z_chw.ravel(), _channel_of(z_chw.shape), self.hyper)
        _push(encoder, y_chw[coded], index_chw[coded], self.latent)
        return encoder.flush()

    def decode(
        self, stream: bytes, z_shape: tuple[int, int, int], index_of: Callable[[Int32Array], Int32Array]
    ) -> tuple[Int32Array, Int32Array]:
        """Decode a frame.

        Args:
            stream: What `encode` returned.
            z_shape: (Z, h/4, w/4).
            index_of: Gives the scale indices [M, h, w] once z is known.

        Returns:
            z and y symbols; y is zero where it was not coded.

        Raises:
            BitstreamError: The stream can't have come from `encode`.
        """
        if len(stream) < 4 or len(stream) % 4:
            raise BitstreamError(f"a stream must be one or more 32-bit words, got {len(stream)} bytes")
        decoder = make_decoder()
        decoder.set_stream(stream + bytes(_overrun_bytes(stream, z_shape)))
        z_flat = _pull(decoder, _channel_of(z_shape), self.hyper)
        z_chw = z_flat.reshape(z_shape)
        index_chw = index_of(z_chw)
        y_chw = np.zeros(index_chw.shape, np.int32)
        coded = index_chw >= self.skip_below
        y_chw[coded] = _pull(decoder, index_chw[coded], self.latent)
        return z_chw, y_chw


def _channel_of(shape: tuple[int, ...]) -> Int32Array:
    """Return each value's channel, flattened."""
    return np.repeat(np.arange(shape[0], dtype=np.int32), shape[1] * shape[2])


def _push(encoder: RansEncoder, symbols: Int32Array, indexes: Int32Array, tables: FrequencyTables) -> None:
    encoder.encode_with_indexes(symbols.tolist(), indexes.tolist(), tables.cumulative, tables.lengths, tables.offsets)


def _pull(decoder: RansDecoder, indexes: Int32Array, tables: FrequencyTables) -> Int32Array:
    symbols = decoder.decode_stream(indexes.tolist(), tables.cumulative, tables.lengths, tables.offsets)
    return np.clip(np.asarray(symbols, np.int64), -SYMBOL_LIMIT, SYMBOL_LIMIT).astype(np.int32)


def _overrun_bytes(stream: bytes, z_shape: tuple[int, int, int]) -> int:
    """Return how many zero bytes to append so that a damaged stream can't make the coder read past its buffer.

    compressai's decoder does not know where its input ends. A symbol takes at most one 32-bit word; an escape's length
    is a run of 4-bit digits that ends at the first digit below 15, each of which may ask for 15 digits more, and zeros
    end the run. The grid of y has 16 positions for each one of z, and no checkpoint has more than 8 times z's channels.
    """
    num_symbols = z_shape[0] * z_shape[1] * z_shape[2] * (1 + 16 * 8)
    return 16 * len(stream) + 4 * num_symbols + 64
