"""Vectors of faces, with the shipped hsc: the same whether a frame is the face or has it."""

import uuid

import numpy as np
import pytest
from numpy.typing import NDArray

from framevault.codecs.errors import CodecError
from framevault.codecs.hsc.codec import HscCodec, load_hsc
from framevault.codecs.spec import CodecSpec
from framevault.storage.frame_facts import read_facts
from framevault.storage.frame_tables import vectors_of
from framevault.storage.index import VideoManifest
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from framevault.workers.face_vectors import FaceVectorReceipt, FaceVectorSettings, FaceVectorWorker
from framevault.workers.features import StoredSegment
from tests.face_vaults import encode_faces, face_at, face_pictures, join_streams, store_streams

MODEL_FP = "a" * 16


@pytest.fixture(scope="module")
def codec() -> HscCodec:
    return load_hsc(CodecSpec(name="hsc"))


@pytest.fixture(scope="module")
def streams(codec: HscCodec) -> list[bytes]:
    """Of three different faces."""
    return encode_faces(codec, face_pictures(3))


@pytest.fixture(scope="module")
def store() -> Store:
    return open_vault(f"memory://{uuid.uuid4().hex}", create=True)


@pytest.fixture(scope="module")
def worker(store: Store) -> FaceVectorWorker:
    return FaceVectorSettings(vault_url=store.url, model_fp=MODEL_FP, threads_per_slot=1)()


def look(worker: FaceVectorWorker, video: VideoManifest) -> FaceVectorReceipt:
    """Look through a video's only segment."""
    (record,) = video.segments
    return worker(
        StoredSegment(
            segment_id=record.segment_id,
            video_id=video.video_id,
            run_fp=video.run_fp,
            pack=record.pack,
            num_frames=record.num_frames,
        )
    )


def vectors_in(store: Store, receipt: FaceVectorReceipt) -> tuple[list[dict[str, object]], NDArray[np.float16]]:
    """Return the rows of the only part but their vectors, and these."""
    ((kind, part),) = receipt.part.parts.items()
    table = read_facts(kind, part.part.key, store.read_checked(part.part), num_frames=part.num_frames)
    return table.drop_columns(["vector"]).to_pylist(), vectors_of(table)


def test_a_face_in_a_frame_has_the_vector_that_it_has_as_a_frame(
    store: Store, worker: FaceVectorWorker, streams: list[bytes]
) -> None:
    alone = store_streams(store, CodecSpec(name="hsc"), streams, video="alone.mp4", height=128, width=128)
    frames = join_streams(
        [[face_at(1, 2, 30, streams[1]), face_at(40.25, -3, 20, streams[0])], [], [face_at(0, 0, 9, streams[2])]]
    )
    beside = store_streams(store, CodecSpec(name="dicm+hsc"), frames, video="beside.mp4", height=64, width=96)

    of_frames, in_frames = look(worker, alone), look(worker, beside)

    assert (list(of_frames.part.parts), list(in_frames.part.parts)) == (["vectors"], ["face_vectors"])
    places, vectors_kp = vectors_in(store, in_frames)
    assert np.array_equal(vectors_kp, vectors_in(store, of_frames)[1][[1, 0, 2]])
    assert [(row["frame_number"], row["face_number"], row["x_min"], row["y_min"], row["side"]) for row in places] == [
        (0, 0, 1, 2, 30),
        (0, 1, 40.25, -3, 20),
        (2, 0, 0, 0, 9),
    ]
    assert (in_frames.num_frames, in_frames.faults) == (3, ())


def test_frames_without_anybody_are_looked_through(store: Store, worker: FaceVectorWorker) -> None:
    empty = store_streams(
        store, CodecSpec(name="dicm+hsc"), join_streams([[], []]), video="empty.mp4", height=64, width=96
    )

    receipt = look(worker, empty)

    assert vectors_in(store, receipt)[1].shape == (0, 48)
    assert (receipt.num_frames, receipt.part.num_lost) == (2, 0)


def test_a_damaged_face_costs_its_own_frame(store: Store, worker: FaceVectorWorker, streams: list[bytes]) -> None:
    good, bad = face_at(1, 2, 30, streams[1]), face_at(1, 2, 30, streams[1][:8])
    frames = [*join_streams([[good], [good, bad], [good, good]]), b""]
    damaged = store_streams(store, CodecSpec(name="dicm+hsc"), frames, video="bad.mp4", height=64, width=96)

    receipt = look(worker, damaged)

    places, _ = vectors_in(store, receipt)
    assert [(row["frame_number"], row["face_number"]) for row in places] == [(0, 0), (2, 0), (2, 1)]
    assert (receipt.num_frames, receipt.part.num_lost) == (2, 2)
    assert [fault.first_frame for fault in receipt.faults] == [1, 3]
    assert "face 1: " in receipt.faults[0].reason
    assert "the number of faces" in receipt.faults[1].reason


def test_a_codec_without_faces_is_refused(store: Store, worker: FaceVectorWorker) -> None:
    raw = store_streams(store, CodecSpec(name="raw"), [b"pixels"], video="raw.mp4", height=64, width=96)

    with pytest.raises(CodecError, match="core symbols of codec hsc, got codec raw"):
        look(worker, raw)
