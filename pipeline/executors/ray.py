"""Tasks in a fixed pool of Ray actors, one worker each, on a cluster or on this machine.

    driver --submit--> actor (worker, GPU pinned by Ray)      at most two tasks each
           <--wait---- receipt or error, as plain values
           replaces an actor that dies; whoever was in flight there is tried again, alone

An actor never restarts by itself and a call is never repeated by Ray: retries are the policy's, and it counts them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from framevault.pipeline.executors.base import EventSink, ExecutorError, Outcome, ReceiptT, TaskT, WorkerFactory
from framevault.pipeline.executors.driving import drive
from framevault.pipeline.executors.policy import FailurePolicy
from framevault.pipeline.executors.ray_cluster import connect, import_ray
from framevault.pipeline.executors.ray_pool import ActorLanes, PoolSettings


class RayExecutor:
    """Runs tasks in actors. Enter it to connect; leaving ends a cluster or connection that entering has begun."""

    def __init__(
        self,
        *,
        address: str | None = None,
        num_workers: int | None = None,
        threads_per_worker: int = 1,
        gpus_per_worker: float = 1.0,
        policy: FailurePolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make an executor; nothing is started yet.

        Args:
            address: The cluster's address; None takes the one that this process is connected to, or starts one here.
            num_workers: Actors; None makes as many as the cluster's GPUs or CPUs allow.
            threads_per_worker: Threads of torch and OpenMP in each, and CPUs that Ray reserves for it.
            gpus_per_worker: Share of one GPU for each, on a cluster that has any; 0 for workers without one.
            policy: What to do about failures; None for the defaults.
            sleep: Waits; tests pass one that does not.
        """
        self._address = address
        self._wanted_workers = num_workers
        self._threads_per_worker = threads_per_worker
        self._gpus_per_worker = gpus_per_worker
        self._policy = policy or FailurePolicy()
        self._sleep = sleep
        self._pool: PoolSettings | None = None
        self._is_owner = False

    def __enter__(self) -> Self:
        """Connect to the cluster, or start one on this machine.

        Raises:
            ExecutorError: Ray is not installed, or the cluster can't be reached.
        """
        ray = import_ray()
        if not ray.is_initialized():
            connect(self._address)
            self._is_owner = True
        self._pool = self._settle_pool(ray.cluster_resources())
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect; a cluster that was started here ends."""
        if self._is_owner:
            import_ray().shutdown()
            self._is_owner = False
        self._pool = None

    @property
    def num_workers(self) -> int:
        """Actors of the pool."""
        return self._entered_pool.num_actors

    @property
    def uses_gpus(self) -> bool:
        """Whether each worker has a GPU, or a share of one, to itself; it sees it as the first and only one."""
        return self._entered_pool.num_gpus > 0

    def run(
        self,
        tasks: Iterable[TaskT],
        make_worker: WorkerFactory[TaskT, ReceiptT],
        *,
        on_event: EventSink,
    ) -> Iterator[Outcome[TaskT, ReceiptT]]:
        """Run all tasks; see `Executor.run`. A worker that can't be made stops the job."""
        pool = self._entered_pool

        def open_lanes() -> ActorLanes[TaskT, ReceiptT]:
            return ActorLanes(make_worker, pool=pool, policy=self._policy)

        yield from drive(tasks, open_lanes, policy=self._policy, on_event=on_event, sleep=self._sleep)

    @property
    def _entered_pool(self) -> PoolSettings:
        if self._pool is None:
            raise ExecutorError("the Ray executor must be entered before it is used: `with RayExecutor() as executor:`")
        return self._pool

    def _settle_pool(self, resources: dict[str, float]) -> PoolSettings:
        gpus = resources.get("GPU", 0.0)
        if self._gpus_per_worker > 0 and gpus > 0:
            fitting = _fit(gpus, self._gpus_per_worker)
            num_gpus, num_cpus = self._gpus_per_worker, 0.0
        else:
            fitting = _fit(resources.get("CPU", 0.0), self._threads_per_worker)
            num_gpus, num_cpus = 0.0, float(self._threads_per_worker)
        return PoolSettings(
            num_actors=self._wanted_workers or fitting,
            num_gpus=num_gpus,
            num_cpus=num_cpus,
            num_threads=self._threads_per_worker,
        )


def _fit(available: float, each: float) -> int:
    return max(1, int(available / each + 1e-9))
