"""A bundle put together beside its final place, and moved there only when every gate has passed."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.bundle import GOLDEN_IMAGES, MANIFEST, Golden, golden_files
from madclip_runtime.errors import OutputNotWritten
from madclip_runtime.files import sha256_of, write_whole
from madclip_runtime.manifest import FileEntry

__all__ = ["file_entries", "staging", "write_golden"]


@contextlib.contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A folder beside `out` to build in; on a clean exit it becomes `out`, on any error it goes without a trace.

    An older bundle at `out` stays whole until the new one is. Raises: OutputNotWritten.
    """
    if out.exists() and not (out / MANIFEST).is_file():
        raise OutputNotWritten(str(out), "exists and is not a bundle", "choose another --out")
    if not out.resolve().parent.is_dir():
        raise OutputNotWritten(str(out), "its folder does not exist", f"mkdir -p {out.parent}")
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.resolve().parent))
    try:
        folder.chmod(0o755)
        yield folder
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # libraries write some for this user alone; a box has another
        _swap(folder, out)
    except OSError as error:
        raise OutputNotWritten(str(out), error.strerror or str(error), "check the folder and its space") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_golden(folder: Path, images: npt.NDArray[np.uint8], golden: Mapping[str, Golden]) -> None:
    """golden/*.npy: the images once, each head's answers. Raises: OutputNotWritten."""
    (folder / "golden").mkdir(exist_ok=True)
    arrays: dict[str, npt.NDArray[Any]] = {GOLDEN_IMAGES: images}
    for head, names in golden_files(golden).items():
        arrays |= zip(names, (golden[head].scores, golden[head].maps), strict=True)
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_whole(folder / name, buffer.getvalue())


def file_entries(folder: Path) -> dict[str, FileEntry]:
    """Hash and size of every file in the folder, except the manifest itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): FileEntry(sha256_of(path), path.stat().st_size) for path in files}


def _swap(folder: Path, out: Path) -> None:
    if not out.exists():
        folder.rename(out)
        return
    old = folder.with_name(folder.name + ".old")
    out.rename(old)
    folder.rename(out)
    shutil.rmtree(old)
