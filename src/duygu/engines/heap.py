"""The C library's heap, told what training is like: the same large arrays, freed and asked for again at every step."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3) and what they are set to; malloc.h has their numbers.
_SETTINGS = (
    (-8, 1),  # M_ARENA_MAX: one heap for all threads
    (-4, 0),  # M_MMAP_MAX: large arrays come from the heap too, not as new pages from the system
    (-1, -1),  # M_TRIM_THRESHOLD: nothing goes back to the system
)


def keep_freed_memory() -> None:
    """Keep what is freed for the next step: asking the system for it again, page by page, took up to a third of one.

    Only glibc knows these settings; elsewhere nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for setting, value in _SETTINGS:
            mallopt(setting, value)
