"""What outputs are called: a stem like no other's, never longer than a file system takes."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["OUTPUTS", "Names", "stem_of"]

OUTPUTS = (".overlay.png", ".map.png", ".map.npy", ".mask.png")
_LONGEST_STEM = 180
"""Bytes; with a number, a head's name and an ending it stays under the 255 a file name may have."""


class Names:
    """Output stems, no two alike: two images of one name (a.png and a.jpg, or from two folders) never share one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, stem: Path) -> Path:
        """`stem`, or `stem-2`, `stem-3`, …; letter case does not tell two apart, as on some file systems."""
        name = stem.name
        if len(os.fsencode(name)) > _LONGEST_STEM:
            name = os.fsencode(name)[:_LONGEST_STEM].decode(errors="ignore")
        candidate, count = stem.with_name(name), 1
        while str(candidate).casefold() in self._taken:
            count += 1
            candidate = stem.with_name(f"{name}-{count}")
        self.take(candidate)
        return candidate

    def take(self, stem: Path) -> None:
        """Mark a stem that an earlier run has used."""
        self._taken.add(str(stem).casefold())


def stem_of(path: Path) -> Path:
    """The path without an image's ending; a DICOM file's name may be a UID, and its last part is no ending."""
    from madclip_runtime.imaging import SUFFIXES

    lower = path.name.lower()
    for suffix in (".nii.gz", ".nii", ".dcm", *SUFFIXES):
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return path.with_name(path.name[: -len(suffix)])
    return path
