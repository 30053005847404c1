"""Folder mode: decoding, inference and writing at the same time, in the order of the inputs, in bounded memory.

One thread decodes ahead, the caller's thread runs the engine, one thread draws and writes. What this module does not
know: what a result looks like on disk or on stdout.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from madclip_runtime.detector import Detector, Prepared
from madclip_runtime.errors import InputRefused
from madclip_runtime.inputs import Job
from madclip_runtime.result import Result

__all__ = ["Done", "run_pipeline"]

_AHEAD = 4
"""Frames that may wait between two stages."""
_MOST_BYTES = 256 * 2**20
"""Pixels that may wait between two stages; one frame larger than this still goes through, alone."""
T = TypeVar("T")


@dataclass(frozen=True)
class Done:
    """A job's end: its results, one a head, or the refusal it met."""

    job: Job
    results: tuple[Result, ...] = ()
    refusal: InputRefused | None = None

    @property
    def size_bytes(self) -> int:
        """Of its pixels and maps."""
        return sum(result.image.nbytes + result.model_map.nbytes for result in self.results)


class _Stopped(Exception):
    """The other side went away."""


class _Channel(Generic[T]):
    """A queue between two threads, bounded by count and by weight; either side may close it."""

    def __init__(self, most: int = _AHEAD, weight: Callable[[T], int] = lambda _: 0) -> None:
        self._items: deque[T] = deque()
        self._most, self._weigh, self._weight = most, weight, 0
        self._changed = threading.Condition()
        self._ended = self._stopped = False

    def put(self, item: T) -> None:
        """Wait for room. Raises: _Stopped."""
        weight = self._weigh(item)
        with self._changed:
            while not self._stopped and self._items and self._is_full(weight):
                self._changed.wait()
            if self._stopped:
                raise _Stopped
            self._items.append(item)
            self._weight += weight
            self._changed.notify_all()

    def get(self, wait: bool = True) -> T | None:
        """The next item; None at the end, or at once where nothing waits and `wait` is off. Raises: _Stopped."""
        with self._changed:
            while wait and not self._items and not self._ended and not self._stopped:
                self._changed.wait()
            if self._stopped:
                raise _Stopped
            if not self._items:
                return None
            item = self._items.popleft()
            self._weight -= self._weigh(item)
            self._changed.notify_all()
            return item

    def end(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Let whoever waits go."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _is_full(self, weight: int) -> bool:
        return len(self._items) >= self._most or self._weight + weight > _MOST_BYTES


@dataclass(frozen=True)
class _Ready:
    """A decoded frame, or why there is none."""

    job: Job
    prepared: Prepared | None
    refusal: InputRefused | None = None

    @property
    def size_bytes(self) -> int:
        return 0 if self.prepared is None else self.prepared.size_bytes


def run_pipeline(jobs: Iterable[Job], detector: Detector, write: Callable[[Done], None], *, batch: int = 1) -> None:
    """Take every job through the detector; `write` is called in the jobs' order, in a thread of its own.

    batch: most frames the engine is given at once; it never waits for more than are ready.
    Raises: whatever a stage raises; InputRefused alone goes on to `write`. What is finished is written before that.
    """
    ready: _Channel[_Ready] = _Channel(max(_AHEAD, batch), lambda item: item.size_bytes)
    done: _Channel[Done] = _Channel(weight=lambda item: item.size_bytes)
    faults: list[BaseException] = []
    channels = (ready, done)
    reader = _thread("decode", lambda: _read(jobs, detector, ready), faults, channels)
    writer = _thread("write", lambda: _write(done, write), faults, channels)
    try:
        while items := _next_batch(ready, batch):
            for item in _compute(detector, items):
                done.put(item)
        done.end()
        writer.join()
    except _Stopped:
        pass
    except BaseException:
        done.end()  # what came before the fault is still written
        writer.join(timeout=30)
        raise
    finally:
        for channel in channels:
            channel.stop()
    reader.join(timeout=1)
    if faults:
        raise faults[0]


def _thread(
    name: str, work: Callable[[], None], faults: list[BaseException], channels: tuple[_Channel[_Ready], _Channel[Done]]
) -> threading.Thread:
    def guarded() -> None:
        try:
            work()
        except _Stopped:
            pass
        except BaseException as error:  # carried to the caller's thread, and raised there
            faults.append(error)
            for channel in channels:
                channel.stop()

    thread = threading.Thread(target=guarded, name=f"madclip-{name}", daemon=True)
    thread.start()
    return thread


def _read(jobs: Iterable[Job], detector: Detector, ready: _Channel[_Ready]) -> None:
    for job in jobs:
        start = time.perf_counter()
        try:
            if job.refusal is not None:
                raise job.refusal
            item = _Ready(job, detector.prepare(job.load(), job.name, started=start))
        except InputRefused as error:
            item = _Ready(job, None, error)
        ready.put(item)
    ready.end()


def _next_batch(ready: _Channel[_Ready], most: int) -> list[_Ready]:
    items: list[_Ready] = []
    while len(items) < most and (item := ready.get(wait=not items)) is not None:
        items.append(item)
    return items


def _compute(detector: Detector, items: list[_Ready]) -> list[Done]:
    frames = [item.prepared for item in items if item.prepared is not None]
    results = iter(detector.compute(frames) if frames else ())
    return [Done(i.job, refusal=i.refusal) if i.prepared is None else Done(i.job, next(results)) for i in items]


def _write(done: _Channel[Done], write: Callable[[Done], None]) -> None:
    while (item := done.get()) is not None:
        write(item)
