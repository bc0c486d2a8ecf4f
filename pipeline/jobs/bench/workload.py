"""What the stages are measured on: some segments of a video, copied until every thread of the job has equally many."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from framevault.configs.run import ExecutionSettings
from framevault.pipeline.executors.base import Executor, JobStoppedError, ReceiptT, TaskT, Worker
from framevault.pipeline.exits import PreflightError
from framevault.pipeline.jobs.bench.sampling import keep_frames
from framevault.pipeline.placement import place_worker
from framevault.workers.tasks import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Who works in a job, with its default placement."""

    executor: Executor
    """Entered."""
    device: str
    """Where the networks run."""
    num_slots: int
    """Calls of the networks at once."""

    @property
    def num_lanes(self) -> int:
        """Segments in flight, each with a decoding child: one more than are computed at a time."""
        return self.executor.num_workers + 1

    @property
    def even_share(self) -> int:
        """Segments come in multiples of this, so that no thread is idle while another does the last one."""
        return math.lcm(self.num_lanes, self.num_slots)


def meet_crew(job: ExecutionSettings, executor: Executor) -> Crew:
    """Ask an entered executor who works."""
    placement = place_worker(job, executor)
    return Crew(executor=executor, device=placement.device, num_slots=placement.num_slots)


def take_frames(segments: Iterable[Segment], num_frames: int) -> list[Segment]:
    """Return the first segments with so many frames together, or all; the last one is cut to fit.

    Raises:
        PreflightError: There is no frame.
    """
    taken: list[Segment] = []
    for segment in segments:
        left = num_frames - sum(one.num_frames for one in taken)
        if left <= 0:
            break
        taken.append(keep_frames(segment, list(range(min(left, segment.num_frames)))))
    if not taken:
        raise PreflightError("there are no frames to measure on")
    return taken


def copy_evenly(segments: list[Segment], crew: Crew) -> list[Segment]:
    """Return as few copies of the segments as every thread can have an equal number of, under ids of their own."""
    num_copies = crew.even_share // math.gcd(crew.even_share, len(segments))
    return [rename(segment, f"copy {copy}") for copy in range(num_copies) for segment in segments]


def rename(segment: Segment, purpose: str) -> Segment:
    """Return the same segment under another id, so that a vault does not hold it already."""
    return replace(segment, segment_id=derive_id(segment.segment_id, purpose))


def derive_id(segment_id: str, purpose: str) -> str:
    """Return a segment id that depends on another one and a purpose."""
    return hashlib.sha256(f"{segment_id} {purpose}".encode()).hexdigest()[:32]


def batch_size(job: ExecutionSettings, most_pixels: dict[str, int], *, pixels: int, device: str) -> int:
    """Return how many frames of so many pixels the job's worker gives to the networks at once."""
    kind = torch.device(device).type
    return max(1, min(job.batch_size, most_pixels.get(kind, most_pixels["cpu"]) // pixels))


def run_tasks(crew: Crew, worker: Worker[TaskT, ReceiptT], tasks: Sequence[TaskT]) -> list[ReceiptT]:
    """Run tasks as a job does, with a worker that stays warm; return the receipts in the tasks' order.

    Raises:
        JobStoppedError: A task failed.
    """

    def call(task: TaskT) -> ReceiptT:
        return worker(task)

    receipts: dict[str, ReceiptT] = {}
    # The executor closes the worker that it made; a plain function has nothing to close, and its children live on.
    for outcome in crew.executor.run(tasks, lambda: call, on_event=lambda _: None):
        if outcome.receipt is None:
            raise JobStoppedError(f"{outcome.task.task_id}: {outcome.failure.reason if outcome.failure else ''}")
        receipts[outcome.task.task_id] = outcome.receipt
    return [receipts[task.task_id] for task in tasks]
