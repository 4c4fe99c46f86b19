"""The heap of a process that trains or detects on the CPU."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""numbers of the parameters in ``mallopt(3)``"""
LARGEST = 2**31 - 1
LARGEST_OF_OLD = 2**25
"""that glibc before 2.35 accepts as MMAP_THRESHOLD"""


def keep_freed_memory() -> None:
    """Have the C library keep the memory that a step or a picture frees for the next, which needs as much.

    By default it gives memory of many MB back at once, and the next one waits for the kernel to make it anew, page by
    page: a notable part of a step, and more of a picture. The peak is the same. Only glibc can be asked; elsewhere
    nothing changes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    # Either alone ends the thresholds' growing with what is freed, so that nothing is set unless both can be.
    if mallopt is not None and (mallopt(MMAP_THRESHOLD, LARGEST) or mallopt(MMAP_THRESHOLD, LARGEST_OF_OLD)):
        mallopt(TRIM_THRESHOLD, LARGEST)
