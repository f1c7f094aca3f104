"""Freed memory, returned to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Give freed memory back to the system, where the C library would keep it for later.

    The steps of a chart each need much and leave little; what one has let go of would stand beside what the next one
    takes, as they take it in other sizes and threads: nearly a gigabyte for a full scene.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
        if trim is not None:
            trim(0)
