"""The one clock every latency is read from, and how an arrival is waited for. Tests put a made-up one in its place."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "WallClock"]


class Clock(Protocol):
    """Monotonic time in nanoseconds from an arbitrary start."""

    def now_ns(self) -> int:
        """The time now."""
        ...

    def sleep_until_ns(self, when_ns: int) -> None:
        """Return no earlier than `when_ns`; at once if that has passed."""
        ...


class WallClock:
    """`time.perf_counter_ns`. On Linux that is CLOCK_MONOTONIC, which all processes share, the sampler too."""

    def now_ns(self) -> int:
        """See Clock."""
        return time.perf_counter_ns()

    def sleep_until_ns(self, when_ns: int) -> None:
        """See Clock. Waking up late is not hidden: an open-loop latency runs from the scheduled time."""
        while (left_ns := when_ns - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / 1e9)
