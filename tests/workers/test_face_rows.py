"""The faces part of a stored segment."""

import uuid
from dataclasses import replace

import pytest

from framevault.codecs.errors import BitstreamError
from framevault.codecs.faces.framing import CodedFace, FaceRegion, join_stream
from framevault.codecs.spec import CodecSpec
from framevault.storage.errors import DamagedError
from framevault.storage.frame_facts import read_facts
from framevault.storage.index import write_segment
from framevault.storage.packs import read_pack
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.face_rows import face_rows, store_face_rows
from tests.face_vaults import FRAME, face_at, faces_header, join_streams, pack_streams
from tests.storage.samples import PTS_STEP

SPEC = CodecSpec(name="dicm+hsc")
TURNED = FaceRegion(x_min=-3.25, y_min=7.5, side=20.25, angle_degrees=45.0, score=0.2, is_outside=True)
NOBODY: list[list[CodedFace]] = [[], [], []]
FRAMES: list[list[CodedFace]] = [
    [],
    [face_at(1, 2, 30, b"abc"), CodedFace(region=TURNED, stream=b"")],
    [face_at(4, 5, 6, b"12345", score=1.0)],
]


def pack_of(streams: list[bytes]) -> bytes:
    return pack_streams(faces_header(SPEC, height=60, width=90), streams)


@pytest.fixture
def store() -> Store:
    return open_vault(f"memory://{uuid.uuid4().hex}", create=True)


def test_rows_are_what_the_streams_say() -> None:
    rows = face_rows(read_pack(pack_of(join_streams(FRAMES)), key="x")).to_pylist()

    assert [(row["frame_number"], row["face_number"], row["size_bytes"]) for row in rows] == [
        (1, 0, 3),
        (1, 1, 0),
        (2, 0, 5),
    ]
    assert [row["pts"] for row in rows] == [1000 + PTS_STEP, 1000 + PTS_STEP, 1000 + 2 * PTS_STEP]
    turned = {name: rows[1][name] for name in ("x_min", "y_min", "side", "angle_degrees", "is_outside")}
    assert turned == {"x_min": -3.25, "y_min": 7.5, "side": 20.25, "angle_degrees": 45.0, "is_outside": True}
    assert rows[1]["score"] == pytest.approx(0.2)


def test_a_segment_without_faces_has_a_part_without_rows(store: Store) -> None:
    record = write_segment(store, pack_of(join_streams(NOBODY)))

    part = store_face_rows(store, record)

    assert (part.num_rows, part.num_frames) == (0, 3)
    assert read_facts("faces", "x", store.read(part.part.key)).num_rows == 0


def test_rows_are_of_what_is_stored_not_of_what_was_to_be_stored(store: Store) -> None:
    stored, other = (pack_of(join_streams(frames)) for frames in (FRAMES, NOBODY))
    record = write_segment(store, stored)
    again = write_segment(store, other)

    part = store_face_rows(store, again, written=other)

    assert again == record
    assert part.num_rows == 3
    assert store_face_rows(store, record, written=stored) == part == store_face_rows(store, record)
    assert (
        part.part.key
        == f"faces/{faces_header(SPEC, height=60, width=90).codec_fingerprint[:16]}/{record.segment_id}.parquet"
    )


def test_streams_of_another_codec_are_damage_that_names_the_frame(store: Store) -> None:
    streams = [join_stream(FRAME, []), b""]
    record = write_segment(store, pack_of(streams))

    with pytest.raises(BitstreamError, match="frame 1: "):
        face_rows(read_pack(pack_of(streams), key="x"))
    with pytest.raises(DamagedError, match=r"packs/.*: frame 1: "):
        store_face_rows(store, record)


def test_a_pack_that_was_damaged_since_gives_no_part(store: Store) -> None:
    record = write_segment(store, pack_of(join_streams(FRAMES)))
    lost = replace(record, pack=replace(record.pack, crc32c=record.pack.crc32c ^ 1))

    with pytest.raises(DamagedError):
        store_face_rows(store, lost)
    assert list(store.list("faces")) == []
