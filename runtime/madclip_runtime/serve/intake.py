"""Bodies of requests: read whole, within a size, a time and a memory, or refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from madclip_runtime.errors import RequestRefused
from madclip_runtime.serve.exchange import Request
from madclip_runtime.serve.settings import Limits

__all__ = ["Disconnected", "Intake"]

_LINGER_S = 1.0
"""How long the rest of a body that is too large is read away, so that its sender hears the answer."""


class Disconnected(Exception):
    """The client went away before its request was whole; there is nobody to answer."""


class Intake:
    """All bodies in memory. held_bytes: how much they are."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """A request's body; its memory counts until the block ends. Raises: RequestRefused, Disconnected."""
        data = bytearray()
        try:
            await self._receive(request, data)
            whole = bytes(data)
            yield whole
        finally:
            self.held_bytes -= len(data)

    async def _receive(self, request: Request, data: bytearray) -> None:
        try:
            self._check_promise(request)
            await asyncio.wait_for(self._read(request, data), self._limits.receive_s)
        except asyncio.TimeoutError:
            why = f"has not come whole within {self._limits.receive_s:g} s"
            raise RequestRefused("too-slow", "the request", why, "send it faster") from None
        except RequestRefused as error:
            if error.kind == "too-large" and "expect" not in request.headers:
                await self._read_away(request)
            raise

    def _check_promise(self, request: Request) -> None:
        length = request.headers.get("content-length", "0")
        self._check_size(int(length) if length.isdecimal() and len(length) < 19 else 10**18)
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RequestRefused(
                "wrong-type", "the body", "is compressed, and could grow without limit", "send it plain"
            )

    def _check_size(self, size: int) -> None:
        if size > self._limits.body_bytes:
            why = f"is larger than {self._limits.body_bytes / 2**20:g} MiB"
            raise RequestRefused("too-large", "the body", why, "see --max-body")

    async def _read(self, request: Request, data: bytearray) -> None:
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part, more = message.get("body", b""), message.get("more_body", False)
            self._check_size(len(data) + len(part))
            data += part
            self.held_bytes += len(part)
            if self.held_bytes > self._limits.held_bytes:
                raise RequestRefused("queue-full", "the service", "holds as many bytes as it may", "try again soon")

    async def _read_away(self, request: Request) -> None:
        async def rest() -> None:
            while (await request.receive()).get("more_body", False):
                pass

        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(rest(), _LINGER_S)
