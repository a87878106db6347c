"""How a process holds memory between the passes of a network."""

import ctypes
import platform
import sys
from functools import cache

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # numbers of the options of `mallopt` in glibc's malloc.h
MIB = 2**20


@cache
def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees for its next request, where the C library is glibc.

    By default glibc gives tensors of some MiB back to the system at once, and each pass takes new pages, which the
    system must clear: up to a third of a training step (docs/decisions/0005-speed-on-processors.md). Above 32 MiB, the
    most that glibc allows, tensors for which there is no room are given back as before.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        set_option = ctypes.CDLL(None).mallopt
        for option, size in ((MMAP_THRESHOLD, 32 * MIB), (TRIM_THRESHOLD, 2048 * MIB - 1), (TOP_PAD, 64 * MIB)):
            set_option(option, size)
