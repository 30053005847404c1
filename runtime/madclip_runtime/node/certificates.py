"""When a certificate ends: as much of X.509 as says so. The standard library reads it only of a peer's.

What this module does not know: whether it may be trusted; TLS itself finds that out.
"""

from __future__ import annotations

import re
import ssl
from datetime import datetime, timezone
from pathlib import Path

from madclip_runtime.errors import UsageError

__all__ = ["first_end"]

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC, _GENERALIZED = 0x30, 0xA0, 0x17, 0x18


def first_end(path: Path) -> datetime:
    """The earliest end of all certificates in a PEM file, in UTC. Raises: UsageError."""
    try:
        found = [_end(ssl.PEM_cert_to_DER_cert(block.decode("ascii"))) for block in _PEM.findall(path.read_bytes())]
    except OSError as error:
        raise UsageError(str(path), error.strerror or str(error), "name a PEM file") from None
    except ValueError as error:
        raise UsageError(str(path), f"holds what is no certificate ({error})", "name a PEM file") from None
    if not found:
        raise UsageError(str(path), "holds no certificate", "name a PEM file")
    return min(found)


def _end(der: bytes) -> datetime:
    """Certificate → TBSCertificate → Validity → notAfter (RFC 5280, 4.1). Raises: ValueError."""
    _, certificate, _ = _part(der)
    _, inner, _ = _part(certificate)
    kind, _, rest = _part(inner)
    if kind == _VERSION:
        _, _, rest = _part(rest)  # the serial number
    for _ in ("signature algorithm", "issuer"):
        _, _, rest = _part(rest)
    kind, validity, _ = _part(rest)
    if kind != _SEQUENCE:
        raise ValueError("no validity")
    _, _, after = _part(validity)
    kind, text, _ = _part(after)
    return _time(kind, text.decode("ascii"))


def _time(kind: int, text: str) -> datetime:
    if kind == _UTC:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif kind != _GENERALIZED:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _part(data: bytes) -> tuple[int, bytes, bytes]:
    """DER's first element: its tag, its content, what follows it. Raises: ValueError."""
    if len(data) < 2:
        raise ValueError("cut off")
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start > len(data) or start + length > len(data):
        raise ValueError("cut off")
    return tag, data[start : start + length], data[start + length :]
