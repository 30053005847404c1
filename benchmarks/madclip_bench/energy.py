"""Energy per image from the counters and rails that the sampler read. What can't be read is "not measured", by name.

Sources are never added up: a GPU board's counter, a processor's and a module's input rail cover different, and on some
machines overlapping, parts of a box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from madclip_bench.monitor import Monitor
from madclip_bench.quiet import Window, grown

__all__ = ["LEAST_SAMPLES", "EnergyFigures", "EnergySource", "PerScenario"]

LEAST_SAMPLES = 5
"""Fewest samples within a stretch from which its energy is taken."""
_COUNTER, _RAIL = "energy_j_total:", "power_w:"
MEASURED, NOT_MEASURED = "measured", "not measured"


@dataclass(frozen=True)
class PerScenario:
    """One stretch of work. joules_per_image includes what the source draws at rest."""

    joules_per_image: float
    mean_w: float


@dataclass(frozen=True)
class EnergySource:
    """name: as the sampler has it, e.g. "gpu0", "package-0", "VDD_IN". covers: what of the box it speaks for.

    idle_w: before the first scenario, None where that was too short. scenarios: by name, where there were enough
    samples.
    """

    name: str
    covers: str
    idle_w: float | None
    scenarios: dict[str, PerScenario]


@dataclass(frozen=True)
class EnergyFigures:
    """status: "measured" or "not measured"; why: a sentence for the latter."""

    status: str
    why: str
    sources: tuple[EnergySource, ...]

    @classmethod
    def of(cls, monitor: Monitor, idle: Window, work: dict[str, tuple[Window, int]]) -> EnergyFigures:
        """idle: the quiet time before. work: scenario → its stretch and how many images it answered."""
        sources = [_source(monitor, name, idle, work) for name in _names(monitor)]
        usable = tuple(source for source in sources if source.scenarios)
        if usable:
            return cls(MEASURED, "", usable)
        return cls(NOT_MEASURED, _why_not(monitor, found=bool(sources)), ())


def _names(monitor: Monitor) -> list[str]:
    return [name for name in monitor.columns if name.startswith((_COUNTER, _RAIL))]


def _source(monitor: Monitor, name: str, idle: Window, work: dict[str, tuple[Window, int]]) -> EnergySource:
    found = {}
    for scenario, (window, images) in work.items():
        joules = _joules(monitor, name, window)
        if joules is not None and images > 0:
            found[scenario] = PerScenario(round(joules / images, 6), round(joules / window.length_s, 4))
    at_rest = _joules(monitor, name, idle)
    label = name.partition(":")[2]
    idle_w = None if at_rest is None else round(at_rest / idle.length_s, 4)
    return EnergySource(label, _covers(label), idle_w, found)


def _joules(monitor: Monitor, name: str, window: Window) -> float | None:
    points = monitor.series(name)
    if sum(window.began_s <= at <= window.ended_s for at, _ in points) < LEAST_SAMPLES:
        return None
    return grown(monitor, name, window) if name.startswith(_COUNTER) else _integral(points, window)


def _integral(points: list[tuple[float, float]], window: Window) -> float:
    """Power over time by trapezoids, its ends interpolated."""
    at, watts = np.array(points).T
    inside = at[(at > window.began_s) & (at < window.ended_s)]
    grid = np.concatenate([[window.began_s], inside, [window.ended_s]])
    values = np.interp(grid, at, watts)
    return float((np.diff(grid) * (values[1:] + values[:-1]) / 2).sum())


def _covers(label: str) -> str:
    if label.startswith("gpu"):
        return "the GPU's board, without the rest of the box"
    if label.endswith("dram"):
        return "memory, without the rest of the box"
    if label.startswith("package"):
        return "the processor, without memory, disks, fans and power supply"
    return "the whole module, without the carrier board"


def _why_not(monitor: Monitor, *, found: bool) -> str:
    if found:
        return f"the stretches were too short: each needs {LEAST_SAMPLES} samples"
    return "; ".join(_reasons(monitor)) or "no counter of energy or power was found"


def _reasons(monitor: Monitor) -> Iterator[str]:
    for what, why in monitor.absent.items():
        if any(word in what for word in ("energy", "power", "everything")):
            yield f"{what}: {why}"
