"""Which files a call means, in which order, and where each one's outputs go."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from madclip_runtime.errors import InputRefused
from madclip_runtime.naming import OUTPUTS, Names, stem_of
from madclip_runtime.slice_choice import SliceChoice

if TYPE_CHECKING:
    from madclip_runtime.dicom import Header
    from madclip_runtime.dicom_series import Series
    from madclip_runtime.frames import Frame

__all__ = ["STDIN", "Finder", "Job", "SliceChoice", "find_images", "listed"]

STDIN = "-"
_LONGEST_LIST_LINE = 64 * 2**10


@dataclass(frozen=True)
class Job:
    """One frame to do. name: as the caller would write it. stem: its outputs' path without an ending, like no other's.

    load: decodes it (raises InputRefused). refusal: set where it is known from the start that there is nothing to do.
    mark: whatever the caller wants to know it by again.
    """

    source: Path
    name: str
    stem: Path
    load: Callable[[], Frame]
    refusal: InputRefused | None = None
    mark: Any = None


class Finder:
    """Turns arguments into jobs, one by one. skipped: plain files in folders that were left out for what they are."""

    def __init__(self, out: Path, slices: SliceChoice | None = None, stdin: BinaryIO | None = None) -> None:
        self.skipped = 0
        self._out = out
        self._slices = slices or SliceChoice()
        self._names = Names()
        self._stdin = stdin

    def jobs(self, arguments: Iterable[str]) -> Iterator[Job]:
        """In the order of the arguments; a folder's files sorted, each DICOM series together and in its own order."""
        for argument in arguments:
            yield from self._of(argument)

    def take(self, stem: Path) -> None:
        """Mark outputs of an earlier run as taken."""
        self._names.take(stem)

    def plain_files(self, folder: Path) -> Iterator[Path]:
        """All files below a folder, sorted, but for hidden ones and our own outputs."""
        ours = _ours_in(folder, self._out)
        return (path for path in sorted(folder.rglob("*")) if not ours(path) and path.is_file())

    def is_usable(self, path: Path) -> bool:
        """Whether a file in a folder is meant: by its ending, or DICOM by its mark; others are counted as skipped."""
        usable = _is_picture(path) or _is_volume(path) or _header_of(path) is not None
        self.skipped += not usable
        return usable

    def _of(self, argument: str) -> Iterator[Job]:
        path = Path(argument)
        if argument == STDIN:
            yield self._job(path, "stdin", self._out / "stdin", self._from_stdin)
        elif _is_folder(path):
            yield from self._in_folder(path, argument)
        elif glob.has_magic(argument) and not _exists(path):
            yield from self._matching(argument)
        else:
            yield from self.of_file(path, argument, self._out / path.name)

    def of_file(self, path: Path, name: str, place: Path) -> Iterator[Job]:
        """The job of one file, or a job for each slice of a volume. place: the path its outputs' stem is made from."""
        if _is_volume(path):
            yield from self._slices_of(path, name, place)
        else:
            from madclip_runtime.frames import read_frame

            yield self._job(path, name, stem_of(place), partial(read_frame, path, name))

    def _job(self, source: Path, name: str, stem: Path, load: Callable[[], Frame]) -> Job:
        return Job(source, name, self._names.free(stem), load)

    def _refused(self, source: Path, name: str, error: InputRefused) -> Job:
        return Job(source, name, self._out / source.name, partial(_raise, error), error)

    def _from_stdin(self) -> Frame:
        from madclip_runtime.frames import read_frame
        from madclip_runtime.imaging import MAX_BYTES

        data = (self._stdin or sys.stdin.buffer).read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputRefused("stdin", f"larger than {MAX_BYTES // 2**20} MiB")
        return read_frame(data, "stdin")

    def _matching(self, pattern: str) -> Iterator[Job]:
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (a whole pattern, absolute or not)
        if not found:
            yield self._refused(Path(pattern), pattern, InputRefused(pattern, "nothing matches it", "see the folder"))
        for name in found:
            yield from self._of(name if name != STDIN else f"./{name}")

    def _slices_of(self, path: Path, name: str, place: Path) -> Iterator[Job]:
        from madclip_runtime.frames import nifti_frame, nifti_slices

        axis = self._slices.axis
        try:
            chosen = self._slices.of(nifti_slices(path, axis), name)
        except InputRefused as error:
            yield self._refused(path, name, error)
            return
        for index in chosen:
            stem = stem_of(place)
            numbered = stem.with_name(f"{stem.name}.axis{axis}-{index:04d}")
            load = partial(nifti_frame, path, axis, index)
            yield self._job(path, f"{name}[axis={axis},slice={index}]", numbered, load)

    def _in_folder(self, folder: Path, argument: str) -> Iterator[Job]:
        from madclip_runtime.imaging import SUFFIXES

        headers: dict[Path, Header | InputRefused] = {}
        usable: list[Path] = []
        for path in self.plain_files(folder):
            if _is_picture(path) or _is_volume(path):
                usable.append(path)
            elif (header := _header_of(path)) is not None:
                headers[path] = header
                usable.append(path)
            else:
                self.skipped += 1
        if not usable:
            self.skipped = 0
            why = f"pictures end in {', '.join(sorted(SUFFIXES))}; volumes in .nii, .nii.gz; DICOM is told by its mark"
            yield self._refused(folder, argument, InputRefused(argument, "no image in this folder", why))
            return
        yield from self._sorted(folder, usable, headers)

    def _sorted(self, folder: Path, usable: list[Path], headers: dict[Path, Header | InputRefused]) -> Iterator[Job]:
        """Sorted by path, but a series is done whole, in its own order, where its first file stands."""
        whole = _series_by_file(headers)
        done: set[Path] = set()
        for path in usable:
            header = headers.get(path)
            if header is None:
                yield from self.of_file(path, str(path), self._out / path.relative_to(folder))
            elif isinstance(header, InputRefused):
                yield self._refused(path, str(path), header)
            elif path not in done:
                series = whole[path]
                done.update(item.path for item in series.files)
                for item in series.files:
                    from madclip_runtime.frames import dicom_frame

                    stem = stem_of(self._out / item.path.relative_to(folder))
                    yield self._job(item.path, str(item.path), stem, partial(dicom_frame, item, series))


def find_images(arguments: Sequence[str], out: Path) -> tuple[list[Job], int]:
    """Pictures only, all at once: files as given, folders searched through and sorted.

    Returns the jobs and how many files in folders were left out. Raises: InputRefused where a folder holds none.
    """
    from madclip_runtime.imaging import SUFFIXES

    finder = Finder(out)
    found: list[Job] = []
    skipped = 0
    for argument in arguments:
        path = Path(argument)
        if not _is_folder(path):
            found += finder.jobs([argument])
            continue
        plain = list(finder.plain_files(path))
        pictures = [file for file in plain if _is_picture(file)]
        if not pictures:
            why = f"pictures end in {', '.join(sorted(SUFFIXES))}"
            raise InputRefused(argument, "no image in this folder", why)
        skipped += len(plain) - len(pictures)
        for file in pictures:
            found += finder.of_file(file, str(file), out / file.relative_to(path))
    return found, skipped


def listed(source: BinaryIO) -> Iterator[str]:
    """Paths from a list, one a line as they come; divided by NUL bytes instead where the first line holds one."""
    first = source.readline(_LONGEST_LIST_LINE)
    if b"\0" in first:
        for part in (first + source.read()).split(b"\0"):
            if part.strip(b"\r\n"):
                yield os.fsdecode(part)
        return
    line = first
    while line:
        text = line.rstrip(b"\r\n")
        if text:
            yield os.fsdecode(text)
        line = source.readline(_LONGEST_LIST_LINE)


def _raise(error: InputRefused) -> Frame:
    raise error


def _header_of(path: Path) -> Header | InputRefused | None:
    """A DICOM file's header, or why it is refused; None where it is no DICOM file."""
    from madclip_runtime.dicom import is_dicom, read_header

    try:
        return read_header(path, str(path)) if is_dicom(path) else None
    except InputRefused as error:
        return error


def _series_by_file(headers: dict[Path, Header | InputRefused]) -> dict[Path, Series]:
    from madclip_runtime.dicom_series import group_series

    read = [header for header in headers.values() if not isinstance(header, InputRefused)]
    return {item.path: series for series in group_series(read) for item in series.files} if read else {}


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name longer than the system takes, before Python 3.12; reading it will say so
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True


def _is_picture(path: Path) -> bool:
    from madclip_runtime.imaging import SUFFIXES

    return path.suffix.lower() in SUFFIXES


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _ours_in(folder: Path, out: Path) -> Callable[[Path], bool]:
    """Whether a file below `folder` is hidden, or an output of ours."""
    root, target = folder.resolve(), out.resolve()
    below = root in target.parents  # out around the folder must not swallow its images

    def ours(path: Path) -> bool:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        return hidden or path.name.endswith(OUTPUTS) or (below and path.resolve().is_relative_to(target))

    return ours
