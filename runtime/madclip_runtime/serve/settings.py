"""What the service was told: where to listen, who may ask, how much and how long. Checked before anything is loaded."""

from __future__ import annotations

import argparse
import ipaddress
import math
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from madclip_runtime.errors import UsageError

__all__ = ["Limits", "Settings"]

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})")
_SHORTEST_TOKEN, _LONGEST_TOKEN = 32, 4096
_MEANINGLESS = ("csv", "gallery", "map", "mask", "as_stored", "no_overlay", "slices")
"""Options about files, of which a service writes none."""


@dataclass(frozen=True)
class Limits:
    """body_bytes: of one request. waiting: requests at work or waiting for it. batch: most images a call of the engine,
    None for what pays on that engine. head_s, receive_s: for a request's head, and for all of it, to come in. answer_s:
    from then to its answer. send_s: for the answer to be read.
    """

    body_bytes: int = 64 * 2**20
    waiting: int = 32
    batch: int | None = None
    receive_s: float = 30.0
    answer_s: float = 60.0
    head_s: float = 10.0
    send_s: float = 30.0

    @property
    def held_bytes(self) -> int:
        """Of all bodies, or all decoded frames, in memory at once; one body always fits."""
        return max(256 * 2**20, self.body_bytes)

    @property
    def connections(self) -> int:
        """Open at once; health checks and pages need some beside those at work."""
        return self.waiting + 96


@dataclass(frozen=True)
class Settings:
    """host: as given, without brackets. token: what clients must send, None where they need none."""

    host: str
    port: int
    limits: Limits
    certificate: Path | None = None
    key: Path | None = None
    token: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Settings:
        """Raises: UsageError, for anything that would open this machine to others without TLS and a token, too."""
        for name in _MEANINGLESS:
            if getattr(arguments, name):
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} with --serve", "a service writes no files", f"leave {option} away")
        host, port = _address(arguments.serve)
        settings = cls(
            host,
            port,
            _limits(arguments),
            *_certificate(arguments.tls_cert, arguments.tls_key),
            None if arguments.token_file is None else _token(Path(arguments.token_file)),
        )
        settings._check_reach(arguments.allow_remote)
        return settings

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def url_host(self) -> str:
        """As it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def _check_reach(self, allowed: bool) -> None:
        if self.is_loopback:
            return
        what = f"--serve {self.url_host}:{self.port}"
        if not allowed:
            do = "use 127.0.0.1, or add --allow-remote with --tls-cert, --tls-key and --token-file"
            raise UsageError(what, "other machines could reach it", do)
        if self.certificate is None or self.token is None:
            why = "beyond loopback, images and results travel only under TLS, and only to who has the token"
            raise UsageError(what, why, "add --tls-cert, --tls-key and --token-file")


def _address(text: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise UsageError(f"--serve {text}", "is no HOST:PORT", "give 127.0.0.1:8080, say")
    return match["six"] or match["host"], int(match["port"])


def _limits(arguments: argparse.Namespace) -> Limits:
    for option, least, most in (
        ("max_body", 0.001, 1024),
        ("queue", 1, 10_000),
        ("receive_timeout", 0.1, 3600),
        ("answer_timeout", 0.1, 3600),
        ("batch", 1, 1024),
    ):
        value = getattr(arguments, option)
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            raise UsageError(f"--{option.replace('_', '-')} {value}", f"must be in {least:g}–{most:g}")
    return Limits(
        body_bytes=int(arguments.max_body * 2**20),
        waiting=arguments.queue,
        batch=arguments.batch,
        receive_s=arguments.receive_timeout,
        answer_s=arguments.answer_timeout,
        head_s=min(10.0, arguments.receive_timeout),
        send_s=arguments.receive_timeout,
    )


def _certificate(chain: str | None, key: str | None) -> tuple[Path | None, Path | None]:
    if chain is None and key is None:
        return None, None
    if chain is None or key is None:
        raise UsageError("--tls-cert and --tls-key", "one is useless without the other", "give both")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password="")
    except (OSError, ValueError) as error:
        why = f"can't be used ({getattr(error, 'reason', None) or error.args[-1]})"
        raise UsageError(
            f"--tls-cert {chain}, --tls-key {key}", why, "give a PEM chain and its unencrypted key"
        ) from None
    return Path(chain), Path(key)


def _token(path: Path) -> bytes:
    what = f"--token-file {path}"
    try:
        with path.open("rb") as file:
            shared = os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077
            token = file.read(_LONGEST_TOKEN + 1).strip()
    except OSError as error:
        raise UsageError(what, error.strerror or str(error), "make one: openssl rand -hex 32 > FILE") from None
    if shared:
        raise UsageError(what, "others on this machine may read it", "chmod 600")
    if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not re.fullmatch(rb"[!-~]+", token):
        why = f"holds no token: one line of {_SHORTEST_TOKEN} or more ASCII characters without blanks"
        raise UsageError(what, why, "make one: openssl rand -hex 32 > FILE")
    return token
