"""How long a stage trains: by steps or by the clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Steps or seconds; one of both."""

    steps: int | None
    """Steps; None if it is counted in seconds."""
    seconds: float | None
    """Seconds; None if it is counted in steps."""

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return how much is used up, 0..1."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, elapsed_s / self.seconds)

    def time_left_s(self, step: int, elapsed_s: float) -> float | None:
        """Return the seconds until it is used up, at the speed so far; None if there is none yet."""
        if self.steps is None:
            assert self.seconds is not None
            return max(0.0, self.seconds - elapsed_s)
        return (self.steps - step) * elapsed_s / step if step else None

    def share(self, part: float) -> "Budget":
        """Return a part of it, 0..1; at least a step."""
        return Budget(
            steps=None if self.steps is None else max(1, round(part * self.steps)),
            seconds=None if self.seconds is None else part * self.seconds,
        )


class Stopwatch:
    """Seconds of training, over all runs."""

    def __init__(self, elapsed_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Go on from what earlier runs took."""
        self._clock = clock
        self._started_s = clock() - elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds so far."""
        return self._clock() - self._started_s

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave out what happens in the block."""
        elapsed_s = self.elapsed_s
        yield
        self._started_s = self._clock() - elapsed_s


class Timer:
    """Says when something is due that happens every so many seconds."""

    def __init__(self, every_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start counting."""
        self._every_s = every_s
        self._clock = clock
        self._next_s = clock() + every_s

    def is_due(self) -> bool:
        """Whether the time has come; if so, the next time is counted from now."""
        if self._clock() < self._next_s:
            return False
        self._next_s = self._clock() + self._every_s
        return True
