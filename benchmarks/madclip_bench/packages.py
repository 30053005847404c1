"""How much a box must install: the runtime, what it asks for, and the engine packages that are here. Bytes on disk."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

__all__ = ["PackageCard", "installed_packages"]

_RUNTIME = "madclip-runtime"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class PackageCard:
    """bytes_of: distribution → bytes of its installed files. total_bytes: their sum."""

    bytes_of: dict[str, int]
    total_bytes: int


def installed_packages() -> PackageCard:
    """madclip-runtime with its required packages, and those of its optional ones that are installed here."""
    sizes = {name: _bytes(name) for name in sorted(set(_needed(_RUNTIME, {"optional"})))}
    return PackageCard(sizes, sum(sizes.values()))


def _needed(name: str, optional: set[str]) -> Iterator[str]:
    """optional: non-empty where requirements of extras count as well, if installed. Only the runtime's own do."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        requirements = metadata.requires(name) or []
        yield _plain(name)
        for text in requirements:
            needed = _NAME.match(text)
            if needed and (optional or "extra ==" not in text):
                yield from _needed(needed.group(), set())


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _bytes(name: str) -> int:
    files = metadata.files(name) or []
    paths = [Path(str(file.locate())) for file in files]
    total = sum(path.stat().st_size for path in paths if path.is_file())
    # An editable install lists a pointer instead of the code.
    package = name.replace("-", "_")
    if not any(package in path.parts for path in paths):
        total += _folder_bytes(package)
    return total


def _folder_bytes(package: str) -> int:
    spec = find_spec(package) if package.isidentifier() else None
    folders = (spec.submodule_search_locations if spec is not None else None) or []
    return sum(path.stat().st_size for folder in folders for path in Path(folder).rglob("*.py"))
