"""Frames a second of a piece of work, measured warm and more than once."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

ItemT = TypeVar("ItemT")

REPEATS = 3
"""Measurements of each piece of work; the tables have their median and their best."""

END_TO_END = "end to end"
"""The name of all stages together."""

WARM_UP = -1
"""The number of the repeat that is not timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one stage, or a whole job, goes."""

    stage: str
    """Its name; a part of a stage is called `stage: part`."""
    num_workers: int
    """Threads that do it at once, each with its own decoding child where it decodes."""
    median_fps: float
    """Frames a second, median of the repeats."""
    best_fps: float
    """Frames a second, best of the repeats."""
    cpu_ms: float
    """Milliseconds of CPU a frame in this process, its decoding children left out; median. Hardly depends on what else
    runs on the machine."""

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a stage that is there as a whole too."""
        return ":" in self.stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopwatch:
    """Measures work that does the same number of frames each time."""

    num_frames: int
    """Frames of a repeat."""
    repeats: int = REPEATS
    """Times that everything is measured."""

    def time(self, stage: str, run: Callable[[int], object], *, num_workers: int) -> Speed:
        """Time `run(repeat)`; what it needs must be warm."""
        rates, costs = [], []
        for repeat in range(self.repeats):
            start, cpu_start = time.perf_counter(), time.process_time()
            run(repeat)
            rates.append(self.num_frames / (time.perf_counter() - start))
            costs.append(1000 * (time.process_time() - cpu_start) / self.num_frames)
        return Speed(
            stage=stage,
            num_workers=num_workers,
            median_fps=statistics.median(rates),
            best_fps=max(rates),
            cpu_ms=statistics.median(costs),
        )

    def time_threads(
        self, stage: str, work: Callable[[ItemT, int], object], items: Sequence[ItemT], *, num_workers: int
    ) -> Speed:
        """Time `work(item, repeat)` over all items, a few threads at once; each thread warms up with the first item."""
        with ThreadPoolExecutor(num_workers) as pool:
            list(pool.map(work, [items[0]] * num_workers, [WARM_UP] * num_workers))
            return self.time(
                stage, lambda repeat: list(pool.map(work, items, [repeat] * len(items))), num_workers=num_workers
            )


def wait_for_device(device: str) -> None:
    """Return when the device has done all that it was given; a CPU has already."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
