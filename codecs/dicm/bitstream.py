"""A frame's stream, bitstream version 1: the hyper-latent z, then the slices of y, in one rANS stream.

Version 3 is version 1 without its last slices, whose latents are their means (`thinning.py`).

Within each, the order is channel, row, column. Latents whose scale index says that they are surely zero are not coded.
Tables were made after training and lie in the checkpoint: nothing here computes a probability. Letters in shapes:
N frames, Z and M channels, m those of one slice, h and w positions of the latent grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framevault.codecs.dicm.entropy_model import EntropyNetworks
from framevault.codecs.dicm.symbols import LatentGrid, code_slices
from framevault.codecs.entropy.batches import for_each_stream
from framevault.codecs.entropy.coder import SymbolDecoder, SymbolEncoder, encode_many
from framevault.codecs.entropy.integer import check_exact_matmul
from framevault.codecs.entropy.latents import SYMBOL_LIMIT, residual_of
from framevault.codecs.entropy.tables import FrequencyTables, Int32Array, Uint8Array
from framevault.codecs.errors import CodecError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchSymbols:
    """What a batch of frames is coded as."""

    z_nchw: Int32Array
    """Hyper-latents, [N, Z, ceil(h/4), ceil(w/4)]."""
    slices: tuple[tuple[Int32Array, Uint8Array], ...]
    """Of each coded slice of y, residuals and scale indices, [N, m, h, w]."""
    latent16_nmhw: Tensor
    """What the decoder will see, in sixteenths, whole numbers in float32 [N, M, h, w]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bitstream:
    """The integer part of a checkpoint: all that decides which bytes mean which symbols; thread-safe."""

    networks: EntropyNetworks
    """h_s and the slices' networks, of `IntConv2d`, on the codec's device."""
    hyper_tables: FrequencyTables
    """A table a channel of z."""
    latent_tables: FrequencyTables
    """A table a scale index."""
    num_hyper_channels: int
    """Z."""
    skip_below: int
    """Latents with a smaller scale index are not coded."""
    num_coded: int
    """Slices that streams hold, the first ones; latents of the others are their means."""

    def encode(self, y_nchw: Tensor, z_nchw: Tensor) -> list[bytes]:
        """Code a batch of frames.

        Args:
            y_nchw: Latents, float32 [N, M, h, w].
            z_nchw: Hyper-latents, whole numbers in float32 [N, Z, ceil(h/4), ceil(w/4)].

        Raises:
            CodecError: A value is no number.
        """
        return self.write_symbols(self.find_symbols(y_nchw, z_nchw))

    @torch.inference_mode()
    def find_symbols(self, y_nchw: Tensor, z_nchw: Tensor) -> BatchSymbols:
        """Run the integer networks; arguments and errors as `encode`."""
        check_exact_matmul(y_nchw.device)
        check_numbers(y_nchw, z_nchw)
        z_nchw = z_nchw.clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        y_slices = torch.split(y_nchw, list(self.networks.slices), dim=1)
        coded: list[tuple[Int32Array, Uint8Array]] = []

        def code(number: int, index_nchw: Tensor, mean16_nchw: Tensor) -> Tensor:
            if number >= self.num_coded:
                return torch.zeros_like(mean16_nchw)
            residual_nchw = residual_of(y_slices[number], mean16_nchw).masked_fill_(index_nchw < self.skip_below, 0)
            coded.append((residual_nchw.int().cpu().numpy(), index_nchw.byte().cpu().numpy()))
            return residual_nchw

        latent16_nmhw = code_slices(self.networks, z_nchw, grid=LatentGrid(*y_nchw.shape[2:]), code=code)
        return BatchSymbols(z_nchw=z_nchw.int().cpu().numpy(), slices=tuple(coded), latent16_nmhw=latent16_nmhw)

    def write_symbols(self, symbols: BatchSymbols) -> list[bytes]:
        """Code each frame's symbols into its stream."""

        def encode_frame(frame: int) -> bytes:
            encoder = SymbolEncoder()
            self.push(encoder, symbols, frame=frame)
            return encoder.finish()

        return encode_many(encode_frame, range(len(symbols.z_nchw)), num_threads=torch.get_num_threads())

    def push(self, encoder: SymbolEncoder, symbols: BatchSymbols, *, frame: int) -> None:
        """Add one frame's symbols to a stream."""
        z_numbers = channel_of(symbols.z_nchw.shape[1:])
        encoder.push(symbols.z_nchw[frame].ravel(), z_numbers, self.hyper_tables)
        for residual, index in symbols.slices:
            encoder.push(residual[frame].ravel(), index[frame].ravel(), self.latent_tables, skip_below=self.skip_below)

    @torch.inference_mode()
    def decode(self, streams: Sequence[bytes], grid: LatentGrid, *, device: str) -> Tensor:
        """Decode a batch of frames.

        Returns:
            Latents in sixteenths, whole numbers in float32 [N, M, h, w], on the device.

        Raises:
            BitstreamError: A stream is damaged; the message says which.
        """
        decoders = for_each_stream(SymbolDecoder, streams)
        latent16_nchw = self.pull(decoders, grid, device=device)
        for_each_stream(lambda decoder: decoder.finish(), decoders)
        return latent16_nchw

    @torch.inference_mode()
    def pull(self, decoders: Sequence[SymbolDecoder], grid: LatentGrid, *, device: str) -> Tensor:
        """Take a frame out of each stream; returns and raises what `decode` does."""
        return self.pull_both(decoders, grid, device=device)[1]

    @torch.inference_mode()
    def pull_both(self, decoders: Sequence[SymbolDecoder], grid: LatentGrid, *, device: str) -> tuple[Tensor, Tensor]:
        """Take a frame out of each stream; raises what `decode` does.

        Returns:
            Hyper-latents, whole numbers in float32 [N, Z, ceil(h/4), ceil(w/4)], and what `decode` returns.
        """
        check_exact_matmul(torch.device(device))
        z_shape = (self.num_hyper_channels, grid.hyper_height, grid.hyper_width)
        z_numbers = channel_of(z_shape)
        z_array = np.stack(for_each_stream(lambda decoder: decoder.pull(z_numbers, self.hyper_tables), decoders))
        z_nchw = torch.from_numpy(z_array).reshape(-1, *z_shape).to(device).float().clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT)

        def code(number: int, index_nchw: Tensor, mean16_nchw: Tensor) -> Tensor:
            if number >= self.num_coded:
                return torch.zeros_like(mean16_nchw)
            index = index_nchw.byte().cpu().numpy()

            def pull(frame: int) -> Int32Array:
                return decoders[frame].pull(index[frame].ravel(), self.latent_tables, skip_below=self.skip_below)

            residual = np.stack(for_each_stream(pull, range(len(decoders))))
            return torch.from_numpy(residual).to(device).float().reshape(index_nchw.shape)

        return z_nchw, code_slices(self.networks, z_nchw, grid=grid, code=code)


def check_numbers(y_nchw: Tensor, z_nchw: Tensor) -> None:
    """Check what the float networks gave.

    Raises:
        CodecError: A value is no number.
    """
    if not bool(torch.isfinite(y_nchw).all() & torch.isfinite(z_nchw).all()):
        raise CodecError("the networks gave values that are no numbers: the checkpoint or the device is faulty")


def channel_of(shape: tuple[int, ...]) -> Uint8Array:
    """Return the channel of each value of an array [C, h, w], flattened."""
    return np.repeat(np.arange(shape[0], dtype=np.uint8), shape[1] * shape[2])
