"""`--precision auto`: export every precision, gate each, time those that pass on this machine, keep the fastest.

A precision that is not at least 1.02 times as fast as a better one is not worth its error: the better one stays.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip_export.bundle_writer import staging
from madclip_export.export import Exported, Sources, stage_bundle
from madclip_export.gates import Measured, ParityMissed
from madclip_export.request import Request
from madclip_runtime.bundle import Bundle
from madclip_runtime.engines import Engine, load_engine
from madclip_runtime.errors import MadclipError
from madclip_runtime.manifest import Manifest

__all__ = ["WORTH", "Timed", "choose", "export_fastest", "take_turns"]

WORTH = 1.02
_BEST_FIRST = ("fp32", "fp16", "int8")
_ROUNDS, _LEAST_SECONDS = 15, 2.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Timed:
    """One precision that passed. median_ms: of one image, taken in turns with the others."""

    precision: str
    median_ms: float


def export_fastest(sources: Sources, out: Path, request: Request, say: Say) -> Exported:
    """Raises: ParityMissed where none passes; the rest as export_bundle."""
    with staging(out) as folder:
        passed: dict[str, tuple[Manifest, Measured]] = {}
        for precision in _BEST_FIRST:
            part = folder / precision
            part.mkdir()
            try:
                passed[precision] = stage_bundle(sources, part, replace(request, precision=precision, degraded=""), say)
            except MadclipError as error:
                say(f"{precision} does not pass: {error.why.partition(chr(10))[0]}")
        if not passed:
            raise ParityMissed("export refused", "no precision passes its gates; no bundle was left")
        chosen = choose(_time(folder, list(passed)), say)
        _keep_only(folder, chosen)
    manifest, measured = passed[chosen]
    return Exported(out, manifest, measured, sum(entry.bytes for entry in manifest.files.values()))


def choose(timed: Sequence[Timed], say: Say) -> str:
    """timed: best precision first. The fastest, unless a better one is nearly as fast."""
    best = timed[0]
    for each in timed[1:]:
        ratio = best.median_ms / each.median_ms
        verdict = (
            f"{each.precision}: {each.median_ms:.1f} ms against {best.precision} {best.median_ms:.1f} ms, x{ratio:.2f}"
        )
        if ratio >= WORTH:
            best = each
        else:
            verdict += f": less than x{WORTH}, so {best.precision} stays"
        say(verdict)
    say(f"chosen: {best.precision}")
    return best.precision


def take_turns(engines: dict[str, Engine], images: npt.NDArray[np.uint8], rounds: int) -> dict[str, float]:
    """Median ms an image of each, forwards and backwards in turns, so that a slow minute falls on all."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for name in engines:
        engines[name].run(images[:1])
    until = time.perf_counter() + _LEAST_SECONDS
    number = 0
    while number < rounds or time.perf_counter() < until:
        order = list(engines) if number % 2 == 0 else list(reversed(engines))
        image = images[number % len(images)][None]
        for name in order:
            start = time.perf_counter()
            engines[name].run(image)
            times[name].append((time.perf_counter() - start) * 1e3)
        number += 1
    return {name: statistics.median(values) for name, values in times.items()}


def _time(folder: Path, precisions: list[str]) -> list[Timed]:
    bundles = {precision: Bundle.load(folder / precision) for precision in precisions}
    engines = {precision: load_engine(bundle, "cpu") for precision, bundle in bundles.items()}
    images = bundles[precisions[0]].golden().images
    medians = take_turns(engines, images, _ROUNDS)
    return [Timed(precision, medians[precision]) for precision in precisions]


def _keep_only(folder: Path, precision: str) -> None:
    """The chosen bundle's files move up; the others go."""
    for path in (folder / precision).iterdir():
        path.rename(folder / path.name)
    for other in _BEST_FIRST:
        shutil.rmtree(folder / other, ignore_errors=True)
