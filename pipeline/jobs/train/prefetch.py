"""Batches, drawn ahead by threads; each is a function of the seed, the process and the step alone."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from framevault.pipeline.jobs.train.stages import Batch

AHEAD = 3
"""Batches that wait for each thread that makes them."""

Draw = Callable[[np.random.Generator], Batch]
"""Makes a batch from random numbers."""


class BatchQueue:
    """Gives the batches of steps `first_step`, `first_step` + 1 and so on; used in a `with`."""

    def __init__(self, draw: Draw, *, seed: tuple[int, ...], first_step: int, num_threads: int) -> None:
        """Start drawing.

        Args:
            draw: Makes a batch; called by several threads.
            seed: What, with the step's number, decides a batch.
            first_step: Where to begin.
            num_threads: Threads.
        """
        self._draw = draw
        self._seed = seed
        self._next_step = first_step
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="batches")
        self._waiting: deque[Future[Batch]] = deque()
        for _ in range(AHEAD * num_threads):
            self._submit()

    def take(self) -> Batch:
        """Return the next step's batch; raises what drawing it raised."""
        batch = self._waiting.popleft().result()
        self._submit()
        return batch

    def __enter__(self) -> Self:
        """Gives itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Ends the threads; batches nobody took are thrown away."""
        self._pool.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        generator = np.random.default_rng((*self._seed, self._next_step))
        self._waiting.append(self._pool.submit(self._draw, generator))
        self._next_step += 1
