"""Where a command's files go, found out before the work, and its lines on stdout."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from madclip_runtime.errors import OutputNotWritten

__all__ = ["check_writable", "print_lines", "print_summary"]


def check_writable(option: str, name: str) -> Path:
    """What would otherwise be found out after an hour. Raises: OutputNotWritten."""
    path = Path(name)
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputNotWritten(name, "its folder is missing or can't be written to", f"choose another {option}")
    if path.is_dir():
        raise OutputNotWritten(name, "a folder of that name is there", f"choose another {option}")
    return path


def print_lines(lines: Iterable[str]) -> None:
    """For people; a terminal without "≤" must not cost the JSON line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    for line in lines:
        sys.stdout.write(f"{line}\n")


def print_summary(document: dict[str, Any]) -> None:
    """The last line: one JSON document of plain ASCII, which any pipe can carry."""
    sys.stdout.write(f"{json.dumps(document, allow_nan=False)}\n")
    sys.stdout.flush()
