"""The loop that both executors run: take tasks, hand them to lanes, judge what comes back.

::

    tasks --take--> ready --submit--> lanes (threads or actors) --wait--> judge --> outcome
                      ^                                                     |
                      `------------- retry, at once or after a wait --------'
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol

from framevault.pipeline.events import TaskRetried, TaskStarted
from framevault.pipeline.executors.base import EventSink, JobStoppedError, Outcome, ReceiptT, TaskT, Worker
from framevault.pipeline.executors.policy import (
    FailureCategory,
    FailureLedger,
    FailurePolicy,
    GiveUp,
    Retry,
    Stop,
    TaskError,
    describe_error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Generic[TaskT]):
    """One try of a task."""

    task: TaskT
    """The task."""
    number: int
    """Counted from 1."""
    is_alone: bool = False
    """Whether its worker must have no other task meanwhile: who dies alone has no one else to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion(Generic[TaskT, ReceiptT]):
    """A try that ended: with a receipt, or with an error."""

    attempt: Attempt[TaskT]
    """The try."""
    receipt: ReceiptT | None
    """What the worker returned."""
    error: TaskError | None
    """Why it failed; None if it did not."""


class Lanes(Protocol[TaskT, ReceiptT]):
    """Where tries run."""

    @property
    def num_in_flight(self) -> int:
        """Tries that were submitted and have not come back."""

    def has_room(self, *, is_alone: bool) -> bool:
        """Whether one more try can be submitted now."""

    def submit(self, attempt: Attempt[TaskT]) -> None:
        """Start a try; there must be room."""

    def wait(self) -> list[Completion[TaskT, ReceiptT]]:
        """Return the tries that ended, waiting for one for a bounded time; possibly none."""

    def close(self, *, is_finished: bool) -> None:
        """Let go of everything; wait for nothing unless all tasks are finished."""


def call_worker(
    worker: Worker[TaskT, ReceiptT], task: TaskT, *, categories: Mapping[type[BaseException], FailureCategory]
) -> ReceiptT | TaskError:
    """Call a worker; whatever it raises becomes values."""
    try:
        return worker(task)
    # The one place that turns a failed task into a row. Not Exception alone: a thread that ends without a word, with
    # SystemExit for instance, would keep the driver waiting.
    except BaseException as error:  # noqa: BLE001
        return describe_error(error, categories=categories)


def drive(
    tasks: Iterable[TaskT],
    open_lanes: Callable[[], Lanes[TaskT, ReceiptT]],
    *,
    policy: FailurePolicy,
    on_event: EventSink,
    sleep: Callable[[float], None],
) -> Iterator[Outcome[TaskT, ReceiptT]]:
    """Run all tasks through the lanes, yield what comes of them, and close the lanes whatever happens.

    The lanes, and so the workers with their networks, are made only if there is a task.

    Raises:
        JobStoppedError: The policy says so.
    """
    pending = iter(tasks)
    first = list(itertools.islice(pending, 1))
    if not first:
        return
    lanes = open_lanes()
    driver = _Driver(itertools.chain(first, pending), lanes, ledger=FailureLedger(policy), on_event=on_event)
    is_finished = False
    try:
        while not driver.is_finished:
            driver.resume_parked(sleep)
            driver.fill()
            for completion in lanes.wait():
                yield from driver.settle(completion)
        is_finished = True
    finally:
        lanes.close(is_finished=is_finished)


class _Driver(Generic[TaskT, ReceiptT]):
    """The state of one run."""

    def __init__(
        self,
        tasks: Iterator[TaskT],
        lanes: Lanes[TaskT, ReceiptT],
        *,
        ledger: FailureLedger,
        on_event: EventSink,
    ) -> None:
        self._tasks = tasks
        self._lanes = lanes
        self._ledger = ledger
        self._on_event = on_event
        self._ready: deque[Attempt[TaskT]] = deque()
        self._parked: list[Attempt[TaskT]] = []
        self._parked_wait_s = 0.0
        self._has_more = True

    @property
    def is_finished(self) -> bool:
        return not (self._has_more or self._ready or self._parked or self._lanes.num_in_flight)

    def resume_parked(self, sleep: Callable[[float], None]) -> None:
        """Once everything else has come back, wait as long as the most patient parked try, and ready them all."""
        if self._parked and not self._ready and not self._lanes.num_in_flight:
            sleep(self._parked_wait_s)
            self._ledger.note_wait()
            self._ready.extend(self._parked)
            self._parked.clear()
            self._parked_wait_s = 0.0

    def fill(self) -> None:
        """Submit retries, then new tasks, as long as there is room; no new ones while any waits for the environment."""
        while self._ready and self._lanes.has_room(is_alone=self._ready[0].is_alone):
            self._submit(self._ready.popleft())
        while self._has_more and not self._ready and not self._parked and self._lanes.has_room(is_alone=False):
            for task in self._tasks:
                self._submit(Attempt(task=task, number=1))
                break
            else:
                self._has_more = False

    def settle(self, completion: Completion[TaskT, ReceiptT]) -> Iterator[Outcome[TaskT, ReceiptT]]:
        """Turn a completion into an outcome, or into another try."""
        attempt = completion.attempt
        if completion.error is None:
            self._ledger.note_success(attempt.task)
            yield Outcome(task=attempt.task, receipt=completion.receipt, failure=None, attempts=attempt.number)
            return
        match self._ledger.judge(attempt.task, completion.error, attempts=attempt.number):
            case Stop(reason=reason):
                raise JobStoppedError(reason)
            case GiveUp(failure=failure, stop_reason=stop_reason):
                yield Outcome(task=attempt.task, receipt=None, failure=failure, attempts=attempt.number)
                if stop_reason is not None:
                    raise JobStoppedError(stop_reason)
            case Retry(wait_s=wait_s):
                self._retry(attempt, completion.error, wait_s=wait_s)

    def _submit(self, attempt: Attempt[TaskT]) -> None:
        self._lanes.submit(attempt)
        if attempt.number == 1:
            self._on_event(TaskStarted(task_id=attempt.task.task_id))

    def _retry(self, attempt: Attempt[TaskT], error: TaskError, *, wait_s: float) -> None:
        was_killed = error.category == "killed"
        again = Attempt(task=attempt.task, number=attempt.number + 1, is_alone=attempt.is_alone or was_killed)
        if wait_s > 0:
            self._parked.append(again)
            self._parked_wait_s = max(self._parked_wait_s, wait_s)
        else:
            self._ready.append(again)
        self._on_event(
            TaskRetried(
                task_id=again.task.task_id,
                attempt=again.number,
                category=error.category,
                reason=error.reason,
                wait_s=wait_s,
            )
        )
