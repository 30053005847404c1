"""Files written whole or not at all, and files read with their hash."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from madclip_runtime.errors import OutputNotWritten

__all__ = ["make_folder", "sha256_of", "whole_file", "write_whole"]

_CHUNK = 4 * 2**20


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a power cut, sees the old file or the new one, never a part.

    Raises: OutputNotWritten; nothing of the new file is left then, and an old one stays as it was.
    """
    with whole_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that gets its name when the block has ended well, and is gone where it has not.

    On Linux it has no name at all until then, so that not even a killed process leaves a part of it.
    Raises: OutputNotWritten.
    """
    hidden = path.with_name(f".{path.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with _unnamed(path.parent, hidden) as (file, named):
            yield file
            file.flush()
            os.chmod(file.fileno() if os.chmod in os.supports_fd else hidden, 0o666 & ~_umask())  # noqa: PTH101
            os.fsync(file.fileno())
            if not named(path):
                hidden.replace(path)
    except OSError as error:
        raise OutputNotWritten(str(path), error.strerror or str(error), "check the folder and its space") from None
    finally:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)


@contextlib.contextmanager
def _unnamed(folder: Path, hidden: Path) -> Iterator[tuple[BinaryIO, Callable[[Path], bool]]]:
    """A new file in `folder`, and what gives it its name: True where it has that now, False where it is `hidden`.

    On Linux the file has no name until then; a name that is taken can only be replaced by another name.
    """
    try:
        handle = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except (AttributeError, OSError):  # another system, or a file system without unnamed files
        with hidden.open("xb") as file:
            yield file, lambda _: False
        return
    with os.fdopen(handle, "w+b") as unnamed:

        def named(path: Path) -> bool:
            for name in (path, hidden):
                # Any folder handle makes Python call linkat, which follows the link in /proc to the file itself.
                with contextlib.suppress(FileExistsError):
                    os.link(f"/proc/self/fd/{unnamed.fileno()}", name, src_dir_fd=unnamed.fileno())
                    return name == path
            raise FileExistsError(f"{hidden} is there already")

        yield unnamed, named


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
