"""What the dicm codec's encoding and decoding are made of, each part alone.

N frames; Z, M, h, w as in `codecs/dicm/entropy.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from framevault.codecs.dicm.codec import DicmCodec

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CodedBatch:
    """A batch of frames on its way through the codec."""

    z_nchw: Tensor
    """Hyper-latent symbols, int32 [N, Z, h/4, w/4], on the device."""
    residual_nchw: Tensor
    """Latent symbols, int32 [N, M, h, w], on the device."""
    index_nchw: Tensor
    """Scale indices, int32 [N, M, h, w], on the device."""
    mean_nchw: Tensor
    """Means, int32 [N, M, h, w], on the device."""
    streams: tuple[bytes, ...]
    """The frames' streams."""


class DicmParts:
    """Runs one part of the codec on batches of frames."""

    def __init__(self, codec: DicmCodec) -> None:
        """Take a loaded codec."""
        self._codec = codec

    def code(self, rgb_nchw: Tensor) -> CodedBatch:
        """Run a batch through the whole encoder, and keep what is between its parts."""
        z_nchw, residual_nchw, index_nchw = self._codec.symbols(rgb_nchw)
        _, mean_nchw = self._codec.entropy_parameters(z_nchw, residual_nchw.shape[2], residual_nchw.shape[3])
        streams = tuple(self._codec.coder.encode(*frame) for frame in _frames(z_nchw, residual_nchw, index_nchw))
        return CodedBatch(
            z_nchw=z_nchw, residual_nchw=residual_nchw, index_nchw=index_nchw, mean_nchw=mean_nchw, streams=streams
        )

    def analyse(self, rgb_nchw: Tensor) -> None:
        """Head, g_a, h_a and h_s: frames to symbols."""
        self._codec.symbols(rgb_nchw)

    def encode_symbols(self, batch: CodedBatch) -> None:
        """Symbols to streams."""
        for frame in _frames(batch.z_nchw, batch.residual_nchw, batch.index_nchw):
            self._codec.coder.encode(*frame)

    def decode_streams(self, batch: CodedBatch) -> None:
        """Streams to symbols, the scale indices given."""
        z_shape = batch.z_nchw.shape[1:]
        for stream, index_chw in zip(batch.streams, _arrays(batch.index_nchw), strict=True):
            self._codec.coder.decode(stream, (z_shape[0], z_shape[1], z_shape[2]), _always(index_chw))

    @torch.inference_mode()
    def find_parameters(self, batch: CodedBatch) -> None:
        """h_s: hyper-latents to scale indices and means, frame by frame as the decoder must."""
        for z_chw in batch.z_nchw:
            self._codec.entropy_parameters(z_chw[None], batch.index_nchw.shape[2], batch.index_nchw.shape[3])

    def synthesise(self, batch: CodedBatch) -> None:
        """g_s: symbols and means to features."""
        self._codec.features_of(batch.residual_nchw, batch.mean_nchw)


def _frames(*tensors: Tensor) -> list[tuple[Int32Array, Int32Array, Int32Array]]:
    return list(zip(*(_arrays(tensor) for tensor in tensors), strict=True))


def _arrays(tensor_nchw: Tensor) -> Sequence[Int32Array]:
    return list(tensor_nchw.cpu().numpy())


def _always(index_chw: Int32Array) -> Callable[[Int32Array], Int32Array]:
    return lambda _: index_chw
