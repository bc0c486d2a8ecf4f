"""A frame's stream: the faces that were cut out of it, then the frame. Imports no torch.

::

    number of faces K, at most 4095 | K faces | stream of the frame, up to the end
    face: left, top of its square | side | angle | score | 2 * length + is outside | stream of the face

Left and top are zigzag varints of quarter pixels, the side is a varint of them; angle and score are a byte each.
Varints are LEB128, and as short as their number allows: what is otherwise is damaged.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from framevault.codecs.errors import BitstreamError, CodecError

MOST_FACES = 4095
"""Faces of a frame, at most."""

STEPS_PER_PIXEL = 4
"""Squares lie and grow in quarter pixels."""

MOST_STEPS = 1 << 20
"""Quarter pixels of a square's side, or of its corner from the frame's, at most: four times the longest frame."""

_ANGLES = 256
_HIGHEST_SCORE = 255
_MOST_VARINT_BYTES = 5
_MOST_LENGTH_AND_FLAG = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceRegion:
    """Where a face is in its frame: a square, which may reach beyond the frame's border, turned about its middle."""

    x_min: float
    """Left border of the square before it is turned, in pixels of the upright frame."""
    y_min: float
    """Its upper border."""
    side: float
    """Length of its sides in pixels."""
    angle_degrees: float
    """How far the face is turned clockwise in the frame, 0 to 360; of an upright one 0."""
    score: float
    """How sure it is that this is a face, 0 to 1."""
    is_outside: bool
    """Whether the face is outside the domain of the codec that coded it: what is restored of it is another one."""

    @property
    def x_max(self) -> float:
        """Right border of the square before it is turned."""
        return self.x_min + self.side

    @property
    def y_max(self) -> float:
        """Its lower border."""
        return self.y_min + self.side


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedFace:
    """A face in a stream."""

    region: FaceRegion
    """Where it is."""
    stream: bytes
    """What it is coded as; decodes by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitStream:
    """The parts of a stream."""

    frame: bytes
    """The stream of the frame."""
    faces: tuple[CodedFace, ...]
    """The faces, in their order."""


def quantise(region: FaceRegion) -> FaceRegion:
    """Return a region as it comes back from a stream; one that came from there stays what it is.

    Raises:
        CodecError: A number of it can't be stored.
    """
    return _region_of(_numbers_of(region), is_outside=region.is_outside)


def join_stream(frame: bytes, faces: Sequence[CodedFace]) -> bytes:
    """Return the stream of a frame and its faces; their regions are rounded, as `quantise` says.

    Raises:
        CodecError: There are too many faces, or a region can't be stored.
    """
    if len(faces) > MOST_FACES:
        raise CodecError(f"a frame may have at most {MOST_FACES} faces, got {len(faces)}")
    parts = [_varint(len(faces))]
    for face in faces:
        numbers = _numbers_of(face.region)
        parts += [_varint(_zigzag(numbers.x)), _varint(_zigzag(numbers.y)), _varint(numbers.side)]
        parts += [bytes((numbers.angle, numbers.score)), _varint(2 * len(face.stream) + face.region.is_outside)]
        parts.append(face.stream)
    return b"".join([*parts, frame])


def split_stream(stream: bytes) -> SplitStream:
    """Return the parts of a stream that `join_stream` made; the streams in it are not looked into.

    Raises:
        BitstreamError: It is none, or was damaged; the message says where.
    """
    reader = _Reader(stream)
    num_faces = reader.varint("the number of faces", most=MOST_FACES)
    faces = tuple(_read_face(reader, f"face {number} of {num_faces}") for number in range(num_faces))
    return SplitStream(frame=reader.rest(), faces=faces)


def split_streams(streams: Sequence[bytes]) -> list[SplitStream]:
    """Return the parts of each stream of a call.

    Raises:
        BitstreamError: One is damaged; the message says which of the call's streams it is.
    """
    parts: list[SplitStream] = []
    for stream in streams:
        try:
            parts.append(split_stream(stream))
        except BitstreamError as error:
            raise BitstreamError(f"stream {len(parts)} of the call: {error}") from error
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """A region as whole numbers."""

    x: int
    y: int
    side: int
    angle: int
    score: int


def _numbers_of(region: FaceRegion) -> _Numbers:
    values = (region.x_min, region.y_min, region.side, region.angle_degrees, region.score)
    if not all(math.isfinite(value) for value in values):
        raise CodecError(f"a face's region must be of finite numbers, got {region}")
    x, y, side = (round(value * STEPS_PER_PIXEL) for value in values[:3])
    side = max(1, side)
    if max(abs(x), abs(y), side) > MOST_STEPS or region.side <= 0:
        most = MOST_STEPS // STEPS_PER_PIXEL
        raise CodecError(f"a face's square must have sides above 0 and lie within {most} pixels, got {region}")
    if not 0 <= region.score <= 1:
        raise CodecError(f"a face's score must be 0 to 1, got {region.score}")
    angle = round(region.angle_degrees * _ANGLES / 360) % _ANGLES
    return _Numbers(x=x, y=y, side=side, angle=angle, score=round(region.score * _HIGHEST_SCORE))


def _region_of(numbers: _Numbers, *, is_outside: bool) -> FaceRegion:
    return FaceRegion(
        x_min=numbers.x / STEPS_PER_PIXEL,
        y_min=numbers.y / STEPS_PER_PIXEL,
        side=numbers.side / STEPS_PER_PIXEL,
        angle_degrees=numbers.angle * 360 / _ANGLES,
        score=numbers.score / _HIGHEST_SCORE,
        is_outside=is_outside,
    )


def _read_face(reader: "_Reader", name: str) -> CodedFace:
    x = _unzigzag(reader.varint(f"the left border of {name}", most=2 * MOST_STEPS))
    y = _unzigzag(reader.varint(f"the upper border of {name}", most=2 * MOST_STEPS))
    side = reader.varint(f"the side of {name}", most=MOST_STEPS)
    if side == 0:
        raise BitstreamError(f"the side of {name} is 0")
    angle, score = reader.take(2, f"angle and score of {name}")
    length, is_outside = divmod(reader.varint(f"the length of {name}", most=_MOST_LENGTH_AND_FLAG), 2)
    numbers = _Numbers(x=x, y=y, side=side, angle=angle, score=score)
    region = _region_of(numbers, is_outside=bool(is_outside))
    return CodedFace(region=region, stream=reader.take(length, f"the stream of {name}"))


class _Reader:
    """Reads a stream from its start."""

    def __init__(self, stream: bytes) -> None:
        """Start at the first byte."""
        self._stream = stream
        self._position = 0

    def take(self, length: int, name: str) -> bytes:
        """Return the next bytes.

        Raises:
            BitstreamError: The stream ends before.
        """
        start, end = self._position, self._position + length
        if end > len(self._stream):
            raise BitstreamError(f"{name} has {length} bytes, and the stream ends after {len(self._stream) - start}")
        self._position = end
        return self._stream[start:end]

    def varint(self, name: str, *, most: int) -> int:
        """Return the next number.

        Raises:
            BitstreamError: The stream ends within, it is too large, or longer than it must be.
        """
        value = 0
        for number in range(_MOST_VARINT_BYTES):
            byte = self.take(1, name)[0]
            value |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                if byte == 0 and number > 0:
                    raise BitstreamError(f"{name} is written with more bytes than it needs")
                if value > most:
                    raise BitstreamError(f"{name} must be at most {most} as it is stored, got {value}")
                return value
        raise BitstreamError(f"{name} has more than {_MOST_VARINT_BYTES} bytes")

    def rest(self) -> bytes:
        """Return all that was not read."""
        return self._stream[self._position :]


def _varint(value: int) -> bytes:
    """Return a whole number from 0 on in LEB128."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if value % 2 == 0 else -((value + 1) >> 1)
