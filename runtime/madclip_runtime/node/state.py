"""The node's own folder: the ledger, the images at work, and a lock, so that two nodes never share them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from madclip_runtime.errors import OutputNotWritten, UsageError
from madclip_runtime.locks import try_lock

__all__ = ["DiskLow", "check_disk", "held", "ledger_path", "open_folder", "work_path"]


class DiskLow(OutputNotWritten):
    """There is less room than the node may work with; nothing is taken until there is more."""


def open_folder(path: Path) -> Path:
    """Make it, for this user alone. Raises: OutputNotWritten, UsageError where others can read it."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            why = "others on this machine may look into it, and images will lie in it"
            raise UsageError(f"state {path}", why, f"chmod 700 {path}")
    except OSError as error:
        raise OutputNotWritten(f"state {path}", error.strerror or str(error), "check the folder's owner") from None
    return path


def ledger_path(folder: Path) -> Path:
    """Of the queue."""
    return folder / "ledger.sqlite"


def work_path(folder: Path) -> Path:
    """Of the series at work."""
    return folder / "work"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """While this process is the only node there. Raises: UsageError, OutputNotWritten."""
    try:
        with (folder / "lock").open("ab") as file:
            if not try_lock(file.fileno()):
                raise UsageError(f"state {folder}", "another madclip-node works there", "stop it, or give each its own")
            yield
    except OSError as error:
        raise OutputNotWritten(f"state {folder}", error.strerror or str(error), "check the folder's owner") from None


def check_disk(folder: Path, free_gb: float) -> None:
    """Raises: DiskLow."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < free_gb:
        raise DiskLow(
            f"state {folder}", f"{free:.1f} GB are free, {free_gb:g} are wanted", "make room, or lower free-gb"
        )
