"""Streams of codec `dicm+hsc`, from FORMAT.md: where their faces are, and the streams in them."""

from dataclasses import dataclass

from tests.storage.independent.documents import FormatError, require

MOST_QUARTERS = 2**20


@dataclass(frozen=True)
class Face:
    """A face, its numbers as they are stored."""

    left: int
    top: int
    side: int
    angle: int
    score: int
    is_outside: bool
    stream: bytes


def split(stream: bytes) -> tuple[list[Face], bytes]:
    """Return a stream's faces, and the stream of its frame."""
    count, position = _varint(stream, 0)
    require(count <= 4095, "more faces than there may be")
    faces = []
    for _ in range(count):
        left, position = _varint(stream, position)
        top, position = _varint(stream, position)
        side, position = _varint(stream, position)
        require(1 <= side <= MOST_QUARTERS, "a side out of range")
        require(max(abs(_unzigzag(left)), abs(_unzigzag(top))) <= MOST_QUARTERS, "a corner out of range")
        require(position + 2 <= len(stream), "a face that ends early")
        angle, score = stream[position], stream[position + 1]
        both, position = _varint(stream, position + 2)
        length = both // 2
        require(both < 2**32 and position + length <= len(stream), "a face that ends early")
        own = stream[position : position + length]
        faces.append(Face(_unzigzag(left), _unzigzag(top), side, angle, score, both % 2 == 1, own))
        position += length
    return faces, stream[position:]


def _varint(stream: bytes, position: int) -> tuple[int, int]:
    value = 0
    for number in range(5):
        require(position + number < len(stream), "a varint that ends early")
        byte = stream[position + number]
        value += (byte % 128) * 128**number
        if byte < 128:
            require(byte > 0 or number == 0, "a varint that is too long")
            return value, position + number + 1
    raise FormatError("a varint of more than five bytes")


def _unzigzag(value: int) -> int:
    return value // 2 if value % 2 == 0 else -(value + 1) // 2
