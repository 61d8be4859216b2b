"""Memory that was freed, kept for the next map."""

from __future__ import annotations

import ctypes

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_LARGEST_KEPT = 2**30  # bytes of one block
_KEPT = 2**31 - 1  # bytes in all, at the heap's end; the largest number that mallopt takes


def keep_freed_memory() -> bool:
    """Let glibc keep what torch frees on the CPU; return whether it will.

    By default each block above 32 MB comes fresh from the kernel, and goes back when it is freed: the maps of a
    1024-pixel window, some hundred times per window, every page of them filled with zeros first. (torch's tuning guide
    gives other allocators for that; https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html.) Blocks above
    1 GB still go back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # no glibc
        return False
    # Before 2.35 glibc took no threshold above 32 MB.
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) or mallopt(_M_MMAP_MAX, 0)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, _KEPT))
