"""Cold starts: a fresh process a time, from launch to its first result.

Three kinds. "first": with an empty cache folder, so an engine that builds something builds it now. "again": with the
cache that the first one filled, and the bundle's files in the disk cache. "from disk": the same after the kernel was
asked to forget the bundle's files (posix_fadvise; a request, not a proof).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from madclip_runtime.errors import BundleRefused, EngineRefused, InputRefused, MadclipError, UsageError
from madclip_runtime.schema import SchemaError, decode

__all__ = ["AGAIN", "FIRST", "FROM_DISK", "Start", "StartFigures", "StartKind", "take_starts"]

FIRST, AGAIN, FROM_DISK = "first", "again", "from disk"
_REFUSALS: dict[str, type[MadclipError]] = {
    kind.__name__: kind for kind in (BundleRefused, EngineRefused, InputRefused, UsageError)
}
_LONGEST_S = 1800
"""An engine build on a small board takes minutes; half an hour is a hang."""


@dataclass(frozen=True)
class Start:
    """One start. Each ms from the end of the step before: interpreter up, runtime imported, bundle loaded (hashed,
    engine ready), first image answered. total_ms: launch to answer. peak_memory_bytes: of that process, None where it
    can't be read.
    """

    kind: str
    interpreter_ms: float
    import_ms: float
    load_ms: float
    first_result_ms: float
    total_ms: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class StartKind:
    """All starts of one kind: medians; slowest_ms is the largest total."""

    kind: str
    starts: int
    total_ms: float
    slowest_ms: float
    load_ms: float
    first_result_ms: float


@dataclass(frozen=True)
class StartFigures:
    """engine_build_ms: how much longer loading took with an empty cache than with a filled one; small or negative where
    the engine builds nothing. peak_memory_bytes: the largest of all starts: a process that loads the bundle and answers
    one image.
    """

    kinds: tuple[StartKind, ...]
    engine_build_ms: float | None
    peak_memory_bytes: int | None

    @classmethod
    def of(cls, starts: tuple[Start, ...]) -> StartFigures:
        """From all starts of a run; there is at least one."""
        names = dict.fromkeys(start.kind for start in starts)
        kinds = {name: _kind(name, [start for start in starts if start.kind == name]) for name in names}
        build = None
        if FIRST in kinds and AGAIN in kinds:
            build = round(kinds[FIRST].load_ms - kinds[AGAIN].load_ms, 4)
        peaks = [start.peak_memory_bytes for start in starts if start.peak_memory_bytes is not None]
        return cls(tuple(kinds.values()), build, max(peaks, default=None))


def take_starts(
    bundle: Path, engine: str, head: str | None, image: bytes, cache: Path, *, again: int, from_disk: int
) -> tuple[Start, ...]:
    """One first, then the others; none from disk where the system can't be asked to forget files.

    cache: an empty folder for what engines build.

    Raises: what the fresh process was refused with (BundleRefused, EngineRefused, UsageError, InputRefused);
    EngineRefused with its last words where it fails otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="madclip-bench-") as folder:
        file = Path(folder) / "image"
        file.write_bytes(image)
        launch = [str(bundle), engine, head or "", str(file), str(cache)]
        starts = [_launch(FIRST, launch, cache)]
        starts += [_launch(AGAIN, launch, cache) for _ in range(again)]
        for _ in range(from_disk if hasattr(os, "posix_fadvise") else 0):
            _forget(bundle)
            starts.append(_launch(FROM_DISK, launch, cache))
    return tuple(starts)


def _launch(kind: str, arguments: list[str], cache: Path) -> Start:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-m", "madclip_bench.cold_start", *arguments]
    launched = time.perf_counter_ns()
    try:
        done = subprocess.run(
            [*command, str(launched)], capture_output=True, text=True, timeout=_LONGEST_S, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineRefused("a cold start", str(error)[:300], "run madclip-run by hand on this bundle") from None
    return _parse(kind, done)


def _parse(kind: str, done: subprocess.CompletedProcess[str]) -> Start:
    lines = done.stdout.splitlines()
    with contextlib.suppress(SchemaError, ValueError, TypeError):
        said = json.loads(lines[-1]) if done.returncode == 0 and lines else {}
        if "refused" in said:
            raise _REFUSALS.get(said["refused"], EngineRefused)(said["what"], said["why"], said["do"])
        return decode(Start, {"kind": kind, **said})
    words = done.stderr.strip().splitlines() or [f"exit code {done.returncode} and no word why"]
    raise EngineRefused("a cold start", words[-1][:300], "run madclip-run by hand on this bundle")


def _forget(bundle: Path) -> None:
    for path in bundle.rglob("*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _kind(name: str, starts: list[Start]) -> StartKind:
    def median(field: str) -> float:
        return round(float(np.median([getattr(start, field) for start in starts])), 4)

    slowest = max(start.total_ms for start in starts)
    return StartKind(name, len(starts), median("total_ms"), slowest, median("load_ms"), median("first_result_ms"))
