"""Requests at work: so many at once, decoded and drawn by two threads, computed by one that owns the engine.

The engine's thread takes what waits for it, up to a batch, and never waits for more: a lone request is not held back.
What this module does not know: HTTP, and what is computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from madclip_runtime.errors import RequestRefused
from madclip_runtime.serve.metrics import Metrics
from madclip_runtime.serve.settings import Limits

__all__ = ["Desk", "Work"]

_HANDS = 2
"""Threads that decode and draw; a frame may take hundreds of MB in each."""
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """What the engine's thread does. key: works of one key go together. run: payloads → as many answers.

    images: how many the payload counts as in a batch.
    """

    key: Hashable
    run: Callable[[Sequence[Any]], Sequence[Any]]
    payload: Any
    images: int = 1


@dataclass(frozen=True)
class _Item:
    work: Work
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    since: float

    def settle(self, answer: Any, fault: BaseException | None) -> None:
        """Hand it back to the loop's thread."""

        def tell() -> None:
            if self.future.done():  # its request gave up
                return
            if fault is None:
                self.future.set_result(answer)
            else:
                self.future.set_exception(fault)

        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self.loop.call_soon_threadsafe(tell)


class Desk:
    """depth: requests at work or waiting."""

    def __init__(self, limits: Limits, batch: int, metrics: Metrics) -> None:
        self.depth = 0
        self._limits, self._batch, self._metrics = limits, batch, metrics
        self._hands = ThreadPoolExecutor(_HANDS, "madclip-hand")
        self._items: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._decoded_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._engine = threading.Thread(target=self._compute, name="madclip-engine", daemon=True)
        self._engine.start()

    def check_room(self) -> None:
        """Raises: RequestRefused where the queue is full."""
        if self.depth >= self._limits.waiting:
            raise RequestRefused("queue-full", "the service", f"has {self.depth} requests at work", "try again soon")

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A request's place at the desk. Raises: RequestRefused where there is none."""
        self.check_room()
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    async def in_time(self, answer: Callable[[], Any]) -> Any:
        """What `answer()` comes to, or a refusal after the limit. Raises: RequestRefused."""
        try:
            return await asyncio.wait_for(answer(), self._limits.answer_s)
        except asyncio.TimeoutError:
            why = f"found no answer within {self._limits.answer_s:g} s"
            raise RequestRefused("too-late", "the service", why, "try again later, or raise --answer-timeout") from None

    async def hand(self, stage: str | None, work: Callable[[], T]) -> T:
        """Work that needs no engine, in a thread. stage: what its time counts for."""
        start = time.perf_counter()
        done = await asyncio.get_running_loop().run_in_executor(self._hands, work)
        if stage is not None:
            self._metrics.time(stage, time.perf_counter() - start)
        return done

    @contextlib.asynccontextmanager
    async def decoded(self, work: Callable[[], T], size: Callable[[T], int]) -> Any:
        """What `work()` decodes, in a thread; it starts when there is room, and takes its room until the block ends."""
        while self._decoded_bytes > self._limits.held_bytes:
            self._room.clear()
            await self._room.wait()
        done = await self.hand(None, work)
        taken = size(done)
        self._decoded_bytes += taken
        try:
            yield done
        finally:
            self._decoded_bytes -= taken
            self._room.set()

    async def compute(self, work: Work) -> Any:
        """Its answer, once the engine has run. Raises: whatever `work.run` raises."""
        loop = asyncio.get_running_loop()
        item = _Item(work, loop.create_future(), loop, time.perf_counter())
        with self._changed:
            self._items.append(item)
            self._changed.notify()
        return await item.future

    def end(self) -> None:
        """Stop the threads; what they are at is finished."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._engine.join()
        self._hands.shutdown(wait=True)

    def _compute(self) -> None:
        while batch := self._take():
            start = time.perf_counter()
            for item in batch:
                self._metrics.time("wait", start - item.since)
            self._metrics.batch(sum(item.work.images for item in batch))
            try:
                answers = batch[0].work.run([item.work.payload for item in batch])
            except Exception as error:  # each request hears of it; the thread lives on for the next ones
                for item in batch:
                    item.settle(None, error)
                continue
            spent = (time.perf_counter() - start) / len(batch)
            for item, answer in zip(batch, answers, strict=True):
                self._metrics.time("compute", spent)
                item.settle(answer, None)

    def _take(self) -> list[_Item]:
        """The longest waiting, and what goes with it; empty at the end."""
        with self._changed:
            while True:
                while self._items and self._items[0].future.done():  # its request gave up
                    self._items.popleft()
                if self._items:
                    break
                if self._ended:
                    return []
                self._changed.wait()
            batch = [self._items.popleft()]
            room = self._batch - batch[0].work.images
            for item in list(self._items):
                if item.work.key == batch[0].work.key and item.work.images <= room and not item.future.done():
                    self._items.remove(item)
                    batch.append(item)
                    room -= item.work.images
            return batch
