"""The protocol that every codec fulfils.

A codec is loaded once a process. For each segment it makes one encoder or one decoder: a frame's stream may depend on
the segment's earlier frames, so frames go in in order, and several segments run in parallel. Letters in shapes:
N frames, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

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


class CheckedStreams(NamedTuple):
    """What some frames were encoded as, and whether they come back as what they were."""

    streams: list[bytes]
    """As `Encoder.encode` returns them."""
    are_outside: list[bool]
    """Whether each frame is outside the codec's domain: what is restored of it differs by more than it should."""


@runtime_checkable
class SupportsDomainCheck(Protocol):
    """An encoder of a codec that is made for pictures of one kind, and restores others as something else."""

    def encode_checked(self, frames_nchw: Tensor) -> CheckedStreams:
        """Encode the segment's next frames as `encode` does, and restore and compare each.

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


class Thinner(Protocol):
    """Drops the last slices of one segment's streams; not thread-safe."""

    def thin(self, streams: Sequence[bytes]) -> list[bytes]:
        """Thin the segment's next streams.

        Returns:
            As many streams, which a codec of the thinned spec decodes; those that decode by themselves still do.

        Raises:
            BitstreamError: A stream is damaged; the message says which of the call's streams it is.
        """
        ...


@runtime_checkable
class SupportsThinning(Protocol):
    """A codec whose streams hold slices, most important first, and decode without the last ones.

    No pixels and no float networks are needed: what is kept is decoded and coded again. `codecs.spec.thinned` says
    which spec then decodes it.
    """

    @property
    def num_slices(self) -> int:
        """Slices of its streams."""
        ...

    def thinner(self, *, height: int, width: int, slices: int) -> Thinner:
        """Start thinning a segment of frames of that size in pixels.

        Args:
            height: Of the frames.
            width: Of the frames.
            slices: Slices to keep, 0 to `num_slices` - 1.

        Raises:
            CodecError: It has no more slices than that, or the size is impossible.
        """
        ...


@runtime_checkable
class SupportsLatents(Protocol):
    """A decoder that can stop at the latents which its features are made from."""

    def decode_latent_changes(self, streams: Sequence[bytes]) -> Changes:
        """Decode the segment's next streams, but make no features; counts as decoding them.

        Returns:
            Latents float32 [K, M, h, w] on the codec's device, in one scale for all qualities; frames and rows as
            `SupportsRepeats.decode_changes` has them.

        Raises:
            BitstreamError: A stream is damaged; the message says which of the call's streams it is.
        """
        ...


class Semantics(NamedTuple):
    """What a picture's streams say, before it becomes a picture; on the codec's device.

    Letters in shapes: N pictures, L styles of D values, C channels of a feature of s x s positions, K core symbols.
    """

    styles_nld: Tensor
    """Decoded styles, float32."""
    feature_nchw: Tensor
    """Decoded feature in the place of the generator's own, float32 [N, C, s, s]."""
    core_nk: Tensor
    """Core symbols, whole numbers in float32: all that the styles were made of."""


@runtime_checkable
class SupportsCoreSymbols(Protocol):
    """A decoder that can stop at the few symbols that say most: entropy decoding only, no float networks."""

    def decode_core(self, streams: Sequence[bytes]) -> Tensor:
        """Decode the segment's next streams no further than their core symbols.

        Returns:
            Whole numbers in float32 [N, K]; the same on every device.

        Raises:
            BitstreamError: A stream is damaged; the message says which of the call's streams it is.
        """
        ...


@runtime_checkable
class SupportsEditing(SupportsCoreSymbols, Protocol):
    """A decoder that can stop at a picture's meaning and go on from another one; every stream decodes by itself."""

    @property
    def num_slices(self) -> int:
        """Slices that its streams hold, those that were thinned away not counted."""
        ...

    def decode_latents(self, streams: Sequence[bytes], *, slices: int | None = None) -> Semantics:
        """Decode the segment's next streams.

        Args:
            streams: One a picture.
            slices: Slices to use, 0 (core symbols alone) to `num_slices`; None uses all.

        Raises:
            BitstreamError: A stream is damaged; the message says which of the call's streams it is.
            CodecError: The streams have no so many slices.
        """
        ...

    def mean_latents(self, num_frames: int) -> Semantics:
        """Return what no bytes at all stand for, as often: the middle of what core symbols can be, and what it says."""
        ...

    def own_feature(self, styles_nld: Tensor) -> Tensor:
        """Return the generator's own feature F(S) [N, C, s, s] of any styles."""
        ...

    def render(self, styles_nld: Tensor, feature_nchw: Tensor) -> Tensor:
        """Return the frames, uint8 [N, 3, H, W], of styles and a feature; `decode` is this after `decode_latents`."""
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


def check_slices(slices: int, *, num_slices: int) -> None:
    """Check to how many slices streams shall be thinned.

    Raises:
        CodecError: They have no more than that.
    """
    if not 0 <= slices < num_slices:
        raise CodecError(
            f"slices must be 0 to {num_slices - 1}, fewer than the {num_slices} of the streams, got {slices}"
        )


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
