"""Return freed memory to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Return freed memory to the system; the C library would keep it for later.

    The steps of a chart each need much memory and leave little behind. They allocate it in different sizes and threads,
    so the next step could not use what the C library has kept: nearly a gigabyte for a full scene.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)
