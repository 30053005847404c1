"""Small reads from /proc and /sys that answer None where there is nothing to read."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_number", "read_text"]


def read_text(path: Path) -> str:
    """A file's text without surrounding blanks and NULs; "" where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", "").strip()
    except OSError:
        return ""


def read_number(path: Path) -> float | None:
    """A file that holds one number; None where it can't be read or holds something else."""
    try:
        return float(read_text(path))
    except ValueError:
        return None
