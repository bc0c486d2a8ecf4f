"""The actor's side: one worker, called by a few threads. Imports no Ray; the driver makes an actor of the class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

from framevault.pipeline.executors.base import ReceiptT, TaskT, Worker, WorkerFactory, close_worker
from framevault.pipeline.executors.driving import call_worker
from framevault.pipeline.executors.policy import FailureCategory, TaskError, describe_error


class WorkerActor(Generic[TaskT, ReceiptT]):
    """Holds a worker in a process of its own. All it returns are plain values."""

    def __init__(
        self,
        make_worker: WorkerFactory[TaskT, ReceiptT],
        *,
        categories: Mapping[type[BaseException], FailureCategory],
    ) -> None:
        """Keep the factory; the worker is made by `start`, whose errors can be told apart from a death."""
        self._make_worker = make_worker
        self._categories = categories
        self._worker: Worker[TaskT, ReceiptT] | None = None

    def start(self) -> TaskError | None:
        """Make the worker; returns what went wrong."""
        try:
            self._worker = self._make_worker()
        except Exception as error:  # noqa: BLE001  # told to the driver, which stops the job
            return describe_error(error, categories=self._categories)
        return None

    def work(self, task: TaskT) -> ReceiptT | TaskError:
        """Do one task."""
        assert self._worker is not None, "work before start"
        return call_worker(self._worker, task, categories=self._categories)

    def stop(self) -> None:
        """Let the worker go of what it holds."""
        close_worker(self._worker)
