"""A lock on an open file, held by one process at a time, and let go by the system when that one dies."""

from __future__ import annotations

import sys

__all__ = ["lock", "try_lock"]

if sys.platform == "win32":
    import msvcrt

    def try_lock(handle: int) -> bool:
        """Whether the lock is ours now."""
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def lock(handle: int) -> None:
        """Wait for it. Raises: OSError after ten tries a second apart, as that system does."""
        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def try_lock(handle: int) -> bool:
        """Whether the lock is ours now."""
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(handle: int) -> None:
        """Wait for it."""
        fcntl.flock(handle, fcntl.LOCK_EX)
