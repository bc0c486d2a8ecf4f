"""Where the faces in stored streams are: an `hsc` stream is one, a stream of a codec with faces has some in it.

Faces are decoded by `hsc` alone: of a codec with faces, the other codec is never loaded.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from framevault.codecs.errors import BitstreamError
from framevault.codecs.faces.framing import CodedFace, split_streams
from framevault.codecs.spec import CodecSpec

ResultT = TypeVar("ResultT")


class StreamFace(NamedTuple):
    """A face in one of some streams."""

    stream_number: int
    """Which of the streams it is in."""
    face_number: int
    """Which of that stream's faces it is."""
    face: CodedFace
    """Where it is, and what it is coded as."""


def spec_of_faces(spec: CodecSpec) -> CodecSpec | None:
    """Return what decodes the faces in the streams of a spec; the spec itself if frames are faces, None without any."""
    return spec if spec.name == "hsc" else spec.faces


def faces_in(streams: Sequence[bytes]) -> list[StreamFace]:
    """Return the faces of streams of a codec with faces, in their order.

    Raises:
        BitstreamError: A stream is damaged; the message says which of the call's streams it is.
    """
    return [
        StreamFace(stream_number, face_number, face)
        for stream_number, split in enumerate(split_streams(streams))
        for face_number, face in enumerate(split.faces)
    ]


def decode_faces(
    faces: Sequence[StreamFace], decode: Callable[[Sequence[bytes]], ResultT], *, batch_size: int
) -> Iterator[tuple[Sequence[StreamFace], ResultT]]:
    """Decode faces, some at a time; give each batch and what the decoder returned for it.

    Raises:
        BitstreamError: A face is damaged; the message says which.
    """
    for first in range(0, len(faces), batch_size):
        batch = faces[first : first + batch_size]
        try:
            result = decode([each.face.stream for each in batch])
        except BitstreamError:
            for each in batch:
                _check(each, decode)
            raise
        yield batch, result


def _check(each: StreamFace, decode: Callable[[Sequence[bytes]], object]) -> None:
    try:
        decode([each.face.stream])
    except BitstreamError as error:
        raise BitstreamError(f"stream {each.stream_number} of the call: face {each.face_number}: {error}") from error
