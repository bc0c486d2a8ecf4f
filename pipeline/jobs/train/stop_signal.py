"""Ctrl-C and SIGTERM as a wish to stop between two steps, so that a saved state is never half a step's."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What a terminal sends at Ctrl-C, and what a cluster sends before it kills."""


@contextmanager
def watch_for_stop() -> Iterator[Callable[[], bool]]:
    """Take the signals while the block runs.

    Yields:
        Whether one has come. In a thread other than the main one none can be taken, and it is always false.
    """
    told = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        told.set()

    if threading.current_thread() is not threading.main_thread():
        yield told.is_set
        return
    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield told.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
