"""A picture's stream, bitstream version 1: K core symbols, then the slices of y, in one rANS stream.

Version 2 is version 1 without its last slices, whose latents are their means. In either, a stream of no bytes stands
for nothing: every core symbol is the middle one of its table, and every latent its mean.

The order within a slice is channel, row, column. Latents whose scale index says that they are surely zero are not
coded. Tables were made after training and lie in the checkpoint: nothing here computes a probability. Letters in
shapes: N pictures, K core symbols, M latent channels, m those of one slice, g the side of the latent's grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.entropy.batches import for_each_stream
from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder, encode_many
from framevault.codecs.entropy.integer import check_exact_matmul
from framevault.codecs.entropy.latents import MEAN_STEPS, SYMBOL_LIMIT, context_of, residual_of
from framevault.codecs.entropy.tables import TOTAL, FrequencyTables, Int32Array, Uint8Array
from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.entropy_model import HscEntropyNetworks

SliceCoder = Callable[[int, Tensor, Tensor], Tensor]
"""Gives a slice's residuals, whole numbers [N, m, g, g], from its number, scale indices and means (in sixteenths)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchSymbols:
    """What a batch of pictures is coded as."""

    core_nk: Int32Array
    """Core symbols, [N, K]."""
    slices: tuple[tuple[Int32Array, Uint8Array], ...]
    """Of each coded slice of y, residuals and scale indices, [N, m, g, g]."""
    latent16_nmgg: Tensor
    """What the decoder will see, in sixteenths, whole numbers in float32 [N, M, g, g]."""


class Decoded(NamedTuple):
    """What streams hold, on the device."""

    core_nk: Tensor
    """Core symbols, whole numbers in float32."""
    latent16_nmgg: Tensor
    """Latents in sixteenths, whole numbers in float32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bitstream:
    """The integer part of a checkpoint: all that decides which bytes mean which symbols; thread-safe."""

    networks: HscEntropyNetworks
    """What core symbols and earlier slices say of a slice, of `IntConv2d`, on the codec's device."""
    num_core: int
    """K."""
    core_tables: FrequencyTables
    """A table for so many neighbouring core symbols: one, or as many as a channel of them has positions."""
    latent_tables: FrequencyTables
    """A table a scale index."""
    skip_below: int
    """Latents with a smaller scale index are not coded."""
    num_coded: int
    """Slices that streams hold, the first ones; latents of the others are their means."""
    quality: int
    """Of the streams, from 1."""

    @property
    def middle_core_k(self) -> Int32Array:
        """The core symbols of a stream of no bytes: in each table the one whose interval holds slot 32768."""
        return middle_symbols(self.core_tables)[self._core_numbers]

    def encode(self, core_nk: Tensor, y_nmgg: Tensor) -> list[bytes]:
        """Code a batch of pictures.

        Args:
            core_nk: Core symbols, whole numbers in float32 [N, K].
            y_nmgg: Latents, float32 [N, M, g, g].

        Raises:
            CodecError: A value is no number.
        """
        return self.write_symbols(self.find_symbols(core_nk, y_nmgg))

    @torch.inference_mode()
    def find_symbols(self, core_nk: Tensor, y_nmgg: Tensor) -> BatchSymbols:
        """Run the integer networks; arguments and errors as `encode`."""
        check_exact_matmul(y_nmgg.device)
        if not bool(torch.isfinite(core_nk).all() & torch.isfinite(y_nmgg).all()):
            raise CodecError("the networks gave values that are no numbers: the checkpoint or the device is faulty")
        core_nk = core_nk.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        y_slices = torch.split(y_nmgg, list(self.networks.slices), dim=1)
        coded: list[tuple[Int32Array, Uint8Array]] = []

        def code(number: int, index_nmgg: Tensor, mean16_nmgg: Tensor) -> Tensor:
            residual_nmgg = residual_of(y_slices[number], mean16_nmgg).masked_fill_(index_nmgg < self.skip_below, 0)
            coded.append((residual_nmgg.int().cpu().numpy(), index_nmgg.byte().cpu().numpy()))
            return residual_nmgg

        latent16_nmgg = self._code_slices(core_nk, code, num_slices=self.num_coded)
        return BatchSymbols(core_nk=core_nk.int().cpu().numpy(), slices=tuple(coded), latent16_nmgg=latent16_nmgg)

    def write_symbols(self, symbols: BatchSymbols) -> list[bytes]:
        """Code each picture's symbols into its stream."""

        def encode_picture(number: int) -> bytes:
            encoder = SymbolEncoder()
            encoder.push(symbols.core_nk[number], self._core_numbers, self.core_tables)
            for residual, index in symbols.slices:
                encoder.push(
                    residual[number].ravel(), index[number].ravel(), self.latent_tables, skip_below=self.skip_below
                )
            return encoder.finish()

        return encode_many(encode_picture, range(len(symbols.core_nk)), num_threads=torch.get_num_threads())

    @torch.inference_mode()
    def decode(self, streams: Sequence[bytes], *, device: str, slices: int | None = None) -> Decoded:
        """Decode a batch of at least one picture.

        Args:
            streams: One a picture.
            device: Where the networks are.
            slices: How many slices to decode, 0 to `num_coded`, the others at their means; None for all, and only then
                the ends of the streams are checked.

        Raises:
            BitstreamError: A stream is damaged; the message says which.
            CodecError: The streams have no so many slices.
        """
        if slices is not None and not 0 <= slices <= self.num_coded:
            raise CodecError(f"slices must be 0 to {self.num_coded}, as many as the streams have, got {slices}")
        check_exact_matmul(torch.device(device))
        decoders = _open(streams)
        core_nk = torch.from_numpy(self._pull_core(decoders)).to(device).float().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)

        def code(_: int, index_nmgg: Tensor, __: Tensor) -> Tensor:
            residual = self._pull_slice(decoders, index_nmgg.byte().cpu().numpy())
            return torch.from_numpy(residual).to(device).float().reshape(index_nmgg.shape)

        num_slices = self.num_coded if slices is None else slices
        latent16_nmgg = self._code_slices(core_nk, code, num_slices=num_slices)
        if slices is None:
            for_each_stream(lambda decoder: None if decoder is None else decoder.finish(), decoders)
        return Decoded(core_nk, latent16_nmgg)

    def decode_core(self, streams: Sequence[bytes]) -> Tensor:
        """Decode core symbols alone, whole numbers in float32 [N, K], of at least one picture; runs no network.

        Raises:
            BitstreamError: A stream ends before; the message says which.
        """
        return torch.from_numpy(self._pull_core(_open(streams))).float().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)

    @torch.inference_mode()
    def latents_of_core(self, core_nk: Tensor) -> Tensor:
        """Return the latents, in sixteenths [N, M, g, g], of pictures whose slices are all at their means."""
        check_exact_matmul(core_nk.device)
        return self._code_slices(core_nk, lambda _, __, mean16_nmgg: mean16_nmgg, num_slices=0)

    @property
    def _core_numbers(self) -> Uint8Array:
        """Return each core symbol's table."""
        symbols_a_table = self.num_core // self.core_tables.num_tables
        return (np.arange(self.num_core) // symbols_a_table).astype(np.uint8)

    def _code_slices(self, core_nk: Tensor, code: SliceCoder, *, num_slices: int) -> Tensor:
        """Go through the slices in order, the first ones with a coder; return latents in sixteenths [N, M, g, g]."""
        quality_n = torch.full((len(core_nk),), self.quality - 1, device=core_nk.device)
        phi_nchw = self.networks.prime(core_nk, quality_n)
        earlier: list[Tensor] = []
        decoded: list[Tensor] = []
        for number in range(len(self.networks.slices)):
            index_nmgg, latent16_nmgg = self.networks.parameters_of(number, phi_nchw, earlier)
            if number < num_slices:
                residual_nmgg = code(number, index_nmgg, latent16_nmgg).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
                latent16_nmgg = residual_nmgg * MEAN_STEPS + latent16_nmgg
            earlier.append(context_of(latent16_nmgg))
            decoded.append(latent16_nmgg)
        return torch.cat(decoded, dim=1)

    def _pull_core(self, decoders: Sequence[SymbolDecoder | None]) -> Int32Array:
        """Return the core symbols of each stream, [N, K]."""

        def pull(decoder: SymbolDecoder | None) -> Int32Array:
            return self.middle_core_k if decoder is None else decoder.pull(self._core_numbers, self.core_tables)

        return np.stack(for_each_stream(pull, decoders))

    def _pull_slice(self, decoders: Sequence[SymbolDecoder | None], index: Uint8Array) -> Int32Array:
        """Return the residuals of a slice of each stream, [N, m g g]; `index` is [N, m, g, g]."""

        def pull(number: int) -> Int32Array:
            decoder, numbers = decoders[number], index[number].ravel()
            if decoder is None:
                return np.zeros(numbers.size, np.int32)
            return decoder.pull(numbers, self.latent_tables, skip_below=self.skip_below)

        return np.stack(for_each_stream(pull, range(len(decoders))))


def middle_symbols(tables: FrequencyTables) -> Int32Array:
    """Return, of each table, the symbol whose interval holds slot 32768, [K].

    Where that is the escape's interval, it is the symbol before it.
    """
    middles = [
        min(int(np.searchsorted(row, TOTAL // 2, side="right")) - 1, max(0, length - 3)) + offset
        for row, length, offset in zip(tables.cumulative, tables.lengths.tolist(), tables.offsets.tolist(), strict=True)
    ]
    return np.array(middles, np.int32)


def _open(streams: Sequence[bytes]) -> list[SymbolDecoder | None]:
    """Return a decoder a stream; None for one of no bytes."""
    return for_each_stream(lambda stream: SymbolDecoder(stream) if stream else None, streams)
