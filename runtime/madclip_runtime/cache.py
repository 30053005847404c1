"""What engines build on this machine, kept so that the next start is quick: optimised graphs, plans, timing caches.

An entry is a folder with its files and entry.json, which holds what the entry was built for and each file's SHA-256. It
appears whole or not at all, is built once where two processes want it, is checked before every use, and a damaged one
is built again. What this module does not know: how anything is built.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madclip_runtime.errors import OutputNotWritten, UsageError
from madclip_runtime.files import sha256_of
from madclip_runtime.locks import lock, try_lock

__all__ = ["ENVIRONMENT", "Cache", "default_folder", "open_cache"]

ENVIRONMENT = "MADCLIP_CACHE"
_ENTRY = "entry.json"
_BUILDING = ".building-"
_GB = 10**9
_BEAT_S = 10.0
Say = Callable[[str], None]
Key = dict[str, str]


@dataclass(frozen=True)
class Cache:
    """folder: ours alone. limit_bytes: the oldest entries go when it is passed."""

    folder: Path
    limit_bytes: int

    def entry(self, kind: str, key: Key, build: Callable[[Path], None], tell: Say) -> Path:
        """The folder of the entry for `key`, built by `build(empty folder)` where it isn't there, or is damaged.

        kind: a short word; key: all that the entry depends on, in plain words, for the next person asks why it is built
        again. tell: hears that.
        Raises: what `build` raises; OutputNotWritten.
        """
        path = self.folder / f"{kind}-{_digest(key)}"
        try:
            with self._locked(path, tell):
                why = self._missing(path, kind, key)
                if why is None:
                    os.utime(path)
                    return path
                tell(f"building {kind} for this machine, once: {why}")
                shutil.rmtree(path, ignore_errors=True)
                with _heartbeat(kind, tell):
                    self._build(path, key, build)
                self._make_room(path, tell)
        except OSError as error:
            raise OutputNotWritten(
                str(self.folder), error.strerror or str(error), "--cache-dir, or --no-cache"
            ) from None
        return path

    def entries(self) -> list[Path]:
        """All entries, the longest unused first."""
        found = [path.parent for path in self.folder.glob(f"*/{_ENTRY}") if not path.parent.name.startswith(".")]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def size_bytes(self) -> int:
        """Of all entries together."""
        return sum(_size(path) for path in self.entries())

    def _missing(self, path: Path, kind: str, key: Key) -> str | None:
        """Why there is nothing to use, in plain words; None where there is."""
        if path.exists():
            return _damage(path, key)
        for other in reversed(self.entries()):
            if other.name.startswith(f"{kind}-") and (known := _read(other)) is not None:
                was = known["key"]
                if was.get("model") == key.get("model"):
                    changed = [name for name in key if was.get(name) != key[name]]
                    told = "; ".join(f"{name} was {was.get(name, 'absent')}, is {key[name]}" for name in changed)
                    return told or "the entry of another format"
        return "this model has not run here before"

    def _build(self, path: Path, key: Key, build: Callable[[Path], None]) -> None:
        self._sweep()
        building = self.folder / f"{_BUILDING}{os.getpid()}-{secrets.token_hex(4)}"
        building.mkdir()
        try:
            build(building)
            files = {}
            for file in sorted(building.iterdir()):
                _sync(file)
                files[file.name] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
            (building / _ENTRY).write_text(json.dumps({"key": key, "files": files}, indent=1))
            _sync(building / _ENTRY)
            building.rename(path)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _make_room(self, fresh: Path, tell: Say) -> None:
        """Remove the longest unused until the limit holds. The fresh one alone is too large: used now, gone at exit."""
        total = self.size_bytes()
        for path in self.entries():
            if total <= self.limit_bytes or path == fresh:
                break
            total -= _size(path)
            shutil.rmtree(path, ignore_errors=True)
        if total > self.limit_bytes:
            tell(f"the cache's limit is {self.limit_bytes / _GB:g} GB and this entry has {total / _GB:.2f}: not kept")
            atexit.register(shutil.rmtree, fresh, ignore_errors=True)

    def _sweep(self) -> None:
        """What builders left that did not live to finish."""
        for path in self.folder.glob(f"{_BUILDING}*"):
            number = path.name.removeprefix(_BUILDING).partition("-")[0]
            if number.isdigit() and not _is_alive(int(number)):
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, path: Path, tell: Say) -> Iterator[None]:
        with (self.folder / f".{path.name}.lock").open("wb") as file:
            if not try_lock(file.fileno()):
                tell("another process is building the same for this machine; waiting for it")
                lock(file.fileno())
            yield


@contextlib.contextmanager
def _heartbeat(kind: str, tell: Say) -> Iterator[None]:
    """A line now and then, so that nobody takes a build of minutes for a hang."""
    start, ended = time.monotonic(), threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT_S):
            tell(f"still building {kind}, {time.monotonic() - start:.0f} s so far")

    thread = threading.Thread(target=beat, name="madclip-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def open_cache(folder: str | None, limit_gb: float, tell: Say) -> Cache | None:
    """The cache in `folder`, or in this user's own place. None, and one line about it, where that can't be used.

    Raises: UsageError, OutputNotWritten where a folder was named and can't be used.
    """
    if not limit_gb >= 0:
        raise UsageError(f"--cache-limit {limit_gb}", "must be 0 or more gigabytes")
    place = Path(folder) if folder is not None else default_folder()
    if place is None:
        tell("no cache: this user has no home folder (--cache-dir names one)")
        return None
    why = _unusable(place)
    if why is None:
        return Cache(place, int(limit_gb * _GB))
    if folder is not None:
        raise OutputNotWritten(str(place), why, "name another --cache-dir, or --no-cache")
    tell(f"no cache: {place}: {why} (--cache-dir names another)")
    return None


def default_folder() -> Path | None:
    """$MADCLIP_CACHE, else the platform's place for caches; None without a home."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "madclip" / "cache"
        if sys.platform == "darwin":
            return Path.home() / "Library/Caches/madclip"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "madclip"
    except RuntimeError:
        return None


def _unusable(folder: Path) -> str | None:
    """Plans are programs: a place where others may write is no place for them."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state = folder.stat()
        if hasattr(os, "geteuid") and (state.st_uid != os.geteuid() or state.st_mode & 0o022):
            return "others may write into it"
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _damage(path: Path, key: Key) -> str | None:
    entry = _read(path)
    if entry is None or entry["key"] != key:
        return f"{path.name} is damaged (its {_ENTRY})"
    for name, known in entry["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != known["bytes"] or sha256_of(file) != known["sha256"]:
            return f"{path.name} is damaged ({name})"
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads((path / _ENTRY).read_bytes())
        whole = isinstance(entry["key"], dict) and isinstance(entry["files"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if whole else None


def _digest(key: Key) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
