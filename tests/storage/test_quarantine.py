"""What could not be stored, and why."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from framevault.storage.errors import DamagedError
from framevault.storage.quarantine import load_failures, write_failure
from framevault.storage.store import Store, open_store
from tests.storage.samples import sample_failure


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://{uuid.uuid4().hex}")


def test_a_failure_survives_being_stored(store: Store) -> None:
    failure = sample_failure()
    whole_source = replace(failure, subject_id=failure.video_id, first_pts=None, last_pts=None, num_frames=0)

    key = write_failure(store, failure)
    write_failure(store, whole_source)

    assert key == f"quarantine/{failure.subject_id}/0001.json"
    assert load_failures(store) == [whole_source, failure]
    assert load_failures(store)[1].created_at == failure.created_at


def test_the_same_failure_again_changes_nothing_whatever_the_time(store: Store) -> None:
    first = write_failure(store, sample_failure())

    second = write_failure(store, replace(sample_failure(), created_at="2033-01-01T00:00:00Z"))

    assert first == second
    assert len(list(store.list())) == 1


def test_the_latest_of_a_subjects_failures_counts(store: Store) -> None:
    for number in range(11):
        write_failure(store, replace(sample_failure(), reason=f"reason {number}"))

    assert [failure.reason for failure in load_failures(store)] == ["reason 10"]


def test_writers_at_once_lose_nothing(store: Store) -> None:
    failures = [replace(sample_failure(), reason=f"reason {number}") for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda failure: write_failure(store, failure), failures))

    assert len(set(keys)) == len(list(store.list())) == 8


def test_an_unknown_category_is_an_error(store: Store) -> None:
    failure = sample_failure()
    wrong = replace(failure, category="weather")  # type: ignore[arg-type] # the wrong value is the point
    store.create(f"quarantine/{failure.subject_id}/0001.json", wrong.to_document())

    with pytest.raises(DamagedError, match="category must be one of"):
        load_failures(store)
