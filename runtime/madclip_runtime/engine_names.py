"""The engines' names, where a command's help can have them without importing an array library."""

from __future__ import annotations

__all__ = ["AUTO", "ENGINES"]

AUTO = "auto"
ENGINES = ("cpu", "cuda", "tensorrt", "rtx", "tensorrt-native", "rtx-native")
"""What `load_engine` takes, one file each; `auto` chooses among the first two and says why."""
