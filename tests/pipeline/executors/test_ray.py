"""The executor on a Ray cluster: here one of four CPUs and two GPUs that exist in its books only."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from framevault.pipeline.executors import ray_pool
from framevault.pipeline.executors.base import Executor, ExecutorError, JobStoppedError
from framevault.pipeline.executors.policy import FailurePolicy
from framevault.pipeline.executors.ray import RayExecutor
from framevault.pipeline.executors.ray_cluster import connect
from framevault.pipeline.executors.testing import ExecutorTests, ToyTask, ToyWorker, ignore

pytestmark = pytest.mark.ray

WAIT_S = 30.0
"""No wait takes this long; it keeps a broken test from hanging."""


@pytest.fixture(scope="module", autouse=True)
def toys_travel_by_value(ray_cluster: None) -> Iterator[None]:
    """Actors can't import the tests, so their classes travel with them."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # has no types
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]  # has no types


class TestRayExecutor(ExecutorTests):
    max_in_flight = 4

    @pytest.fixture
    def make_executor(self, waits_s: list[float]) -> Callable[[FailurePolicy], Executor]:
        # Never left: the connection is the session's, and so there is nothing to give back.
        return lambda policy: RayExecutor(
            num_workers=2, gpus_per_worker=0, policy=policy, sleep=waits_s.append
        ).__enter__()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceReport:
    task_id: str
    process: int
    gpu_ids: tuple[int, ...]
    visible_gpus: str | None
    omp_threads: str | None
    most_inside: int


class PlaceWorker:
    """Says where it runs; two tasks of a worker must be inside at once, and never more.

    Its first tasks wait until the other worker is there too, or it might do all by itself.
    """

    def __init__(self, folder: Path) -> None:
        (folder / str(os.getpid())).touch()
        self.folder = folder
        self.barrier = threading.Barrier(2)
        self.lock = threading.Lock()
        self.num_inside = 0
        self.most_inside = 0

    def __call__(self, task: ToyTask) -> PlaceReport:
        import ray

        with self.lock:
            self.num_inside += 1
            self.most_inside = max(self.most_inside, self.num_inside)
        self.barrier.wait(WAIT_S)
        self.wait_for_the_other()
        with self.lock:
            self.num_inside -= 1
        return PlaceReport(
            task_id=task.task_id,
            process=os.getpid(),
            gpu_ids=tuple(int(number) for number in ray.get_gpu_ids()),
            visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
            omp_threads=os.environ.get("OMP_NUM_THREADS"),
            most_inside=self.most_inside,
        )

    def wait_for_the_other(self) -> None:
        never = threading.Event()
        for _ in range(int(WAIT_S / 0.05)):
            if len(list(self.folder.iterdir())) == 2:
                return
            never.wait(0.05)  # two processes have nothing better to wait on than a file
        raise TimeoutError("the other worker did not start")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceFactory:
    folder: Path

    def __call__(self) -> PlaceWorker:
        return PlaceWorker(self.folder)


class DyingWorker(ToyWorker):
    """Takes its whole process with it: `killed_once` the first time, `killed` always."""

    def __call__(self, task: ToyTask) -> object:  # type: ignore[override]  # other receipts
        attempt = self._count(task)
        if task.mode == "killed" or (task.mode == "killed_once" and attempt == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class DyingFactory:
    folder: Path

    def __call__(self) -> DyingWorker:
        return DyingWorker(self.folder)


class BrokenFactory:
    def __call__(self) -> ToyWorker:
        raise FileNotFoundError(2, "no weights", "weights.safetensors")


class LockFactory:
    """Its workers return what does not pickle."""

    def __call__(self) -> Callable[[ToyTask], object]:
        return lambda task: threading.Lock()


def numbered(count: int) -> list[ToyTask]:
    return [ToyTask(task_id=str(number)) for number in range(count)]


@pytest.mark.slow
def test_each_worker_has_its_own_gpu_its_threads_and_two_tasks_at_once(tmp_path: Path) -> None:
    with RayExecutor(gpus_per_worker=1.0, threads_per_worker=3) as executor:
        assert executor.uses_gpus
        assert executor.num_workers == 2

        outcomes = executor.run(numbered(12), PlaceFactory(folder=tmp_path), on_event=ignore)
        reports = [outcome.receipt for outcome in outcomes]

    assert None not in reports
    places = {(report.process, report.gpu_ids, report.visible_gpus) for report in reports if report}
    assert sorted(place[1:] for place in places) == [((0,), "0"), ((1,), "1")]
    assert len({process for process, _, _ in places}) == 2
    assert {report.omp_threads for report in reports if report} == {"3"}
    assert max(report.most_inside for report in reports if report) == 2


def test_a_share_of_a_gpu_makes_more_workers() -> None:
    with RayExecutor(gpus_per_worker=0.5) as executor:
        assert executor.num_workers == 4


def test_workers_without_gpus_share_the_cpus() -> None:
    with RayExecutor(gpus_per_worker=0, threads_per_worker=2) as executor:
        assert not executor.uses_gpus
        assert executor.num_workers == 2


def test_a_killed_worker_costs_only_the_task_that_kills_every_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = [
        ToyTask(task_id="once", mode="killed_once"),
        ToyTask(task_id="always", mode="killed"),
        *numbered(6),
    ]

    with RayExecutor(num_workers=1, gpus_per_worker=0) as executor:
        outcomes = {
            outcome.task.task_id: outcome
            for outcome in executor.run(tasks, DyingFactory(folder=tmp_path), on_event=ignore)
        }

    assert set(outcomes) == {task.task_id for task in tasks}
    assert {name for name, outcome in outcomes.items() if outcome.failure} == {"always"}
    failure = outcomes["always"].failure
    assert failure is not None
    assert (failure.category, failure.attempts) == ("killed", 3)
    # Whoever was beside it when it first died is blamed once; from then on it dies alone.
    assert max(outcome.attempts for name, outcome in outcomes.items() if name.isdecimal()) <= 2
    assert failure.reason.startswith("the worker's process died: ")
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_cannot_be_made_stops_the_job_with_its_reason() -> None:
    with (
        RayExecutor(num_workers=1, gpus_per_worker=0) as executor,
        pytest.raises(JobStoppedError, match=r"no worker could be made: builtins.FileNotFoundError: .*no weights"),
    ):
        list(executor.run(numbered(1), BrokenFactory(), on_event=ignore))


def test_a_receipt_that_does_not_pickle_is_a_bug_and_no_hang() -> None:
    with RayExecutor(num_workers=1, gpus_per_worker=0) as executor:
        (outcome,) = executor.run(numbered(1), LockFactory(), on_event=ignore)

    assert outcome.failure is not None
    assert outcome.failure.category == "bug"
    assert "cannot pickle" in outcome.failure.reason


def test_a_cluster_without_room_stops_the_job_instead_of_waiting_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ray_pool, "START_TIMEOUT_S", 0.5)

    with (
        RayExecutor(gpus_per_worker=0, threads_per_worker=1000) as executor,
        pytest.raises(JobStoppedError, match=r"no worker has started .* each needs 1000 CPUs and 0 GPUs"),
    ):
        list(executor.run(numbered(1), DyingFactory(folder=tmp_path), on_event=ignore))


def test_leaving_keeps_a_connection_that_was_there_before() -> None:
    import ray

    with RayExecutor(num_workers=1):
        pass

    assert ray.is_initialized()


def test_an_executor_that_was_not_entered_says_so() -> None:
    with pytest.raises(ExecutorError, match="must be entered"):
        _ = RayExecutor().num_workers


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(ExecutorError, match=r"pip install 'framevault\[ray\]'"):
        RayExecutor().__enter__()


OWN_CLUSTER = """
import sys
from pathlib import Path
from framevault.pipeline.executors.ray import RayExecutor
from framevault.pipeline.executors.testing import ToyFactory, ToyTask, ignore

with RayExecutor(num_workers=1) as executor:
    tasks = [ToyTask(task_id=str(number)) for number in range(3)]
    outcomes = list(executor.run(tasks, ToyFactory(folder=Path(sys.argv[1])), on_event=ignore))
import ray
print(len(outcomes), sum(outcome.failure is None for outcome in outcomes), ray.is_initialized())
"""


@pytest.mark.slow
def test_a_cluster_of_its_own_is_started_and_ended_without_a_word(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OWN_CLUSTER, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.stdout == "3 3 False\n", done.stderr
    assert done.stderr == ""


def test_a_cluster_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(ExecutorError, match=rf"Ray cluster 127\.0\.0\.1:{port} can't be reached: .*refused"):
        connect(f"127.0.0.1:{port}")


def test_an_address_without_a_port_number_is_refused() -> None:
    with pytest.raises(ExecutorError, match="must be host:port or auto, got 'head:http'"):
        connect("head:http")
