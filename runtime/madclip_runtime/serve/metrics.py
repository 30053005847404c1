"""Counters and histograms in Prometheus' text format 0.0.4; written here, because a client library is a package more.

Labels come from our own fixed words (stages, routes, heads, kinds of refusal), never from a client.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MEDIA", "STAGES", "Metrics"]

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
STAGES = ("receive", "decode", "preprocess", "wait", "compute", "draw", "total")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        total = 0
        inner = f"{labels}," if labels else ""
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{inner}le="{bound}"}} {total}'
        outer = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{outer} {self._sum:.6f}"
        yield f"{name}_count{outer} {total}"


class Metrics:
    """All of them; any thread may add."""

    def __init__(self, **info: str) -> None:
        """info: labels that never change, of madclip_info."""
        self._lock = threading.Lock()
        self._info = _labels(**info)
        self._stages = {stage: _Histogram(_SECONDS) for stage in STAGES}
        self._batches = _Histogram(_IMAGES)
        self._requests: Counter[str] = Counter()
        self._decisions: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()

    def time(self, stage: str, seconds: float) -> None:
        """One request's part in a stage."""
        with self._lock:
            self._stages[stage].add(seconds)

    def batch(self, images: int) -> None:
        """One call of the engine."""
        with self._lock:
            self._batches.add(images)

    def request(self, route: str, status: int) -> None:
        """One answer. route: its pattern, not the path that was asked for."""
        with self._lock:
            self._requests[_labels(route=route, status=str(status))] += 1

    def decision(self, head: str, decision: str) -> None:
        """One result."""
        with self._lock:
            self._decisions[_labels(head=head, decision=decision)] += 1

    def refusal(self, name: str) -> None:
        """One refusal, by its name."""
        with self._lock:
            self._refusals[_labels(name=name)] += 1

    def text(self, queue_depth: int, queue_limit: int) -> str:
        """All of them, as Prometheus reads them."""
        with self._lock:
            return "\n".join([*self._lines(queue_depth, queue_limit), ""])

    def _lines(self, depth: int, limit: int) -> Iterator[str]:
        yield from _head("madclip_info", "gauge", "What is served.")
        yield f"madclip_info{{{self._info}}} 1"
        yield from _head("madclip_stage_seconds", "histogram", "Wall time of a request's stages.")
        for stage, histogram in self._stages.items():
            yield from histogram.lines("madclip_stage_seconds", _labels(stage=stage))
        yield from _head("madclip_batch_images", "histogram", "Images a call of the engine.")
        yield from self._batches.lines("madclip_batch_images", "")
        yield from _head("madclip_queue_depth", "gauge", "Requests at work or waiting.")
        yield f"madclip_queue_depth {depth}"
        yield from _head("madclip_queue_limit", "gauge", "More are refused with 503.")
        yield f"madclip_queue_limit {limit}"
        for name, told, counter in (
            ("madclip_requests_total", "Answers by route and status.", self._requests),
            ("madclip_decisions_total", "Results by head and decision.", self._decisions),
            ("madclip_refusals_total", "Refusals by name.", self._refusals),
        ):
            yield from _head(name, "counter", told)
            yield from (f"{name}{{{labels}}} {count}" for labels, count in sorted(counter.items()))
        resident = _resident_bytes()
        if resident is not None:
            yield from _head("process_resident_memory_bytes", "gauge", "Resident memory.")
            yield f"process_resident_memory_bytes {resident}"


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"


def _labels(**values: str) -> str:
    escaped = {k: v.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for k, v in values.items()}
    return ",".join(f'{name}="{value}"' for name, value in escaped.items())


def _resident_bytes() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
