"""The faces part of a stored segment: made from its streams, never from what an encoder meant to store."""

from collections.abc import Iterator

import pyarrow as pa

from framevault.codecs.errors import BitstreamError
from framevault.codecs.faces.framing import split_stream
from framevault.storage.errors import DamagedError
from framevault.storage.face_tables import FaceRow, faces_table
from framevault.storage.frame_facts import FactPart, write_facts
from framevault.storage.index import SegmentRecord
from framevault.storage.packs import Pack, read_pack
from framevault.storage.store import ObjectRef, Store

MODEL_DIGITS = 16
"""Hex digits of a codec's fingerprint that stand in the keys of its faces."""


def faces_model(codec_fingerprint: str) -> str:
    """Return the model_fp under which a codec's faces are kept."""
    return codec_fingerprint[:MODEL_DIGITS]


def face_rows(pack: Pack) -> pa.Table:
    """Return the faces in a pack of a codec with faces, as rows of `FACES_SCHEMA`.

    Raises:
        BitstreamError: A stream is no stream of such a codec; names the frame.
        PackError: A stream is damaged; names the frame.
    """
    return faces_table(list(_rows(pack)))


def store_face_rows(store: Store, record: SegmentRecord, *, written: bytes | None = None) -> FactPart:
    """Store the faces part of a stored segment, or take the one that is there.

    Args:
        store: The vault.
        record: The segment.
        written: What was to be stored; it saves reading, if it is what is stored.

    Raises:
        DamagedError: The pack, or what lies under the part's key, is damaged; names the key.
        StoreUnavailableError: The store can't be read or written.
    """
    key = record.pack.key
    is_stored = written is not None and ObjectRef.of(key, written) == record.pack
    data = written if written is not None and is_stored else store.read_checked(record.pack)
    pack = read_pack(data, key=f"{store.url}: {key}")
    try:
        table = face_rows(pack)
    except BitstreamError as error:
        raise DamagedError(f"{store.url}: {key}: {error}") from error
    model_fp = faces_model(pack.header.codec_fingerprint)
    return write_facts(store, "faces", model_fp, record.segment_id, table, num_frames=record.num_frames)


def _rows(pack: Pack) -> Iterator[FaceRow]:
    for frame in pack.frames:
        try:
            faces = split_stream(pack.payload(frame.frame_number)).faces
        except BitstreamError as error:
            raise BitstreamError(f"frame {frame.frame_number}: {error}") from error
        for face_number, face in enumerate(faces):
            region = face.region
            yield FaceRow(
                frame_number=frame.frame_number,
                pts=frame.pts,
                face_number=face_number,
                x_min=region.x_min,
                y_min=region.y_min,
                side=region.side,
                angle_degrees=region.angle_degrees,
                score=region.score,
                size_bytes=len(face.stream),
                is_outside=region.is_outside,
            )
