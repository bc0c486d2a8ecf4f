"""Streams that no encoder wrote, each made from a seed, and what decoding them must end in.

A case is decoded with a codec of its choice: the tests run a few thousand of them, `make fuzz` a hundred thousand.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from framevault.codecs.base import Codec
from framevault.codecs.dicm.codec import DicmCodec
from framevault.codecs.dicm.networks import LATENT_STRIDE
from framevault.codecs.dicm.skipping import SkipRule
from framevault.codecs.dicm.symbols import LatentGrid
from framevault.codecs.dicm.video import DecodedFrame, SegmentState
from framevault.codecs.errors import BitstreamError, CodecError
from framevault.codecs.faces.codec import FacesCodec
from framevault.codecs.hsc.codec import HscCodec
from framevault.codecs.testing import smooth_frames
from tests.codecs.dicm.moving_toy import random_field
from tests.codecs.dicm.toy import MAGNITUDES, random_latents
from tests.codecs.faces.joining import with_faces
from tests.codecs.hsc.toy import random_latents as random_hsc_latents

SIZES = ((16, 16), (33, 70), (48, 80), (1, 150))
"""Height and width of the frames whose streams are damaged."""

ABSURD_SIZES = ((65535, 65535), (2**31, 2**31), (2**31, 1), (0, 16), (16, -1), (8192, 8193), (65535, 65536))
"""Sizes that are refused."""

MOST_DECLARED_PIXELS = 1 << 20
"""Of a wrong size that is not refused: what decodes as such a frame takes a second."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A codec and good streams of it."""

    codec: Codec
    """Loaded, on the CPU."""
    leads: Mapping[Size, Sequence[bytes]]
    """Streams of a segment's first frames, to be decoded before those of `streams`; by height and width."""
    streams: Mapping[Size, Sequence[bytes]]
    """Of frames of each of `SIZES`, by height and width."""
    good_at_any_size: frozenset[bytes]
    """Streams that decode whatever size is declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileCase:
    """A stream, and the size that it is said to have."""

    target: str
    """Name of the target."""
    damage: str
    """What was done to a good stream."""
    stream: bytes
    """What is decoded."""
    size: Size
    """Declared height and width."""


def make_target(codec: Codec) -> Target:
    """Encode what is to be damaged: for dicm from fixed latents, so that a seed is the same case on every machine."""
    good = {size: _good_streams(codec, size) for size in SIZES}
    return Target(
        codec=codec,
        leads={size: leads for size, (leads, _) in good.items()},
        streams={size: streams for size, (_, streams) in good.items()},
        # Hsc codes square pictures, whatever the size of the frame was; and no bytes stand for the mean one.
        good_at_any_size=frozenset({b"", *(stream for _, streams in good.values() for stream in streams)})
        if isinstance(codec, HscCodec)
        else frozenset(),
    )


def _good_streams(codec: Codec, size: Size) -> tuple[list[bytes], list[bytes]]:
    """Return what is decoded first, and streams any of which may come next."""
    height, width = size
    if isinstance(codec, FacesCodec):
        leads, streams = _good_streams(codec.frames, size)
        return with_faces(leads), with_faces(streams)
    if isinstance(codec, HscCodec):
        latents = random_hsc_latents(codec.networks.config, len(MAGNITUDES), seed=SIZES.index(size))
        return [], codec.bitstream.encode(*latents)
    if not isinstance(codec, DicmCodec):
        return [], codec.encoder(height=height, width=width).encode(smooth_frames(3, height, width))
    grid = LatentGrid(-(-height // LATENT_STRIDE), -(-width // LATENT_STRIDE))
    if codec.is_video:
        return _good_video(codec, grid)
    return [], codec.bitstream.encode(*random_latents(codec.networks.config, len(MAGNITUDES), grid=grid))


def _good_video(codec: DicmCodec, grid: LatentGrid) -> tuple[list[bytes], list[bytes]]:
    """Return a frame, and frames that differ from it in more and more positions; of moved ones as many."""
    assert codec.video is not None
    y_nchw, z_nchw = (x_nchw[1:2] for x_nchw in random_latents(codec.networks.config, 2, grid=grid))
    state = SegmentState()
    leads = codec.video.encode(state, y_nchw, z_nchw, rule=SkipRule())
    generator = torch.Generator().manual_seed(1)
    streams = []
    for share in (0.0, 0.1, 0.3, 0.7, 1.0):
        changed_hw = torch.rand(grid.height, grid.width, generator=generator) < share
        other_nchw = y_nchw + 5 * torch.randn(y_nchw.shape, generator=generator) * changed_hw
        streams += codec.video.encode(dataclasses.replace(state), other_nchw, z_nchw, rule=SkipRule())
        if codec.video.has_moved_frames:
            rng = np.random.default_rng(len(streams))
            field = random_field(grid, rng, most_vectors=codec.video.layout.most_vectors)
            frame = DecodedFrame(latent16_mhw=(16 * other_nchw[0]).round(), motion=field)
            streams.append(codec.video.encode_again(dataclasses.replace(state), frame, rule=SkipRule()))
    return leads, streams


def make_case(seed: int, targets: Mapping[str, Target]) -> HostileCase:
    """Make the case of a seed."""
    rng = random.Random(seed)
    name = rng.choice(sorted(targets))
    size = rng.choice(SIZES)
    damage = rng.choice(sorted(DAMAGES))
    streams = targets[name].streams[size]
    # A damage that finds nothing to do leaves the stream as it is: that must decode.
    stream = DAMAGES[damage](rng, rng.choice(streams), rng.choice(targets[name].streams[rng.choice(SIZES)]))
    return HostileCase(target=name, damage=damage, stream=stream, size=_declare_size(rng, size))


def _declare_size(rng: random.Random, size: Size) -> Size:
    """Declare the right size, mostly."""
    chance = rng.random()
    if chance < 0.85:
        return size
    if chance < 0.93:
        return max(1, size[0] + rng.randint(-40, 40)), max(1, size[1] + rng.randint(-40, 40))
    if chance < 0.97:
        return rng.choice(ABSURD_SIZES)
    height = int(2 ** rng.uniform(0, 15.99))
    return height, rng.randint(1, min(65535, max(1, MOST_DECLARED_PIXELS // height)))


def _place(rng: random.Random, stream: bytes) -> int:
    """Return a position in a stream, which may be empty: that is a predicted frame in which nothing moved."""
    return rng.randrange(max(1, len(stream)))


def _truncate(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    return stream[: _place(rng, stream)]


def _extend(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    return stream + rng.randbytes(rng.randint(1, 40))


def _extend_with_zeros(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    return stream + bytes(rng.randint(1, 40))


def _flip_a_bit(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    return _flip(stream, [8 * _place(rng, stream) + rng.randrange(8)])


def _flip_bits(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    return _flip(stream, [8 * _place(rng, stream) + rng.randrange(8) for _ in range(rng.randint(2, 30))])


def _flip_at_the_front(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    return _flip(stream, [8 * _place(rng, stream[:8]) + rng.randrange(8)])


def _flip(stream: bytes, positions: Sequence[int]) -> bytes:
    flipped = bytearray(stream or b"\0")
    for position in positions:
        flipped[position // 8] ^= 1 << position % 8
    return bytes(flipped)


def _overwrite(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    start = _place(rng, stream)
    run = rng.choice([rng.randbytes(rng.randint(1, 60)), bytes(60), b"\xff" * 60])
    return stream[:start] + run + stream[start + len(run) :]


def _insert(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    start = _place(rng, stream)
    return stream[:start] + rng.randbytes(rng.randint(1, 9)) + stream[start:]


def _delete(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    start = _place(rng, stream)
    return stream[:start] + stream[start + rng.randint(1, 9) :]


def _repeat(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    start = _place(rng, stream)
    return stream[:start] + stream[start : start + rng.randint(1, 60)] * rng.randint(2, 50)


def _splice(rng: random.Random, stream: bytes, other: bytes) -> bytes:
    return stream[: _place(rng, stream)] + other[_place(rng, other) :]


def _swap_words(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    first, second = sorted(_place(rng, stream) for _ in range(2))
    swapped = bytearray(stream)
    swapped[first : first + 4], swapped[second : second + 4] = stream[second : second + 4], stream[first : first + 4]
    return bytes(swapped)


def _make_up(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 4, 8, 9, len(stream), rng.randint(0, 3000)]))


def _fill(rng: random.Random, stream: bytes, _: bytes) -> bytes:
    return rng.choice([b"\0", b"\xff", b"\x01", b"\x80"]) * rng.randint(0, 3000)


def _take_another(_rng: random.Random, _stream: bytes, other: bytes) -> bytes:
    return other


DAMAGES: dict[str, Callable[[random.Random, bytes, bytes], bytes]] = {
    "truncated": _truncate,
    "extended": _extend,
    "extended with zeros": _extend_with_zeros,
    "one bit flipped": _flip_a_bit,
    "bits flipped": _flip_bits,
    "flipped at the front": _flip_at_the_front,
    "overwritten": _overwrite,
    "inserted": _insert,
    "deleted": _delete,
    "repeated": _repeat,
    "spliced": _splice,
    "words swapped": _swap_words,
    "made up": _make_up,
    "filled": _fill,
    "another's": _take_another,
}
"""What can be done to a stream, given another good one of the same codec."""


def decode_case(case: HostileCase, target: Target) -> str:
    """Decode a case, and say what came of it.

    Returns:
        `damaged: ` and the reason, `size refused`, `unchanged` (the damage did nothing, and it decoded), or `decoded`:
        the damage was not noticed, and there was no checksum to notice it.

    Raises:
        AssertionError: Something came out that may not.
        Exception: Anything else than a `BitstreamError` that names the stream; a bug.
    """
    try:
        decoder = target.codec.decoder(height=case.size[0], width=case.size[1])
    except CodecError as error:
        _require("pixels" in str(error), f"a size was refused without a word of it: {error}")
        return "size refused"
    is_good = case.stream in target.streams.get(case.size, ()) or case.stream in target.good_at_any_size
    if leads := target.leads.get(case.size):
        decoder.decode(leads)
    try:
        decoded = decoder.decode([case.stream])
    except BitstreamError as error:
        _require(not is_good, f"a good stream was refused: {error}")
        _require(str(error).startswith("stream 0 of the call"), f"a message names no stream: {error}")
        return "damaged: " + _reason(str(error))
    _require(tuple(decoded.shape) == expected_shape(target.codec, case.size), f"decoded to {tuple(decoded.shape)}")
    return "unchanged" if is_good else "decoded"


def expected_shape(codec: Codec, size: Size) -> tuple[int, ...]:
    """Return the shape of one decoded frame."""
    if codec.spec.row.decodes_to == "frames":
        return (1, 3, *size)
    return (1, 24, -(-size[0] // 4), -(-size[1] // 4))


_REASONS = (
    "ends early",
    "left over",
    "no state",
    "last state",
    "no int32",
    "which was not decoded",
    "a frame's kind",
    "a frame must have 1 to",
    "must have at most 4096 steps",
    "must be of positions that moved",
    "no zlib stream",
    "must inflate to exactly",
    "the stream ends after",
    "more bytes than it needs",
    "as it is stored",
    "more than 5 bytes",
    "is 0",
)


def _reason(message: str) -> str:
    """Return which of the known reasons a message gives; there may be no other."""
    reasons = [reason for reason in _REASONS if reason in message]
    _require(bool(reasons), f"a message gives no known reason: {message}")
    return reasons[0]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
