"""Was the machine left alone while it was timed, and did it run at its own speed? Pure arithmetic on a Monitor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from madclip_bench.monitor import Monitor
from madclip_bench.sensors import is_counter
from madclip_bench.sensors.nvml import POWER_CAP, THROTTLE_REASONS
from madclip_bench.words import percent

__all__ = ["MAX_CGROUP_SHARE", "MAX_OTHERS_SHARE", "MAX_STEAL_SHARE", "QuietFigures", "Range", "Window", "grown"]

MAX_OTHERS_SHARE = 0.10
"""Of all logical CPUs; more than that spent on other processes, and the run is unstable."""
MAX_STEAL_SHARE = 0.02
MAX_CGROUP_SHARE = 0.01
_LEAST_SAMPLES = 3


@dataclass(frozen=True)
class Window:
    """A stretch of time on the monitor's clock, in seconds."""

    began_s: float
    ended_s: float

    @property
    def length_s(self) -> float:
        """Never negative."""
        return max(0.0, self.ended_s - self.began_s)


@dataclass(frozen=True)
class Range:
    """Of one reading over a run, in the unit its name gives."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class QuietFigures:
    """The machine during the timed stretches. Shares are of all logical CPUs' time, None where they can't be read.

    others_share: used by processes that are neither timed nor the sampler. steal_share: taken by a hypervisor.
    sampler_share: used by the sampler. cgroup_throttled_share: of the time, in which a quota held processes back.
    throttled: sentences on every sign that the machine slowed itself down. ranges: low, median, high of every reading.
    noise: sentences, each a reason to call the run unstable; empty where all is well.
    """

    samples: int
    others_share: float | None
    steal_share: float | None
    sampler_share: float | None
    cgroup_throttled_share: float | None
    throttled: tuple[str, ...]
    ranges: dict[str, Range]
    noise: tuple[str, ...]

    @classmethod
    def of(cls, monitor: Monitor, window: Window) -> QuietFigures:
        """From the samples within the window of all timed stretches."""
        every = grown(monitor, "cpu_all_s_total", window)
        busy, own, sampler = (
            grown(monitor, name, window) for name in ("cpu_busy_s_total", "timed_s_total", "sampler_s_total")
        )
        others = None if None in (busy, own, sampler) else max(0.0, busy - own - sampler)  # type: ignore[operator]
        held_back = grown(monitor, "cgroup_throttled_s_total", window)
        shares = (
            _share(others, every),
            _share(grown(monitor, "cpu_steal_s_total", window), every),
            _share(sampler, every),
            _share(held_back, window.length_s),
        )
        throttled = _throttled(monitor, window)
        return cls(
            samples=sum(window.began_s <= at <= window.ended_s for at in monitor.at_s),
            others_share=shares[0],
            steal_share=shares[1],
            sampler_share=shares[2],
            cgroup_throttled_share=shares[3],
            throttled=throttled,
            ranges=_ranges(monitor, window),
            noise=(*_noise(shares[0], shares[1], shares[3]), *throttled),
        )


def grown(monitor: Monitor, name: str, window: Window) -> float | None:
    """By how much a counter grew within a window, straight lines between samples; None with too few samples."""
    points = monitor.series(name)
    inside = [at for at, _ in points if window.began_s <= at <= window.ended_s]
    if len(inside) < _LEAST_SAMPLES:
        return None
    at, values = np.array(points).T
    first, last = np.interp([window.began_s, window.ended_s], at, values)
    return float(last - first)


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else round(part / whole, 4)


def _inside(monitor: Monitor, name: str, window: Window) -> list[float]:
    return [value for at, value in monitor.series(name) if window.began_s <= at <= window.ended_s]


def _ranges(monitor: Monitor, window: Window) -> dict[str, Range]:
    found = {}
    for name in monitor.columns:
        values = _inside(monitor, name, window)
        if values and not is_counter(name) and not name.startswith("gpu_throttle_reasons"):
            found[name] = Range(min(values), round(float(np.median(values)), 4), max(values))
    return found


def _throttled(monitor: Monitor, window: Window) -> tuple[str, ...]:
    found = []
    events = _inside(monitor, "throttle_events_total", window)
    if events and events[-1] > events[0]:
        found.append(f"the processor throttled itself {events[-1] - events[0]:.0f} times")
    cooling = _inside(monitor, "passive_cooling", window)
    if any(cooling):
        found.append(f"passive cooling was at work in {_percent(cooling)} of the samples")
    for name in monitor.columns:
        if name.startswith("gpu_throttle_reasons"):
            found += _gpu_reasons(name.partition(":")[2], [int(bits) for bits in _inside(monitor, name, window)])
    return tuple(found)


def _gpu_reasons(card: str, samples: list[int]) -> list[str]:
    """A power cap is how a card is built to run, so it is shown among the ranges' story but is no throttling."""
    return [
        f"{card}: {words} in {_percent([bits & bit for bits in samples])} of the samples"
        for bit, words in THROTTLE_REASONS.items()
        if bit != POWER_CAP and any(bits & bit for bits in samples)
    ]


def _percent(values: list[float] | list[int]) -> str:
    return percent(sum(bool(value) for value in values) / len(values))


def _noise(others: float | None, steal: float | None, held_back: float | None) -> list[str]:
    limits = (
        (others, MAX_OTHERS_SHARE, "other processes used {} of the processors"),
        (steal, MAX_STEAL_SHARE, "a hypervisor took {} of the processors' time"),
        (held_back, MAX_CGROUP_SHARE, "a CPU quota held processes back in {} of the time"),
    )
    return [words.format(percent(share)) for share, limit, words in limits if share is not None and share > limit]
