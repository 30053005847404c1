"""Which files a call means, and where each one's overlay goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import SUFFIXES

__all__ = ["Job", "find_images"]

_OVERLAY = ".overlay.png"


@dataclass(frozen=True)
class Job:
    """One image to do. name: as the caller would write it; overlay: where its picture goes, unlike any other's."""

    source: Path
    name: str
    overlay: Path


def find_images(arguments: Sequence[str], out: Path) -> tuple[list[Job], int]:
    """Files as given, folders searched through and sorted; our own overlays and hidden files are left out.

    Returns the jobs and how many plain files in folders were left out for their ending.
    Raises: InputRefused where a folder holds no image at all.
    """
    jobs: list[Job] = []
    taken: set[Path] = set()
    skipped = 0
    for argument in arguments:
        path = Path(argument)
        if not path.is_dir():
            jobs.append(Job(path, argument, _free(out / path.name, taken)))
            continue
        files, others = _in_folder(path, out)
        skipped += others
        for file in files:
            jobs.append(Job(file, str(file), _free(out / file.relative_to(path), taken)))
    return jobs, skipped


def _in_folder(folder: Path, out: Path) -> tuple[list[Path], int]:
    plain = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _ours(path, folder, out)]
    images = [path for path in plain if path.suffix.lower() in SUFFIXES]
    if not images:
        raise InputRefused(str(folder), "no image in this folder", f"images end in {', '.join(sorted(SUFFIXES))}")
    return images, len(plain) - len(images)


def _ours(path: Path, folder: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    nested = out.resolve() != folder.resolve() and path.resolve().is_relative_to(out.resolve())
    return hidden or nested or path.name.endswith(_OVERLAY)


def _free(path: Path, taken: set[Path]) -> Path:
    """Two images of one name (a.png and a.jpg, or from two folders) never share an overlay."""
    candidate, count = path.with_name(path.stem + _OVERLAY), 1
    while candidate in taken:
        count += 1
        candidate = path.with_name(f"{path.stem}-{count}{_OVERLAY}")
    taken.add(candidate)
    return candidate
