"""What a running job tells: plain events, from the driver to whoever shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framevault.pipeline.executors.policy import FailureCategory


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    """The job's plan is made."""

    job: str
    """The command: `compress`, `detect`."""
    stages: tuple[str, ...]
    """Names of a task's stages, in their order: `decode`, `encode`, `write`."""
    num_tasks: int | None
    """Tasks to do; None if they are planned on the way, source by source (`TasksPlanned`)."""
    num_frames: int | None
    """Frames to do; None likewise."""
    num_tasks_skipped: int = 0
    """Tasks that an earlier run has done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksPlanned:
    """One more source is planned; adds to what `JobStarted` told."""

    name: str
    """The source."""
    num_tasks: int
    """Tasks to do."""
    num_frames: int
    """Frames to do."""
    num_tasks_skipped: int = 0
    """Tasks that an earlier run has done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStarted:
    """A worker got a task for the first time."""

    task_id: str
    """The task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A task went on to a stage; told only where the worker is in this process."""

    task_id: str
    """The task."""
    stage: str
    """One of the job's stages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRetried:
    """A try failed, and another will follow."""

    task_id: str
    """The task."""
    attempt: int
    """Number of the coming try, from 2."""
    category: FailureCategory
    """Whose fault it is."""
    reason: str
    """What the error said."""
    wait_s: float
    """Seconds until the coming try, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What one stage did for one task."""

    stage: str
    """One of the job's stages."""
    busy_s: float
    """Seconds that it worked."""
    size_bytes: int | None = None
    """Bytes that came out of it; None where that says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDone:
    """A task went through."""

    task_id: str
    """The task."""
    num_frames: int
    """Frames done."""
    stages: tuple[StageReport, ...]
    """What each stage did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """A task was given up."""

    task_id: str
    """The task."""
    name: str
    """The video, and where in it: what a person needs to find it."""
    category: FailureCategory
    """Whose fault it is."""
    reason: str
    """What the error said."""
    attempts: int
    """Tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """How far a training is, and how it does."""

    stage: str
    """The stage under training."""
    step: int
    """Steps of it so far."""
    progress: float
    """Share of its budget that is used up, 0..1."""
    time_left_s: float | None
    """Seconds until the stage's end; None where it can't be told."""
    crops_per_s: float
    """Crops learnt from in a second, of all processes."""
    metrics: tuple[tuple[str, float], ...]
    """Figures by name, means since the last report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something worth a line."""

    text: str
    """One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone:
    """The job ended, with all tasks done or given up."""

    num_tasks_done: int
    """Tasks that went through."""
    num_tasks_failed: int
    """Tasks given up."""
    num_frames: int
    """Frames done."""
    elapsed_s: float
    """Seconds since the job started."""


Event = (
    JobStarted
    | TasksPlanned
    | TaskStarted
    | StageStarted
    | TaskRetried
    | TaskDone
    | TaskFailed
    | TrainingReport
    | Note
    | JobDone
)
"""All events."""
