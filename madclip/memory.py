"""Keep what the C library frees: a training step allocates the same few megabytes over and over.

glibc gives large blocks back to the system and the next step pays for every page anew (measured in docs/measured.md).
Another C library, or another system: nothing happens.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """For the rest of the process, blocks up to 1 GiB stay with it when freed. Returns whether that took effect."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGE))
