"""One request and its answer, as small values, and the table that says who answers what.

What this module does not know: sockets, TLS, HTTP's grammar (uvicorn does), and what any answer means.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from madclip_runtime.errors import EngineRefused, InputRefused, MadclipError, RequestRefused, UsageError

__all__ = ["HTML", "JSON", "PNG", "Request", "Response", "Route", "find", "kind_of", "refusal"]

JSON, PNG, HTML = "application/json", "image/png", "text/html; charset=utf-8"
STATUS = {
    "malformed": 400,
    "no-token": 401,
    "wrong-host": 403,
    "not-found": 404,
    "wrong-method": 405,
    "not-acceptable": 406,
    "too-slow": 408,
    "too-large": 413,
    "wrong-type": 415,
    "queue-full": 503,
    "too-late": 503,
}
"""HTTP's number for each kind of RequestRefused."""
RETRY = frozenset({"queue-full", "too-late"})


@dataclass(frozen=True)
class Request:
    """What was asked. headers, query: the last of each name; header names in lower case. parameters: from the path."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    receive: Callable[[], Awaitable[Any]] = field(repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Mapping[str, Any], receive: Callable[[], Awaitable[Any]]) -> Request:
        """From an ASGI scope. Raises: RequestRefused."""
        try:
            query = dict(parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=16))
        except ValueError:
            raise RequestRefused("malformed", "the query", "can't be read") from None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        return cls(scope["method"], scope["path"], query, headers, receive)


@dataclass(frozen=True)
class Response:
    """What is answered."""

    body: bytes
    media: str = JSON
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, content: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """As JSON."""
        return cls(json.dumps(content, allow_nan=False).encode(), JSON, status, headers)


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """method: "GET" answers HEAD too. path: parts in braces match one part of any text. free: needs no token."""

    method: str
    path: str
    handler: Handler
    free: bool = False

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters, or None where it isn't this route."""
        wanted, given = self.path.split("/"), path.split("/")
        if len(wanted) != len(given):
            return None
        pairs = list(zip(wanted, given, strict=True))
        if not all(want == have or (want.startswith("{") and have) for want, have in pairs):
            return None
        return {want[1:-1]: have for want, have in pairs if want.startswith("{")}


def find(routes: tuple[Route, ...], method: str, path: str) -> tuple[Route, dict[str, str]]:
    """Who answers. Raises: RequestRefused."""
    here = [(route, found) for route in routes if (found := route.match(path)) is not None]
    for route, found in here:
        if route.method == ("GET" if method == "HEAD" else method):
            return route, found
    if here:
        allowed = ", ".join(sorted({route.method for route, _ in here}))
        raise RequestRefused("wrong-method", "the method", "is not one this path takes", f"use {allowed}")
    raise RequestRefused("not-found", "the path", "is none of this service", "see /docs")


def kind_of(error: MadclipError) -> str:
    """What metrics call a refusal."""
    return error.kind if isinstance(error, RequestRefused) else type(error).__name__


def refusal(error: MadclipError) -> Response:
    """The same body for every refusal; `error` is the Open Inference Protocol's, a line of text."""
    status, headers = 500, []
    if isinstance(error, RequestRefused):
        status = STATUS[error.kind]
        if error.kind == "wrong-method":
            headers.append(("allow", error.do.removeprefix("use ")))
        if error.kind in RETRY:
            headers.append(("retry-after", "1"))
        if error.kind == "no-token":
            headers.append(("www-authenticate", "Bearer"))
        if error.kind in ("too-large", "too-slow"):  # what else comes on this connection is not a request
            headers.append(("connection", "close"))
    elif isinstance(error, (InputRefused, UsageError)):
        status = 422 if isinstance(error, InputRefused) else 400
    elif isinstance(error, EngineRefused):
        status = 500
    body = {"error": error.line(), "refused": {"name": kind_of(error), "why": error.why, "do": error.do}}
    return Response.of(body, status, tuple(headers))
