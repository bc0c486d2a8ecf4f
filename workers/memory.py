"""The C library's memory settings for processes that run networks."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""Option numbers of glibc's mallopt, from its malloc.h."""

_LARGEST_FEATURE_MAP_BYTES = 1 << 30
"""Larger blocks are still mapped by themselves; a batch's largest feature map is below it."""

_NEVER = -1
"""As a trim threshold: the top of the heap never goes back to the system."""


def keep_freed_memory() -> bool:
    """Keep large freed blocks in this process instead of giving them back to the system.

    Each layer of a network allocates and frees feature maps of tens of megabytes. With glibc's defaults every one is
    mapped anew and cleared page by page by the kernel, which took longer than the convolutions: at 1280x720, batch 8,
    one thread, the head's time went from 614 to 188 ms a frame. One arena, because only the main one can grow so far.

    Returns:
        Whether the C library took the settings; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = (
        (_M_ARENA_MAX, 1),
        (_M_MMAP_THRESHOLD, _LARGEST_FEATURE_MAP_BYTES),
        (_M_TRIM_THRESHOLD, _NEVER),
    )
    return all(mallopt(option, value) == 1 for option, value in settings)
