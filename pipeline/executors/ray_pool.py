"""A fixed pool of actors as lanes for the driver's loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from framevault.pipeline.executors.base import TASKS_IN_FLIGHT, JobStoppedError, ReceiptT, TaskT, WorkerFactory
from framevault.pipeline.executors.driving import Attempt, Completion
from framevault.pipeline.executors.policy import FailurePolicy, TaskError, describe_error
from framevault.pipeline.executors.ray_actor import WorkerActor
from framevault.pipeline.executors.ray_cluster import import_ray

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    Ref = ObjectRef[Any]

POLL_S = 1.0
"""Longest wait in one go, so that an interrupt or a pool that can't start is noticed."""

START_TIMEOUT_S = 300.0
"""Seconds without any running worker after which the job stops: the cluster has no room, or nodes are lost."""

MAX_START_DEATHS = 3
"""Deaths in a row of actors that were making their worker, after which the job stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """How many actors, and what each has to itself."""

    num_actors: int
    """Actors of the pool."""
    num_gpus: float
    """GPUs that Ray reserves for each: 1, a share, or none."""
    num_cpus: float
    """CPUs that Ray reserves for each."""
    num_threads: int
    """Threads of each library in each."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Lane(Generic[TaskT]):
    """One place of the pool: an actor, and what it is doing."""

    actor: ActorHandle[Any]
    start_ref: Ref | None
    """Its worker is being made until this is ready; None once it is."""
    attempts: dict[Ref, Attempt[TaskT]] = field(default_factory=dict)

    def has_room(self, *, is_alone: bool) -> bool:
        """Whether one more try fits in beside those that are there."""
        if self.start_ref is not None or any(attempt.is_alone for attempt in self.attempts.values()):
            return False
        return len(self.attempts) < (1 if is_alone else TASKS_IN_FLIGHT)


class _ActorLostError(RuntimeError):
    """An actor died, or can't be reached any more."""

    def as_task_error(self) -> TaskError:
        """Return it as what a task's try came to."""
        return TaskError(
            category="killed", reason=str(self), error_type="ray.actor_died", location="", details=str(self.__cause__)
        )


class ActorLanes(Generic[TaskT, ReceiptT]):
    """The pool of actors as lanes."""

    def __init__(
        self, make_worker: WorkerFactory[TaskT, ReceiptT], *, pool: PoolSettings, policy: FailurePolicy
    ) -> None:
        self._ray = import_ray()
        # Serialised once, however many actors there will be.
        self._factory_ref = self._ray.put(make_worker)
        self._categories = dict(policy.categories)
        self._pool = pool
        self._num_start_deaths = 0
        self._last_life_s = time.monotonic()
        self._lanes: list[_Lane[TaskT]] = []
        try:
            self._lanes.extend(self._open_lane() for _ in range(pool.num_actors))
        except BaseException:
            self.close(is_finished=False)
            raise

    @property
    def num_in_flight(self) -> int:
        """Tries that actors have."""
        return sum(len(lane.attempts) for lane in self._lanes)

    def has_room(self, *, is_alone: bool) -> bool:
        """Whether some running actor can take one more try."""
        return any(lane.has_room(is_alone=is_alone) for lane in self._lanes)

    def submit(self, attempt: Attempt[TaskT]) -> None:
        """Give the try to the running actor that has least to do."""
        lanes = [lane for lane in self._lanes if lane.has_room(is_alone=attempt.is_alone)]
        lane = min(lanes, key=lambda lane: len(lane.attempts))
        lane.attempts[lane.actor.work.remote(attempt.task)] = attempt

    def wait(self) -> list[Completion[TaskT, ReceiptT]]:
        """Wait a bounded time for a try to end, or for a worker to be made."""
        owners = {ref: lane for lane in self._lanes for ref in lane.attempts}
        starting = {lane.start_ref: lane for lane in self._lanes if lane.start_ref is not None}
        if not owners and not starting:
            return []
        ready = self._wait_for_any([*owners, *starting])
        for ref in ready:
            if ref in starting:
                self._finish_start(starting[ref], ref)
        completions = [completion for ref in ready if ref in owners for completion in self._collect(owners[ref], ref)]
        self._check_life()
        return completions

    def close(self, *, is_finished: bool) -> None:
        """End the actors; those that finished may first let go of what they hold."""
        if is_finished:
            stops = [lane.actor.stop.remote() for lane in self._lanes if lane.start_ref is None]
            if stops:
                self._ray.wait(stops, num_returns=len(stops), timeout=10 * POLL_S)
        for lane in self._lanes:
            self._ray.kill(lane.actor, no_restart=True)
        self._lanes.clear()

    def _open_lane(self) -> _Lane[TaskT]:
        pool = self._pool
        options: dict[str, Any] = {
            "num_cpus": pool.num_cpus,
            "num_gpus": pool.num_gpus,
            "max_concurrency": TASKS_IN_FLIGHT,
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": _thread_variables(pool.num_threads)},
        }
        actor = self._ray.remote(**options)(WorkerActor).remote(self._factory_ref, categories=self._categories)
        return _Lane(actor=actor, start_ref=actor.start.remote())

    def _wait_for_any(self, refs: list[Ref]) -> list[Ref]:
        """Return all that are ready, waiting for the first."""
        if not self._ray.wait(refs, num_returns=1, timeout=POLL_S)[0]:
            return []
        ready: list[Ref] = self._ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        return ready

    def _finish_start(self, lane: _Lane[TaskT], ref: Ref) -> None:
        try:
            error = self._fetch(ref)
        except _ActorLostError as lost:
            self._num_start_deaths += 1
            if self._num_start_deaths >= MAX_START_DEATHS:
                raise JobStoppedError(f"no worker could be made: {lost}") from lost
            self._replace(lane)
            return
        if isinstance(error, TaskError):
            raise JobStoppedError(f"no worker could be made: {error.error_type}: {error.reason}")
        lane.start_ref = None
        self._num_start_deaths = 0

    def _collect(self, lane: _Lane[TaskT], ref: Ref) -> list[Completion[TaskT, ReceiptT]]:
        """Take a try's result; if its actor is dead, all that it had fails."""
        if ref not in lane.attempts or lane not in self._lanes:
            return []  # went down with its actor a moment ago
        try:
            result = self._fetch(ref)
        except _ActorLostError as lost:
            self._replace(lane)
            error = lost.as_task_error()
            return [Completion(attempt=attempt, receipt=None, error=error) for attempt in lane.attempts.values()]
        attempt = lane.attempts.pop(ref)
        if isinstance(result, TaskError):
            return [Completion(attempt=attempt, receipt=None, error=result)]
        return [Completion(attempt=attempt, receipt=result, error=None)]

    def _fetch(self, ref: Ref) -> ReceiptT | TaskError:
        """Return what a call returned.

        Raises:
            _ActorLostError: Ray can't say, since the actor or its node is gone.
        """
        try:
            result: ReceiptT | TaskError = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            # The worker's own errors come as values: this is a receipt or a task that does not pickle.
            return describe_error(error, categories={})
        except self._ray.exceptions.RayError as error:
            raise _ActorLostError(f"the worker's process died: {_last_line(error)}") from error
        return result

    def _replace(self, lane: _Lane[TaskT]) -> None:
        """Put a new actor in the place of a dead one."""
        self._ray.kill(lane.actor, no_restart=True)
        self._lanes[self._lanes.index(lane)] = self._open_lane()

    def _check_life(self) -> None:
        if any(lane.start_ref is None for lane in self._lanes):
            self._last_life_s = time.monotonic()
        elif time.monotonic() - self._last_life_s > START_TIMEOUT_S:
            raise JobStoppedError(
                f"no worker has started for {START_TIMEOUT_S:.0f} s: each needs {self._pool.num_cpus:g} CPUs and "
                f"{self._pool.num_gpus:g} GPUs, free are {self._ray.available_resources()}"
            )


def _thread_variables(num_threads: int) -> dict[str, str]:
    """Two spinning pools on two cores run ten times slower: every library is told its number."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(num_threads))


def _last_line(error: Exception) -> str:
    """What Ray tells about a death is a page; its last line says how."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
