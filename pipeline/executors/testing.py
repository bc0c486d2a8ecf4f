"""What every executor must do, as tests to subclass, and the toy tasks and worker that they use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from framevault.pipeline.events import Event, TaskRetried, TaskStarted
from framevault.pipeline.executors.base import Executor, JobStoppedError, Outcome
from framevault.pipeline.executors.policy import FailurePolicy

ToyMode = Literal["fine", "input", "bug", "killed_once", "killed", "full_twice", "full"]
"""What happens to a toy task."""


class ToyInputError(ValueError):
    """The task's own fault."""


class ToyKilledError(RuntimeError):
    """As if the worker's child had died."""


class ToyFullError(OSError):
    """As if the disk were full."""


TOY_POLICY = FailurePolicy(
    categories={ToyInputError: "input", ToyKilledError: "killed", ToyFullError: "environment"}, max_waits=3
)
"""The policy of the tests below: three tries, three waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyTask:
    """A task that knows what is to happen to it."""

    task_id: str
    """Its name."""
    video_id: str = "video"
    """The video that it claims to be of."""
    mode: ToyMode = "fine"
    """What happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyReceipt:
    """What the toy worker returns."""

    task_id: str
    """The task's name."""
    attempt: int
    """Which of its tries this was."""


class ToyWorker:
    """Counts the tries of each task in files, since a retry may run in another process."""

    def __init__(self, folder: Path) -> None:
        """Keep the folder of the counts."""
        self._folder = folder

    def __call__(self, task: ToyTask) -> ToyReceipt:
        """Do what the task says."""
        attempt = self._count(task)
        match task.mode:
            case "input":
                raise ToyInputError(f"{task.task_id} is damaged")
            case "bug":
                raise KeyError(task.task_id)
            case "killed":
                raise ToyKilledError("killed as ever")
            case "killed_once" if attempt == 1:
                raise ToyKilledError("killed at first")
            case "full":
                raise ToyFullError("disk is full")
            case "full_twice" if attempt <= 2:
                raise ToyFullError("disk is full")
        return ToyReceipt(task_id=task.task_id, attempt=attempt)

    def _count(self, task: ToyTask) -> int:
        path = self._folder / task.task_id
        with path.open("a") as file:
            file.write("x")
        return path.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyFactory:
    """Makes toy workers."""

    folder: Path
    """Where they count."""

    def __call__(self) -> ToyWorker:
        """Make one."""
        return ToyWorker(self.folder)


class LazyTasks:
    """An endless source of tasks that counts how many were taken."""

    def __init__(self) -> None:
        """Start with none taken."""
        self.num_taken = 0

    def __iter__(self) -> Iterator[ToyTask]:
        """Make task after task."""
        while True:
            self.num_taken += 1
            yield ToyTask(task_id=f"task-{self.num_taken}")


ToyOutcome = Outcome[ToyTask, ToyReceipt]
"""What the executor yields here."""


class ExecutorTests:
    """Subclass it, and give `make_executor`: a fixture that returns an entered executor of the given policy.

    Its waits must be told to `waits_s` instead of being waited for.
    """

    max_in_flight: int
    """How many tasks the executor under test may have taken beyond those that came back."""

    @pytest.fixture
    def waits_s(self) -> list[float]:
        """The waits that the executor would have made."""
        return []

    @pytest.fixture
    def make_executor(self, waits_s: list[float]) -> Callable[[FailurePolicy], Executor]:
        """Override this."""
        raise NotImplementedError

    def test_every_task_comes_back_once_with_its_receipt(
        self, make_executor: Callable[[FailurePolicy], Executor], tmp_path: Path
    ) -> None:
        """Also: each start is told once, in this thread."""
        tasks = [ToyTask(task_id=f"task-{number}") for number in range(9)]
        events: list[tuple[Event, int]] = []

        outcomes = list(
            make_executor(TOY_POLICY).run(
                tasks, ToyFactory(folder=tmp_path), on_event=lambda event: events.append((event, threading.get_ident()))
            )
        )

        assert {outcome.task for outcome in outcomes} == set(tasks)
        assert len(outcomes) == len(tasks)
        for outcome in outcomes:
            assert outcome.receipt == ToyReceipt(task_id=outcome.task.task_id, attempt=1)
            assert outcome.failure is None
        assert sorted(event.task_id for event, _ in events if isinstance(event, TaskStarted)) == sorted(
            task.task_id for task in tasks
        )
        assert {thread for _, thread in events} == {threading.get_ident()}

    def test_no_tasks_give_no_outcomes_and_make_no_worker(
        self, make_executor: Callable[[FailurePolicy], Executor]
    ) -> None:
        """A job that finds all done loads no networks."""
        no_tasks: list[ToyTask] = []

        assert list(make_executor(TOY_POLICY).run(no_tasks, make_nothing, on_event=ignore)) == []

    def test_each_kind_of_failure_gets_what_it_deserves_and_the_rest_goes_on(
        self, make_executor: Callable[[FailurePolicy], Executor], waits_s: list[float], tmp_path: Path
    ) -> None:
        """Input and bug: never again. Killed: three tries. Environment: wait, and try again."""
        modes: tuple[ToyMode, ...] = ("fine", "input", "bug", "killed_once", "killed", "full_twice")
        tasks = [ToyTask(task_id=mode, mode=mode) for mode in modes]
        tasks += [ToyTask(task_id=f"later-{number}") for number in range(3)]
        events: list[Event] = []

        outcomes = run_all(make_executor(TOY_POLICY), tasks, tmp_path, events)

        assert {name for name, outcome in outcomes.items() if outcome.failure is None} == {
            "fine",
            "killed_once",
            "full_twice",
            "later-0",
            "later-1",
            "later-2",
        }
        assert {name: outcome.attempts for name, outcome in outcomes.items() if outcome.attempts > 1} == {
            "killed_once": 2,
            "killed": 3,
            "full_twice": 3,
        }
        self.check_failures(outcomes)
        assert waits_s == [1.0, 2.0]
        retried = [(event.task_id, event.attempt) for event in events if isinstance(event, TaskRetried)]
        assert sorted(retried) == [
            ("full_twice", 2),
            ("full_twice", 3),
            ("killed", 2),
            ("killed", 3),
            ("killed_once", 2),
        ]

    def check_failures(self, outcomes: dict[str, ToyOutcome]) -> None:
        """Look at what the failures of the test above say."""
        told = {}
        for name in ("input", "bug", "killed"):
            failure = outcomes[name].failure
            assert failure is not None
            told[name] = (failure.category, failure.reason, failure.attempts, failure.error_type)
            assert failure.location.startswith("framevault.pipeline.executors.testing:")
            assert outcomes[name].receipt is None
        here = "framevault.pipeline.executors.testing"
        assert told == {
            "input": ("input", "input is damaged", 1, f"{here}.ToyInputError"),
            "bug": ("bug", "'bug'", 1, "builtins.KeyError"),
            "killed": ("killed", "killed as ever", 3, f"{here}.ToyKilledError"),
        }

    def test_a_disk_that_stays_full_stops_the_job_and_names_the_reason(
        self, make_executor: Callable[[FailurePolicy], Executor], waits_s: list[float], tmp_path: Path
    ) -> None:
        """The tasks stay undone: no outcome calls them failed."""
        tasks = [ToyTask(task_id=f"full-{number}", mode="full") for number in range(20)]
        outcomes: list[ToyOutcome] = []

        with pytest.raises(JobStoppedError, match="disk is full"):
            outcomes.extend(make_executor(TOY_POLICY).run(tasks, ToyFactory(folder=tmp_path), on_event=ignore))

        assert outcomes == []
        assert waits_s == [1.0, 2.0, 4.0]
        assert len(list(tmp_path.iterdir())) <= self.max_in_flight

    def test_the_same_bug_on_three_videos_stops_the_job(
        self, make_executor: Callable[[FailurePolicy], Executor], tmp_path: Path
    ) -> None:
        """Five times on one video is one; the failures up to then are told."""
        tasks = [ToyTask(task_id=f"a-{number}", video_id="a", mode="bug") for number in range(5)]
        tasks += [ToyTask(task_id=f"{video}-0", video_id=video, mode="bug") for video in ("b", "c")]
        tasks += [ToyTask(task_id=f"later-{number}") for number in range(50)]
        outcomes: list[ToyOutcome] = []

        with pytest.raises(JobStoppedError, match=r"same bug on 3 videos: builtins.KeyError at framevault\."):
            outcomes.extend(make_executor(TOY_POLICY).run(tasks, ToyFactory(folder=tmp_path), on_event=ignore))

        bugs = {outcome.task.task_id for outcome in outcomes if outcome.failure is not None}
        assert {"b-0", "c-0"} < bugs
        assert len(outcomes) < len(tasks)

    def test_tasks_are_taken_only_when_there_is_room(
        self, make_executor: Callable[[FailurePolicy], Executor], tmp_path: Path
    ) -> None:
        """From an endless source; closing the iterator ends the run."""
        tasks = LazyTasks()
        outcomes = make_executor(TOY_POLICY).run(tasks, ToyFactory(folder=tmp_path), on_event=ignore)

        taken_beyond = []
        for number in range(1, 31):
            next(outcomes)
            taken_beyond.append(tasks.num_taken - number)
        outcomes.close()  # type: ignore[attr-defined]  # every executor's run is a generator

        assert max(taken_beyond) < self.max_in_flight
        assert tasks.num_taken <= 30 + self.max_in_flight


def make_nothing() -> ToyWorker:
    """Fail if ever called."""
    raise AssertionError("a worker was made for no task")


def ignore(event: Event) -> None:
    """Hear nothing."""
    del event


def run_all(executor: Executor, tasks: list[ToyTask], folder: Path, events: list[Event]) -> dict[str, ToyOutcome]:
    """Run toy tasks and return what came of each, by name."""
    outcomes = executor.run(tasks, ToyFactory(folder=folder), on_event=events.append)
    return {outcome.task.task_id: outcome for outcome in outcomes}
