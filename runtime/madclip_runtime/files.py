"""Files written whole or not at all, and files read with their hash."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from madclip_runtime.errors import OutputNotWritten

__all__ = ["make_folder", "sha256_of", "write_whole"]

_CHUNK = 4 * 2**20


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a power cut, sees the old file or the new one, never a part.

    Raises: OutputNotWritten; nothing of the new file is left then, and an old one stays as it was.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OutputNotWritten(str(path), error.strerror or str(error), "check the folder and its space") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises: OutputNotWritten."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritten(str(path), error.strerror or str(error), "choose another --out") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, lower-case hex. Raises: OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
