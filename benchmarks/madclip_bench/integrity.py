"""Hashes that tie a report to the code that made it and to its own samples.

They show accidents and careless edits. Nothing signs a report: who can run this code can also make a false one that is
consistent in itself. What a forger can't know is the digest you wrote down when the run ended.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madclip_runtime.schema import SchemaError

__all__ = ["Packed", "code_sha256", "digest_of", "pack", "unpack"]

ENCODING = "zlib, base64, of JSON"
_MOST_BYTES = 2**30
"""Samples are unpacked only up to this size: a report may come from a stranger."""


@dataclass(frozen=True)
class Packed:
    """The raw samples, compressed. bytes, sha256: of the JSON text inside."""

    encoding: str
    bytes: int
    sha256: str
    data: str


def pack(document: object) -> Packed:
    """document: what `json.dumps` takes, without NaN."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    data = base64.b64encode(zlib.compress(text, 9)).decode()
    return Packed(ENCODING, len(text), hashlib.sha256(text).hexdigest(), data)


def unpack(packed: Packed) -> Any:
    """The document again. Raises: SchemaError where it is damaged, too large, or not what its hash says."""
    if packed.encoding != ENCODING:
        raise SchemaError(f"raw.encoding {packed.encoding!r}; this version reads {ENCODING!r}")
    if not 0 <= packed.bytes <= _MOST_BYTES:
        raise SchemaError(f"raw.bytes {packed.bytes} is beyond {_MOST_BYTES}")
    try:
        text = zlib.decompressobj().decompress(base64.b64decode(packed.data, validate=True), packed.bytes + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise SchemaError(f"raw.data can't be unpacked ({error})") from None
    if len(text) != packed.bytes or hashlib.sha256(text).hexdigest() != packed.sha256:
        raise SchemaError("raw.data is not what raw.sha256 says")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"raw.data is not JSON ({str(error)[:80]})") from None


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 over a report's JSON document but for its own `digest`: sorted keys, no blanks, ASCII."""
    kept = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(kept, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def code_sha256() -> str:
    """SHA-256 over the names and bytes of every .py file of the bench and the runtime, as they are installed here."""
    import madclip_bench
    import madclip_runtime

    digest = hashlib.sha256()
    for package in (madclip_bench, madclip_runtime):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
            name = f"{package.__name__}/{path.relative_to(folder).as_posix()}"
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
