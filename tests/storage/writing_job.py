"""A small job that stores videos and detections, and a process that kills it at random moments; for `test_kills.py`.

The killer forks the job from one process that has imported everything, so that twenty kills take seconds.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time

from framevault.storage.index import load_manifests, recover_segment
from framevault.storage.verify import verify_vault
from tests.storage.samples import make_vault, sample_id


def run_job(url: str) -> None:
    """Make the sample vault; run again, it goes on where it was."""
    make_vault(url)


def main() -> None:
    """Kill the job on a vault again and again, look at the vault each time, and finish the job at last."""
    url, reference, num_kills, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    # The first run loads what is loaded late; timed, it would let all kills come too late.
    run_job(f"{reference}-warm")
    start = time.monotonic()
    run_job(reference)
    undisturbed_s = time.monotonic() - start
    num_finished = _count_objects(reference)
    chance = random.Random(seed)
    errors: list[str] = []
    states = set()
    for _ in range(num_kills):
        # A run goes on where the last one was killed, so each gets a part of the way. A finished vault is no target
        # (temporary files, which kills leave, count as well: then it starts afresh a little early).
        if _count_objects(url) >= num_finished:
            shutil.rmtree(url)
        num_objects = _kill_once(url, after_s=chance.uniform(0, undisturbed_s))
        states.add(num_objects)
        if num_objects:
            errors += _look(url)
    run_job(url)
    sys.stdout.write(json.dumps({"errors": errors + _look(url), "states": sorted(states)}))


def _kill_once(url: str, *, after_s: float) -> int:
    """Start the job, kill it, and return how many objects there are then."""
    child = os.fork()
    if child == 0:
        run_job(url)
        os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return _count_objects(url)


def _count_objects(url: str) -> int:
    return sum(len(files) for _, _, files in os.walk(url))


def _look(url: str) -> list[str]:
    """Return what is wrong."""
    from framevault.storage.store import open_store

    store = open_store(url)
    if not store.exists("vault.json"):
        return [f"no vault, but {key}" for key in store.list()]
    load_manifests(store)
    recover_segment(store, sample_id("a.mp4", 0))
    return [finding.problem for finding in verify_vault(store) if finding.is_error]


if __name__ == "__main__":
    main()
