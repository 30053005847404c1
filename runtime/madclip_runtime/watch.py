"""A drop folder: each file that is put into it is done once, whatever happens in between.

The journal, results.jsonl in --out, is both the record of what is done and the results themselves: a file's lines are
appended and synced after its pictures are written, so a restart neither repeats nor skips one. stdout is only a copy.
What this module does not know: how to be told of new files; it looks, once a second.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from madclip_runtime.errors import OutputNotWritten, UsageError

if TYPE_CHECKING:
    from madclip_runtime.inputs import Finder, Job

__all__ = ["JOURNAL", "Watch"]

JOURNAL = "results.jsonl"
_EVERY_S = 1.0
_LOOKS = 3
"""A file that has kept its size and time for as many looks has settled; an empty one is still being made."""
Mark = tuple[str, int, int]
"""A file as it was found: path below the folder, bytes, time of change in ns. Another content is another file."""


class Watch:
    """Use as a context: it holds the journal, and no second watcher may hold the same one at once."""

    def __init__(self, folder: Path, out: Path, finder: Finder, *, every_s: float = _EVERY_S) -> None:
        """Raises: UsageError where the folder isn't there."""
        if not folder.is_dir():
            raise UsageError(f"--watch {folder}", "no such folder", "make it first")
        self._folder, self._out, self._finder, self._every_s = folder, out, finder, every_s
        self._left: dict[Mark, int] = {}
        self._lines: dict[Mark, list[dict[str, Any]]] = {}
        self._taken: set[Mark] = set()
        self._journal: IO[bytes] | None = None

    def __enter__(self) -> Watch:
        """Open the journal, cut off what a power cut left of an unfinished file, and learn what is done.

        Raises: OutputNotWritten; UsageError where another process watches into the same folder, or the journal has
            a whole line that is none of ours (nothing is cut off then).
        """
        path = self._out / JOURNAL
        try:
            self._journal = path.open("a+b")
            _lock(self._journal, path)
            self._learn(self._journal)
        except OSError as error:
            self.__exit__()
            raise OutputNotWritten(str(path), error.strerror or str(error), "check the folder") from None
        except UsageError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None:
            self._journal.close()

    def jobs(self) -> Iterator[Job]:
        """For ever: files that have settled, sorted, each once."""
        looks: dict[Mark, int] = {}
        while True:
            looks = {mark: looks.get(mark, 0) + 1 for mark in self._look()}
            for mark in sorted(mark for mark, seen in looks.items() if seen >= _LOOKS):
                path = self._folder / mark[0]
                if mark in self._taken or _is_being_written(path):
                    continue
                self._taken.add(mark)
                if self._finder.is_usable(path):
                    yield from self._jobs_of(path, mark)
            time.sleep(self._every_s)

    def done(self, job: Job, lines: list[dict[str, Any]]) -> None:
        """A job is finished and its files written: journal its file once all its jobs are. Raises: OutputNotWritten."""
        if job.mark not in self._left:
            return
        self._lines.setdefault(job.mark, []).extend({**line, "stem": str(job.stem)} for line in lines)
        self._left[job.mark] -= 1
        if not self._left[job.mark]:
            del self._left[job.mark]
            self._append(job.mark, self._lines.pop(job.mark))

    def _jobs_of(self, path: Path, mark: Mark) -> Iterator[Job]:
        jobs = list(self._finder.of_file(path, str(path), self._out / mark[0]))
        self._left[mark] = len(jobs)
        for job in jobs:
            yield replace(job, mark=mark)

    def _append(self, mark: Mark, lines: list[dict[str, Any]]) -> None:
        """All lines of a file in one write; the last one carries the mark that says it is done."""
        if self._journal is None:
            raise RuntimeError("the journal is not open")
        lines[-1] = {**lines[-1], "watched": list(mark)}
        data = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode()
        try:
            self._journal.write(data)
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise OutputNotWritten(str(self._out / JOURNAL), error.strerror or str(error), "check its space") from None

    def _learn(self, journal: IO[bytes]) -> None:
        journal.seek(0)
        place = finished = 0
        for number, line in enumerate(journal, start=1):
            place += len(line)
            try:
                if line.endswith(b"\n") and self._remember(line):
                    finished = place
            except (ValueError, TypeError, AttributeError):
                where = f"{self._out / JOURNAL}, line {number}"
                raise UsageError(where, "is no line of a journal", "repair it, or move it away to begin anew") from None
        journal.truncate(finished)

    def _remember(self, line: bytes) -> bool:
        """Learn one line; whether a file ends with it."""
        entry = json.loads(line)
        if isinstance(entry.get("stem"), str):
            self._finder.take(Path(entry["stem"]))
        if "watched" not in entry:
            return False
        name, size, changed = entry["watched"]
        self._taken.add((str(name), int(size), int(changed)))
        return True

    def _look(self) -> Iterator[Mark]:
        for path in self._finder.plain_files(self._folder):
            try:
                state = path.stat()
            except OSError:  # taken away again between the two calls
                continue
            if state.st_size:
                yield path.relative_to(self._folder).as_posix(), state.st_size, state.st_mtime_ns


def _is_being_written(path: Path) -> bool:
    """Whether some process has the file open for writing, where the system can tell (a local file on Linux).

    A read lease is only granted on a file that nobody writes.
    """
    try:
        import fcntl

        with path.open("rb") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except (ImportError, AttributeError, OSError):
        return False
    return False


def _lock(file: IO[bytes], path: Path) -> None:
    from madclip_runtime.locks import try_lock

    if not try_lock(file.fileno()):
        raise UsageError(str(path), "another madclip-run is watching into this folder", "give each its own --out")
