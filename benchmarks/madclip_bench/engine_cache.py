"""Where engines keep what they build during a run: a folder of the run's own, empty when it begins.

So the first start shows what building costs on this box, the later ones what a box in use does, and nothing of another
run, or of the user's own cache, is in between.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["cache_options", "fresh_cache"]

_LIMIT_GB = 64.0
"""More than all engines of one bundle; a run cleans up after itself."""


def fresh_cache(folder: Path) -> Path:
    """A new, empty folder that nobody else may write into: engines are programs."""
    place = folder / "cache"
    place.mkdir(mode=0o700)
    return place


def cache_options(place: Path) -> dict[str, Any]:
    """What to give `Detector.load` so that it uses this cache; nothing, where the runtime that is here has none.

    Raises: OutputNotWritten where the folder can't be used.
    """
    try:
        cache = import_module("madclip_runtime.cache")
    except ModuleNotFoundError:
        return {}
    return {"cache": cache.open_cache(str(place), _LIMIT_GB, lambda line: None)}
