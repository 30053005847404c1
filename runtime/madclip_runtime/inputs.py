"""Which files a call means, and where each one's overlay goes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import SUFFIXES

__all__ = ["Job", "find_each", "find_images"]

_OVERLAY = ".overlay.png"
_LONGEST_STEM = 200
"""Bytes; with a number and the ending it stays under the 255 a file name may have."""


@dataclass(frozen=True)
class Job:
    """One image to do. name: as the caller would write it; overlay: where its picture goes, unlike any other's.

    refusal: set where it is known from the start that there is nothing to do (a folder without an image).
    """

    source: Path
    name: str
    overlay: Path
    refusal: InputRefused | None = None


def find_images(arguments: Sequence[str], out: Path) -> tuple[list[Job], int]:
    """As `find_each`. Raises: InputRefused where a folder holds no image at all."""
    jobs, skipped = find_each(arguments, out)
    for job in jobs:
        if job.refusal is not None:
            raise job.refusal
    return jobs, skipped


def find_each(arguments: Sequence[str], out: Path) -> tuple[list[Job], int]:
    """Files as given, folders searched through and sorted; our own overlays and hidden files are left out.

    Returns the jobs and how many plain files in folders were left out for their ending.
    """
    jobs: list[Job] = []
    taken: set[Path] = set()
    skipped = 0
    for argument in arguments:
        path = Path(argument)
        if not _is_folder(path):
            jobs.append(Job(path, argument, _free(out / path.name, taken)))
            continue
        files, others = _in_folder(path, out)
        skipped += others if files else 0
        for file in files:
            jobs.append(Job(file, str(file), _free(out / file.relative_to(path), taken)))
        if not files:
            jobs.append(Job(path, argument, out, _no_image(argument)))
    return jobs, skipped


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name longer than the system takes, before Python 3.12; reading it will say so
        return False


def _no_image(folder: str) -> InputRefused:
    return InputRefused(folder, "no image in this folder", f"images end in {', '.join(sorted(SUFFIXES))}")


def _in_folder(folder: Path, out: Path) -> tuple[list[Path], int]:
    plain = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _ours(path, folder, out)]
    images = [path for path in plain if path.suffix.lower() in SUFFIXES]
    return images, len(plain) - len(images)


def _ours(path: Path, folder: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    below = folder.resolve() in out.resolve().parents  # out around the folder must not swallow its images
    return hidden or (below and path.resolve().is_relative_to(out.resolve())) or path.name.endswith(_OVERLAY)


def _free(path: Path, taken: set[Path]) -> Path:
    """Two images of one name (a.png and a.jpg, or from two folders) never share an overlay."""
    stem = path.stem
    if len(os.fsencode(stem)) > _LONGEST_STEM:
        stem = os.fsencode(stem)[:_LONGEST_STEM].decode(errors="ignore")
    candidate, count = path.with_name(stem + _OVERLAY), 1
    while candidate in taken:
        count += 1
        candidate = path.with_name(f"{stem}-{count}{_OVERLAY}")
    taken.add(candidate)
    return candidate
