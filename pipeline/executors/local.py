"""Tasks in threads of this process, with one worker object for all: the embedded default."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self

from framevault.pipeline.executors.base import EventSink, Outcome, ReceiptT, TaskT, Worker, WorkerFactory, close_worker
from framevault.pipeline.executors.driving import Attempt, Completion, call_worker, drive
from framevault.pipeline.executors.policy import FailurePolicy, TaskError

JOIN_S = 10.0
"""Idle threads end at once; this only keeps a broken one from blocking the end of the job."""


class LocalExecutor:
    """Runs tasks in this process."""

    def __init__(
        self, *, num_workers: int = 1, policy: FailurePolicy | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Make an executor.

        Args:
            num_workers: Tasks that the worker can compute at a time; one more is in flight, reading or writing.
            policy: What to do about failures; None for the defaults.
            sleep: Waits; tests pass one that does not.

        Raises:
            ValueError: There is to be no worker.
        """
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got {num_workers}")
        self._num_workers = num_workers
        self._policy = policy or FailurePolicy()
        self._sleep = sleep

    def __enter__(self) -> Self:
        """Nothing to make ready."""
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to give back."""

    @property
    def num_workers(self) -> int:
        """Tasks that the worker can compute at a time."""
        return self._num_workers

    def run(
        self,
        tasks: Iterable[TaskT],
        make_worker: WorkerFactory[TaskT, ReceiptT],
        *,
        on_event: EventSink,
    ) -> Iterator[Outcome[TaskT, ReceiptT]]:
        """Run all tasks; see `Executor.run`. The worker is made in the caller's thread, once there is a task."""

        def open_lanes() -> _ThreadLanes[TaskT, ReceiptT]:
            return _ThreadLanes(make_worker(), num_threads=self._num_workers + 1, policy=self._policy)

        yield from drive(tasks, open_lanes, policy=self._policy, on_event=on_event, sleep=self._sleep)


class _ThreadLanes(Generic[TaskT, ReceiptT]):
    """Threads that share one worker.

    They are daemons: after an interrupt, the process need not wait for what they are doing.
    """

    def __init__(self, worker: Worker[TaskT, ReceiptT], *, num_threads: int, policy: FailurePolicy) -> None:
        self._worker = worker
        self._categories = policy.categories
        self._submitted: queue.SimpleQueue[Attempt[TaskT] | None] = queue.SimpleQueue()
        self._completed: queue.SimpleQueue[Completion[TaskT, ReceiptT]] = queue.SimpleQueue()
        self._num_in_flight = 0
        self._threads = [
            threading.Thread(target=self._serve, name=f"framevault-task-{number}", daemon=True)
            for number in range(num_threads)
        ]

    @property
    def num_in_flight(self) -> int:
        return self._num_in_flight

    def has_room(self, *, is_alone: bool) -> bool:
        """Whether a thread is free. In one process there is no dying alone, so `is_alone` changes nothing."""
        del is_alone
        return self._num_in_flight < len(self._threads)

    def submit(self, attempt: Attempt[TaskT]) -> None:
        if not self._threads[self._num_in_flight].is_alive():
            self._threads[self._num_in_flight].start()
        self._num_in_flight += 1
        self._submitted.put(attempt)

    def wait(self) -> list[Completion[TaskT, ReceiptT]]:
        if self._num_in_flight == 0:
            return []
        self._num_in_flight -= 1
        return [self._completed.get()]

    def close(self, *, is_finished: bool) -> None:
        started = [thread for thread in self._threads if thread.is_alive()]
        for _ in started:
            self._submitted.put(None)
        if is_finished:
            for thread in started:
                thread.join(JOIN_S)
        close_worker(self._worker)

    def _serve(self) -> None:
        while (attempt := self._submitted.get()) is not None:
            result = call_worker(self._worker, attempt.task, categories=self._categories)
            if isinstance(result, TaskError):
                self._completed.put(Completion(attempt=attempt, receipt=None, error=result))
            else:
                self._completed.put(Completion(attempt=attempt, receipt=result, error=None))
