"""Where a job's workers run, and who runs them."""

from dataclasses import dataclass

import torch

from framevault.codecs.errors import BitstreamError, CodecError
from framevault.configs.run import ExecutionSettings
from framevault.pipeline.executors.base import Executor, count_cpus
from framevault.pipeline.executors.local import LocalExecutor
from framevault.pipeline.executors.policy import FailureCategory, FailurePolicy
from framevault.pipeline.executors.ray import RayExecutor
from framevault.pipeline.exits import PreflightError
from framevault.storage.errors import DamagedError, PackError, StoreUnavailableError
from framevault.storage.store import Store
from framevault.workers.errors import (
    DecodeError,
    DecoderFailedError,
    DecoderKilledError,
    SourceUnavailableError,
    UnreadableSourceError,
)

FAILURE_CATEGORIES: dict[type[BaseException], FailureCategory] = {
    UnreadableSourceError: "input",
    DecodeError: "input",
    BitstreamError: "input",
    DamagedError: "input",
    PackError: "input",
    CodecError: "bug",
    DecoderKilledError: "killed",
    DecoderFailedError: "bug",
    SourceUnavailableError: "environment",
    StoreUnavailableError: "environment",
}
"""Whose fault each of the workers' errors is; what is damaged where it is stored counts as the input's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What a worker is told about the place where it runs."""

    device: str
    """A torch device."""
    num_slots: int
    """Calls of the networks that run at once in one worker: all of a local job's, one of an actor's."""


def open_executor(job: ExecutionSettings, store: Store) -> Executor:
    """Make the job's executor; it is entered by the caller.

    Raises:
        PreflightError: The settings don't fit the vault or this machine.
    """
    policy = FailurePolicy(
        categories=FAILURE_CATEGORIES, max_attempts=job.max_attempts, same_bug_videos=job.same_bug_videos
    )
    if job.executor == "ray":
        if not store.is_shared:
            raise PreflightError(
                f"executor ray needs a vault that other processes can reach, got {store.url}: "
                "use --executor local, or a folder or bucket"
            )
        return RayExecutor(
            address=job.ray_address,
            num_workers=job.workers,
            threads_per_worker=job.threads_per_worker,
            gpus_per_worker=0.0 if job.device == "cpu" else job.gpus_per_worker,
            policy=policy,
        )
    on_gpu = _local_device(job).startswith("cuda")
    return LocalExecutor(num_workers=_count_local_workers(job, on_gpu=on_gpu), policy=policy)


def place_worker(job: ExecutionSettings, executor: Executor) -> Placement:
    """Say where a worker of an entered executor runs.

    Raises:
        PreflightError: The device is not there.
    """
    if isinstance(executor, RayExecutor):
        if job.device.startswith("cuda") and not executor.uses_gpus:
            raise PreflightError(f"device {job.device}: the Ray cluster has no GPU; use --device cpu")
        return Placement(device="cuda" if executor.uses_gpus else "cpu", num_slots=1)
    device = _local_device(job)
    return Placement(device=device, num_slots=1 if device.startswith("cuda") else executor.num_workers)


def _local_device(job: ExecutionSettings) -> str:
    if job.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if job.device.startswith("cuda") and not torch.cuda.is_available():
        raise PreflightError(f"device {job.device}: torch finds no GPU on this machine; use --device cpu")
    return job.device


def _count_local_workers(job: ExecutionSettings, *, on_gpu: bool) -> int:
    if job.workers is not None:
        return job.workers
    return 1 if on_gpu else max(1, count_cpus() // job.threads_per_worker)
