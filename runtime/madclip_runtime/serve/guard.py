"""Connections with a clock: one that trickles, or never reads its answer, is cut off.

uvicorn only times connections that rest between two requests. What this module does not know: requests; the intake
times their bodies, and answers. Here a connection dies without a word, since it has shown that it does not listen.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from madclip_runtime.serve.settings import Limits

__all__ = ["timed_protocol"]

_LOOK_S = 0.5


class _TimedProtocol(H11Protocol):
    """uvicorn's protocol, with limits on each step of a connection."""

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._resting = False  # a new connection has promised a request
        self._look = self.loop.call_later(_LOOK_S, self._look_at_clock)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._resting:
            self._resting, self._since = False, self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._resting, self._since = True, self.loop.time()
        super().on_response_complete()

    def _look_at_clock(self) -> None:
        if self.loop.time() - self._since > self._allowed_s():
            self.transport.abort()
        else:
            self._look = self.loop.call_later(_LOOK_S, self._look_at_clock)

    def _allowed_s(self) -> float:
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            return self.limits.receive_s + self.limits.answer_s + self.limits.send_s
        if self.transport.is_closing():  # what is left of the answer waits to be read
            return self.limits.send_s
        return float("inf") if self._resting else self.limits.head_s  # uvicorn's own timer ends a rest


def timed_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol with these limits, as uvicorn takes it."""
    return type("TimedProtocol", (_TimedProtocol,), {"limits": limits})
