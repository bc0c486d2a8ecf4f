"""The protocol that every codec fulfils.

A codec is loaded once a process. For each segment it makes one encoder or one decoder: a frame's stream may depend on
the segment's earlier frames, so frames go in in order, and several segments run in parallel. Letters in shapes:
N frames, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from framevault.codecs.errors import CodecError
from framevault.codecs.spec import CodecSpec

LONGEST_SIDE = 65535
"""Pixels of a frame's height or width, at most."""

MOST_PIXELS = 1 << 26
"""Pixels of a frame, at most: 8192 x 8192, as many as workers take unless told otherwise.

What is surely zero costs no bits, so a short stream may stand for a large frame, and its declared size alone bounds
what a decoder allocates: 3 bytes a pixel for raw, some 80 for dicm.
"""


class Encoder(Protocol):
    """Turns the frames of one segment into bitstreams; not thread-safe."""

    def encode(self, frames_nchw: Tensor) -> list[bytes]:
        """Encode the segment's next frames.

        Args:
            frames_nchw: RGB, uint8 [N, 3, H, W], of the size the encoder was made for, on any device.

        Returns:
            N bitstreams, in order. The same frames cut into calls in the same way give the same streams on one machine;
            another device or batch size may round a float the other way and give others, as valid.

        Raises:
            CodecError: The frames have another shape or type.
        """
        ...


class Decoder(Protocol):
    """Turns the bitstreams of one segment back; not thread-safe."""

    def decode(self, streams: Sequence[bytes]) -> Tensor:
        """Decode the segment's next streams.

        Returns:
            On the codec's device: frames as uint8 [N, 3, H, W], or features as float32 [N, C, ceil(H/s), ceil(W/s)],
            as the codec's row of the table says.

        Raises:
            BitstreamError: A stream is damaged; the message says which of the call's streams it is.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """What a run of streams decodes to, frames that equal the one before them left out."""

    decoded: Tensor
    """Those that differ, as `Decoder.decode` gives them, [K, ...]; K may be 0."""
    rows: tuple[int, ...]
    """For each stream, which of them it is, 0..K-1; -1 for the last frame of the call before."""


@runtime_checkable
class SupportsRepeats(Protocol):
    """A decoder whose streams say that a frame equals the one before it, so that work can be done once."""

    def decode_changes(self, streams: Sequence[bytes]) -> Changes:
        """Decode the segment's next streams.

        Raises:
            BitstreamError: A stream is damaged; the message says which of the call's streams it is.
        """
        ...


class Codec(Protocol):
    """Networks and tables of one spec, loaded; thread-safe."""

    @property
    def spec(self) -> CodecSpec:
        """What it was loaded from."""
        ...

    def is_independent(self, stream: bytes) -> bool:
        """Say whether a stream of its encoder decodes without those before it.

        Raises:
            BitstreamError: It is no such stream.
        """
        ...

    def encoder(self, *, height: int, width: int) -> Encoder:
        """Start encoding a segment of frames of that size in pixels."""
        ...

    def decoder(self, *, height: int, width: int) -> Decoder:
        """Start decoding a segment of frames of that size in pixels."""
        ...


def check_frames(frames_nchw: Tensor, *, height: int, width: int) -> None:
    """Check what an encoder was given.

    Raises:
        CodecError: It is not uint8 [N, 3, height, width].
    """
    if str(frames_nchw.dtype) != "torch.uint8" or tuple(frames_nchw.shape[1:]) != (3, height, width):
        raise CodecError(
            f"frames must be uint8 [N, 3, {height}, {width}], got {frames_nchw.dtype} {list(frames_nchw.shape)}"
        )


def check_size(*, height: int, width: int) -> None:
    """Check the frame size a coder is made for.

    Raises:
        CodecError: A side is not 1..65535 pixels, or the frame has more than 2^26.
    """
    if not (1 <= height <= LONGEST_SIDE and 1 <= width <= LONGEST_SIDE):
        raise CodecError(f"frames must be 1 to {LONGEST_SIDE} pixels a side, got {width} x {height}")
    if height * width > MOST_PIXELS:
        raise CodecError(f"frames must have at most {MOST_PIXELS} pixels, got {width} x {height}")
