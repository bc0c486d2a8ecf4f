"""What executors share: the task, what comes of it, and the protocols of worker and executor.

A worker is called by several threads at once, so that decoding one task, encoding the next and writing a third overlap;
it guards its device by itself. Tasks, receipts and worker factories cross processes: specs, keys and bytes only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar, runtime_checkable

from framevault.pipeline.events import Event

if TYPE_CHECKING:
    from framevault.pipeline.executors.policy import FailureCategory

TASKS_IN_FLIGHT = 2
"""Tasks that a worker has at a time: one computes, the other reads or writes. More only holds more memory."""


class Task(Protocol):
    """A unit of work: a frozen dataclass that pickles."""

    @property
    def task_id(self) -> str:
        """Unique in its job."""

    @property
    def video_id(self) -> str:
        """The video that it is a part of; the same bug on several videos stops the job."""


TaskT = TypeVar("TaskT", bound=Task)
"""The job's kind of task."""

ReceiptT = TypeVar("ReceiptT")
"""What the job's worker returns."""

Worker = Callable[[TaskT], ReceiptT]
"""Does a task and returns its receipt; several threads call it at once."""

WorkerFactory = Callable[[], Worker[TaskT, ReceiptT]]
"""Makes a worker where it is to run; pickles."""


EventSink = Callable[[Event], None]
"""Hears what the driver tells; called in the driver's thread."""


@runtime_checkable
class SupportsClose(Protocol):
    """A worker that holds processes or files beyond its tasks."""

    def close(self) -> None:
        """Let go of everything at once, tasks under way included; called by another thread than theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailure:
    """Why a task was given up."""

    category: FailureCategory
    """Whose fault it is."""
    reason: str
    """What the last try's error said."""
    attempts: int
    """Tries, the last included."""
    error_type: str
    """Module and name of the last try's error class."""
    location: str
    """Module and line that raised it; empty if the worker died without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[TaskT, ReceiptT]):
    """What came of one task; exactly one of receipt and failure is there."""

    task: TaskT
    """The task."""
    receipt: ReceiptT | None
    """What the worker returned."""
    failure: TaskFailure | None
    """Why it was given up."""
    attempts: int
    """Tries, the last included."""


class JobStoppedError(RuntimeError):
    """The job can't go on: the environment stays broken, the same bug shows everywhere, or no worker starts."""


class ExecutorError(RuntimeError):
    """An executor can't be had: Ray is missing, or its cluster can't be reached."""


class Executor(Protocol):
    """Runs tasks. A context manager: entering makes it ready, leaving gives back what it started."""

    def __enter__(self) -> Self:
        """Make ready.

        Raises:
            ExecutorError: What runs the tasks can't be had.
        """

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give back what entering started."""

    @property
    def num_workers(self) -> int:
        """Workers at a time, once entered."""

    def run(
        self,
        tasks: Iterable[TaskT],
        make_worker: WorkerFactory[TaskT, ReceiptT],
        *,
        on_event: EventSink,
    ) -> Iterator[Outcome[TaskT, ReceiptT]]:
        """Give every task to a worker and yield what came of it, in the order in which they end.

        Tasks are taken from the iterable only when there is room for them. Closing the iterator drops what is in
        flight. `on_event` gets `TaskStarted` and `TaskRetried`, in the caller's thread.

        Raises:
            JobStoppedError: The job can't go on; outcomes yielded before stand.
        """


def close_worker(worker: object) -> None:
    """Close a worker, if it can be."""
    if isinstance(worker, SupportsClose):
        worker.close()


def count_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))
