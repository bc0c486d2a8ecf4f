"""What to do about a failed try: the rules, without any doing. Executors obey.

input         the task's own fault                retry never
killed        the worker, or its child, died      retry until `max_attempts`
environment   disk, store or memory gave out      wait, longer each time, and retry; after `max_waits` the job stops,
                                                  or gives up just this task if others went through after the first
                                                  wait: what was under way before it tells nothing
bug           everything else                     retry never; the same one on `same_bug_videos` videos stops the job
"""

from __future__ import annotations

import errno
import traceback
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from framevault.pipeline.executors.base import Task, TaskFailure

FailureCategory = Literal["input", "environment", "bug", "killed"]
"""Whose fault a failure is."""

ENVIRONMENT_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE}
)
"""Errors of the system that no task brings about: full, broken or read-only disks, too few descriptors, no memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskError:
    """One failed try, as plain values: no exception crosses a process."""

    category: FailureCategory
    """Whose fault it is."""
    reason: str
    """What the error said."""
    error_type: str
    """Module and name of its class."""
    location: str
    """Module and line of the innermost frame; empty if the worker died without a word."""
    details: str
    """The traceback as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """How often to retry, how long to wait, and when to stop."""

    categories: Mapping[type[BaseException], FailureCategory] = field(default_factory=dict)
    """Whose fault an error of a class, or of its nearest listed base class, is."""
    max_attempts: int = 3
    """Tries of a task whose worker is killed."""
    same_bug_videos: int = 3
    """Distinct videos with the same bug that stop the job."""
    first_wait_s: float = 1.0
    """Seconds before the first retry after a failure of the environment; each further wait is twice as long."""
    longest_wait_s: float = 30.0
    """No wait is longer."""
    max_waits: int = 8
    """Waits for one task; with the values above, two minutes in all."""

    def wait_s(self, num_waits: int) -> float:
        """Return the seconds to wait for the `num_waits`-th time, counted from 1."""
        return float(min(self.first_wait_s * 2.0 ** (num_waits - 1), self.longest_wait_s))


def classify(
    error: BaseException, categories: Mapping[type[BaseException], FailureCategory] = MappingProxyType({})
) -> FailureCategory:
    """Return whose fault an error is, by its nearest listed class; else by what Python itself tells of it."""
    for error_class in type(error).__mro__:
        if error_class in categories:
            return categories[error_class]
    if isinstance(error, MemoryError | ConnectionError | TimeoutError):
        return "environment"
    if isinstance(error, OSError) and error.errno in ENVIRONMENT_ERRNOS:
        return "environment"
    return "bug"


def describe_error(error: BaseException, *, categories: Mapping[type[BaseException], FailureCategory]) -> TaskError:
    """Turn an exception into plain values, category included."""
    frames = traceback.extract_tb(error.__traceback__)
    return TaskError(
        category=classify(error, categories),
        reason=str(error) or type(error).__name__,
        error_type=f"{type(error).__module__}.{type(error).__qualname__}",
        location=_innermost_location(error) if frames else "",
        details="".join(traceback.format_exception(error)),
    )


def _innermost_location(error: BaseException) -> str:
    """Module and line that raised: the same on every machine, wherever the package is installed."""
    position = error.__traceback__
    while position is not None and position.tb_next is not None:
        position = position.tb_next
    assert position is not None
    return f"{position.tb_frame.f_globals.get('__name__', '?')}:{position.tb_lineno}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try the task again."""

    wait_s: float
    """Seconds to wait before; 0 to go on at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Report the task as failed; and stop the job, if a reason to is given."""

    failure: TaskFailure
    """What to report."""
    stop_reason: str | None
    """Why the job must stop; None if it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop the job; the task stays undone, for the next run."""

    reason: str
    """Why."""


Verdict = Retry | GiveUp | Stop
"""What to do about a failed try."""


class FailureLedger:
    """Remembers one job's failures and judges each new one. For one thread."""

    def __init__(self, policy: FailurePolicy) -> None:
        """Open an empty ledger."""
        self._policy = policy
        self._num_successes = 0
        self._waits: dict[str, int] = {}
        self._successes_by_first_retry: dict[str, int] = {}
        self._bug_videos: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def note_success(self, task: Task) -> None:
        """Remember that a task went through."""
        self._num_successes += 1
        self._waits.pop(task.task_id, None)

    def note_wait(self) -> None:
        """Remember that a wait has passed, with no try under way: what succeeds from now on was begun after it."""
        for task_id in self._waits:
            self._successes_by_first_retry.setdefault(task_id, self._num_successes)

    def judge(self, task: Task, error: TaskError, *, attempts: int) -> Verdict:
        """Say what to do about a failed try; `attempts` counts the task's tries, this one included."""
        match error.category:
            case "killed" if attempts < self._policy.max_attempts:
                return Retry(wait_s=0.0)
            case "environment":
                return self._judge_environment(task, error, attempts=attempts)
            case "bug":
                return self._judge_bug(task, error, attempts=attempts)
        return _give_up(error, attempts=attempts)

    def _judge_environment(self, task: Task, error: TaskError, *, attempts: int) -> Verdict:
        num_waits = self._waits.get(task.task_id, 0) + 1
        self._waits[task.task_id] = num_waits
        if num_waits <= self._policy.max_waits:
            return Retry(wait_s=self._policy.wait_s(num_waits))
        if self._num_successes > self._successes_by_first_retry.get(task.task_id, self._num_successes):
            return _give_up(error, attempts=attempts)
        return Stop(reason=f"{error.reason} ({error.error_type}; still so after {self._policy.max_waits} waits)")

    def _judge_bug(self, task: Task, error: TaskError, *, attempts: int) -> GiveUp:
        videos = self._bug_videos[(error.error_type, error.location)]
        videos.add(task.video_id)
        if len(videos) < self._policy.same_bug_videos:
            return _give_up(error, attempts=attempts)
        where = f" at {error.location}" if error.location else ""
        return _give_up(
            error,
            attempts=attempts,
            stop_reason=f"the same bug on {len(videos)} videos: {error.error_type}{where}: {error.reason}",
        )


def _give_up(error: TaskError, *, attempts: int, stop_reason: str | None = None) -> GiveUp:
    failure = TaskFailure(
        category=error.category,
        reason=error.reason,
        attempts=attempts,
        error_type=error.error_type,
        location=error.location,
    )
    return GiveUp(failure=failure, stop_reason=stop_reason)
