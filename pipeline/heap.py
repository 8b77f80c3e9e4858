"""What the C library does with memory that torch frees."""

from __future__ import annotations

import ctypes

# numbers of glibc's malloc.h
TRIM_THRESHOLD, MMAP_MAX = -1, -4
MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc hand freed memory out again, instead of giving large pieces back to the kernel.

    A training step frees and takes tensors of many megabytes. As glibc comes, each is made of fresh pages, which the
    kernel has to find and to clear: at 128 px that is a third of the time (LOG.md). Other C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS and musl have none, Windows no such library
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, MOST)
