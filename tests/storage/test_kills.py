"""Kills at any moment, and two writers of one vault at once: nothing half-written, nothing lost, one result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from framevault.storage.detections import load_detection_manifests
from framevault.storage.index import load_manifests
from framevault.storage.quarantine import load_failures
from framevault.storage.store import Store, open_store
from framevault.storage.verify import verify_vault
from tests.storage.s3_server import S3Server
from tests.storage.samples import make_vault, store_detections, store_video

ROOT = Path(__file__).parents[2]

NUM_KILLS = 20
"""As the project asks."""


def content(store: Store) -> tuple[object, Mapping[str, bytes]]:
    """Return what a vault says, times aside, and the bytes of everything that holds no time."""
    timeless = [key for key in store.list() if key.partition("/")[0] not in {"manifests", "quarantine"}]
    said = (load_manifests(store), load_detection_manifests(store), load_failures(store))
    return said, {key: store.read(key) for key in timeless}


def test_a_vault_killed_20_times_is_clean_each_time_and_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    killed, undisturbed = str(tmp_path / "killed"), str(tmp_path / "undisturbed")

    done = subprocess.run(
        [sys.executable, "-m", "tests.storage.writing_job", killed, undisturbed, str(NUM_KILLS), "7"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["errors"] == []
    assert len(said["states"]) > 2, "the kills hit nothing"
    assert content(open_store(killed)) == content(open_store(undisturbed))


@pytest.fixture(params=["local", "memory", "s3"])
def vault_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "vault")
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    server: S3Server = request.getfixturevalue("s3_server")
    return f"{server.url}/{uuid.uuid4().hex}"


def run_together(*jobs: Callable[[], object]) -> None:
    """Run jobs in threads that start at the same moment; an error of one is an error here."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        barrier.wait()
        job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(run, jobs))


def test_two_runs_of_the_same_job_at_once_both_end_well(vault_url: str) -> None:
    run_together(lambda: make_vault(vault_url), lambda: make_vault(vault_url))

    store = open_store(vault_url)
    assert list(verify_vault(store)) == []
    assert content(store) == content(make_vault(f"memory://{uuid.uuid4().hex}"))


def test_two_encoders_that_give_other_bytes_end_with_one_vault(vault_url: str) -> None:
    make_vault(vault_url)

    def job(seed: int) -> None:
        manifest = store_video(open_store(vault_url), "c.mp4", num_segments=4, seed=seed)
        store_detections(open_store(vault_url), manifest)

    run_together(lambda: job(1), lambda: job(2))

    store = open_store(vault_url)
    assert list(verify_vault(store)) == []
    assert [len(manifest.segments) for manifest in load_manifests(store)] == [2, 2, 4]
