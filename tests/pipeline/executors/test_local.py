"""The executor in this process."""

import threading
from collections.abc import Callable, Iterator

import pytest

from framevault.pipeline.events import Event, TaskRetried, TaskStarted
from framevault.pipeline.executors.base import Executor, JobStoppedError, Outcome
from framevault.pipeline.executors.local import LocalExecutor
from framevault.pipeline.executors.policy import FailurePolicy
from framevault.pipeline.executors.testing import ExecutorTests, ToyTask, ignore

WAIT_S = 30.0
"""No wait takes this long; it keeps a broken test from hanging."""


class TestLocalExecutor(ExecutorTests):
    max_in_flight = 3

    @pytest.fixture
    def make_executor(self, waits_s: list[float]) -> Callable[[FailurePolicy], Executor]:
        return lambda policy: LocalExecutor(num_workers=2, policy=policy, sleep=waits_s.append)


class MeetingWorker:
    """Each task waits inside until `size` of them are there together; remembers the most that ever were."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.lock = threading.Lock()
        self.num_inside = 0
        self.most_inside = 0
        self.is_closed = False

    def __call__(self, task: ToyTask) -> str:
        with self.lock:
            self.num_inside += 1
            self.most_inside = max(self.most_inside, self.num_inside)
        self.barrier.wait(WAIT_S)
        with self.lock:
            self.num_inside -= 1
        return task.task_id

    def close(self) -> None:
        self.is_closed = True


class StuckWorker:
    """Never ends a task by itself: only closing it does."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, task: ToyTask) -> str:
        self.closed.wait(WAIT_S)
        self.let_go.set()
        return task.task_id

    def close(self) -> None:
        self.closed.set()


def numbered(count: int) -> Iterator[ToyTask]:
    return (ToyTask(task_id=str(number)) for number in range(count))


def test_one_worker_object_has_one_task_more_than_it_computes() -> None:
    worker = MeetingWorker(3)

    outcomes = list(LocalExecutor(num_workers=2).run(numbered(9), lambda: worker, on_event=ignore))

    assert len(outcomes) == 9
    assert worker.most_inside == 3


def test_the_worker_is_closed_at_the_end() -> None:
    worker = MeetingWorker(1)

    list(LocalExecutor(num_workers=1).run(numbered(2), lambda: worker, on_event=ignore))

    assert worker.is_closed


def test_an_interrupt_waits_for_nothing_and_closes_the_worker() -> None:
    worker = StuckWorker()
    started: list[str] = []

    def interrupt_at_second(event: Event) -> None:
        if isinstance(event, TaskStarted):
            started.append(event.task_id)
        if len(started) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(LocalExecutor(num_workers=1).run(numbered(9), lambda: worker, on_event=interrupt_at_second))

    assert started == ["0", "1"]
    assert worker.closed.is_set()
    assert worker.let_go.wait(WAIT_S)


def test_an_error_while_tasks_are_planned_ends_the_run() -> None:
    def broken_plan() -> Iterator[ToyTask]:
        yield ToyTask(task_id="0")
        raise ZeroDivisionError("planning")

    worker = MeetingWorker(1)

    with pytest.raises(ZeroDivisionError, match="planning"):
        list(LocalExecutor(num_workers=1).run(broken_plan(), lambda: worker, on_event=ignore))

    assert worker.is_closed


def test_a_worker_that_exits_is_a_failed_task_and_no_hang() -> None:
    def leave(task: ToyTask) -> str:
        raise SystemExit(task.task_id)

    (outcome,) = LocalExecutor(num_workers=1).run(numbered(1), lambda: leave, on_event=ignore)

    assert outcome.failure is not None
    assert (outcome.failure.category, outcome.failure.error_type) == ("bug", "builtins.SystemExit")


def test_what_was_under_way_when_the_environment_broke_does_not_show_that_it_works() -> None:
    is_broken = threading.Event()
    outcomes: list[Outcome[ToyTask, str]] = []
    waits_s: list[float] = []

    def work(task: ToyTask) -> str:
        if task.task_id == "under way":
            assert is_broken.wait(WAIT_S)
            return task.task_id
        raise MemoryError("none left")

    def hear(event: Event) -> None:
        if isinstance(event, TaskRetried):
            is_broken.set()

    executor = LocalExecutor(num_workers=1, policy=FailurePolicy(max_waits=2), sleep=waits_s.append)
    tasks = [ToyTask(task_id="under way"), ToyTask(task_id="later")]
    with pytest.raises(JobStoppedError, match=r"none left .* still so after 2 waits"):
        outcomes.extend(executor.run(tasks, lambda: work, on_event=hear))

    assert [outcome.receipt for outcome in outcomes] == ["under way"]
    assert waits_s == [1.0, 2.0]


def test_no_workers_are_refused() -> None:
    with pytest.raises(ValueError, match="num_workers must be at least 1, got 0"):
        LocalExecutor(num_workers=0)
