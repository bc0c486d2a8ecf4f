"""What one decoding child may use, and how the child binds itself to it before it touches an input."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """Upper bounds for one decoding child."""

    max_pixels: int = 8192 * 8192
    """Pixels of one frame; checked before a frame is decoded."""
    max_streams: int = 64
    """Streams of one container."""
    max_frames: int = 20_000_000
    """Frames of one source; at 25 a second this is more than nine days."""
    wall_s: float = 120.0
    """Seconds that the parent waits for the next sign of life."""
    start_s: float = 60.0
    """Seconds that the child may take to start: its imports come from a busy disk on a cold machine."""
    cpu_s_start: float = 60.0
    """CPU seconds granted to each request."""
    cpu_s_per_frame: float = 2.0
    """CPU seconds granted to each packet of a segment besides; an 8K frame takes a quarter of it."""
    cpu_s_per_megabyte: float = 0.2
    """CPU seconds granted to each megabyte of a source that is probed; hashing and demuxing take a hundredth."""
    memory_bytes: int = 4 << 30
    """Address space of the child, the frame ring not counted."""


def bind_process(limits: DecodeLimits, *, ring_bytes: int) -> None:
    """Limits this process for good: memory, no writing to files, no core dumps. Call it after the imports.

    Raises:
        OSError: The system does not let a process limit itself.
    """
    _lower_limit(resource.RLIMIT_CORE, 0)
    _lower_limit(resource.RLIMIT_FSIZE, 0)
    _lower_limit(resource.RLIMIT_AS, limits.memory_bytes + ring_bytes)


def grant_cpu(seconds: float) -> None:
    """Lets this process use `seconds` more of CPU time from now on; then the system ends it with SIGXCPU."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _lower_limit(what: int, wanted: int) -> None:
    _, hard = resource.getrlimit(what)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(what, (limit, limit))
