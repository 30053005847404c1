"""Who may ask: the token, and no web page of somebody else's.

A page on the internet can make a browser send requests to this machine's loopback, and by changing what its own name
resolves to even read the answers. So: on loopback only our own names as Host, and from any page but ours nothing.
"""

from __future__ import annotations

import hmac
import re

from madclip_runtime.errors import RequestRefused
from madclip_runtime.serve.exchange import Request
from madclip_runtime.serve.settings import Settings

__all__ = ["Access"]

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PORT = re.compile(r":[0-9]{1,5}$")


class Access:
    """Checks a request's headers."""

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token
        self._names = _LOOPBACK_NAMES | {settings.url_host} if settings.is_loopback else None

    def check(self, request: Request, free: bool) -> None:
        """free: whether what is asked for needs no token. Raises: RequestRefused."""
        host = request.headers.get("host", "").lower()
        if self._names is not None and _PORT.sub("", host) not in self._names:
            raise RequestRefused("wrong-host", "Host", "is no name of this machine's loopback", "use 127.0.0.1")
        origin = request.headers.get("origin")
        foreign = origin is not None and origin.lower().partition("://")[2] != host
        if foreign or request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise RequestRefused("wrong-host", "Origin", "is another page than this service's", "open the page itself")
        if self._token is not None and not free:
            self._check_token(request)

    def _check_token(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token or b"")
        if scheme.lower() != "bearer" or not same:
            do = "send it as Authorization: Bearer TOKEN"
            raise RequestRefused("no-token", "the token", "is missing or wrong", do)
