"""The nearest frames, against distances computed by hand."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from numpy.typing import NDArray

from framevault.storage.query import select_frames
from framevault.storage.similarity import FACE_MATCHES_SCHEMA, find_similar, find_similar_faces
from framevault.storage.store import Store
from framevault.storage.vault import open_vault
from tests.storage.fact_samples import LENGTH, MODEL_FP, store_facts
from tests.storage.samples import store_video


@pytest.fixture
def store() -> Store:
    """Two videos of 20 frames each, 0.04 s apart, whose vectors turn by 4.5 degrees a frame."""
    store = open_vault(f"memory://{uuid.uuid4().hex}", create=True)
    for video in ("a.mp4", "b.mp4"):
        store_facts(store, store_video(store, video))
    return store


def direction(degrees: float) -> NDArray[np.float32]:
    vector_p = np.zeros(LENGTH, np.float32)
    vector_p[0], vector_p[1] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return 7 * vector_p


def search(
    store: Store, degrees: float, *, top: int = 100, apart_s: float = 0.0, where: str | None = None
) -> list[dict[str, object]]:
    found = find_similar(
        store, direction(degrees), model_fp=MODEL_FP, frames=select_frames(store, where), top=top, apart_s=apart_s
    )
    rows: list[dict[str, object]] = found.to_pylist()
    return rows


def test_the_nearest_frame_comes_first_and_the_rest_in_order(store: Store) -> None:
    rows = search(store, 45, where="video = 'a.mp4'")

    assert rows[0]["video_frame"] == 10
    assert {row["video_frame"] for row in rows[1:3]} == {9, 11}
    assert len(rows) == 20
    for row in rows:
        degrees = 4.5 * int(str(row["video_frame"]))
        # float16 vectors: three digits.
        assert row["distance"] == pytest.approx(1 - np.cos(np.radians(degrees - 45)), abs=1e-3)
    distances = [float(str(row["distance"])) for row in rows]
    assert distances == sorted(distances)


def test_a_match_knows_its_place(store: Store) -> None:
    (row,) = search(store, 49.5, top=1, where="video = 'b.mp4'")

    assert (row["video"], row["video_frame"], row["frame_number"]) == ("b.mp4", 11, 1)
    assert row["time_s"] == pytest.approx(11 * 0.04)


def test_frames_that_are_close_in_time_are_left_out_but_not_other_videos(store: Store) -> None:
    rows = search(store, 0, apart_s=0.19)

    for video in ("a.mp4", "b.mp4"):
        assert [row["video_frame"] for row in rows if row["video"] == video] == [0, 5, 10, 15]


def test_only_chosen_frames_count(store: Store) -> None:
    rows = search(store, 0, where="video = 'a.mp4' and video_frame in (3, 12)")

    assert [(row["video"], row["video_frame"]) for row in rows] == [("a.mp4", 3), ("a.mp4", 12)]


def test_another_models_vectors_do_not_count(store: Store) -> None:
    found = find_similar(store, direction(0), model_fp="0" * 16, frames=select_frames(store), top=5, apart_s=0)

    assert found.num_rows == 0


def test_a_vector_of_another_length_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="has vectors of 6 values, expected 7"):
        find_similar(store, np.ones(7, np.float32), model_fp=MODEL_FP, frames=select_frames(store), top=5, apart_s=0)


def test_a_vector_of_zeros_is_like_nothing(store: Store) -> None:
    found = find_similar(
        store, np.zeros(LENGTH, np.float32), model_fp=MODEL_FP, frames=select_frames(store), top=2, apart_s=0
    )

    assert found["distance"].to_pylist() == [1, 1]


def search_faces(store: Store, *, top: int = 100, apart_s: float = 0.0) -> list[dict[str, object]]:
    vector_p = np.arange(2 * LENGTH, 3 * LENGTH).astype(np.float32)
    found = find_similar_faces(
        store, vector_p, model_fp=MODEL_FP, frames=select_frames(store), top=top, apart_s=apart_s
    )
    assert found.schema == FACE_MATCHES_SCHEMA
    rows: list[dict[str, object]] = found.to_pylist()
    return rows


def test_faces_of_frames_and_frames_that_are_faces_are_found_together(store: Store) -> None:
    rows = search_faces(store)

    # Two videos of 20 frames that have a vector, and 6 faces in some of them.
    assert len(rows) == 2 * (20 + 6)
    assert [row["distance"] for row in rows] == sorted(float(str(row["distance"])) for row in rows)
    best = rows[0]
    assert best["distance"] == pytest.approx(0, abs=1e-6)
    assert (best["video_frame"], best["frame_number"], best["face_number"]) == (5, 5, 1)
    assert [best[name] for name in ("x_min", "y_min", "x_max", "y_max")] == [18.5, 4.25, 34.5, 20.25]
    whole = next(row for row in rows if row["face_number"] is None)
    assert [whole[name] for name in ("x_min", "y_min", "x_max", "y_max")] == [None] * 4


def test_of_two_faces_in_one_frame_the_nearer_is_returned_unless_time_does_not_count(store: Store) -> None:
    near, all_of_them = search_faces(store, apart_s=0.01), search_faces(store)

    of_frame = [row["face_number"] for row in near if (row["video"], row["video_frame"]) == ("a.mp4", 5)]
    assert of_frame == [1]
    in_all = [row["face_number"] for row in all_of_them if (row["video"], row["video_frame"]) == ("a.mp4", 5)]
    assert in_all[:2] == [1, 0]
