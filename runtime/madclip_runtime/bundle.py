"""A bundle on disk: found, checked file by file against its manifest, then trusted.

`x.madclip/` holds manifest.json, model.onnx (+ model.onnx.data), a model.<head>.onnx for each of several, golden/.
What this module does not know: how to run the graph (engines do), or how a bundle is made (madclip_export does).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import BundleRefused, UsageError
from madclip_runtime.files import sha256_of
from madclip_runtime.manifest import Manifest, output_names
from madclip_runtime.onnx_places import MalformedGraph, external_places
from madclip_runtime.schema import SchemaError

__all__ = [
    "ENVIRONMENT",
    "GOLDEN_IMAGES",
    "MANIFEST",
    "MODEL",
    "Bundle",
    "Golden",
    "find_bundle",
    "golden_files",
    "head_graph",
]

ENVIRONMENT = "MADCLIP_BUNDLE"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
GOLDEN_IMAGES = "golden/images.npy"
_MAX_MANIFEST = 4 * 2**20
_RE_EXPORT = "copy the bundle again, or export it again"


@dataclass(frozen=True)
class Golden:
    """A few inputs with a checkpoint's own answers: one head's.

    images: uint8 [K, S, S, 3] RGB. scores: float32 [K]. maps: float32 [K, S, S]. All outputs in 0–1.
    """

    images: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]


class _Checking(threading.Thread):
    """Size and hash of every listed file, then where the graph keeps its weights; others can work meanwhile."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__(name="madclip-check", daemon=True)
        self._folder, self._manifest = folder, manifest
        self._fault: Exception | None = None
        self.start()

    def run(self) -> None:
        """What the thread does."""
        try:
            for name, entry in self._manifest.files.items():
                _check_file(self._folder, name, entry.sha256, entry.bytes)
            for name in filter(_is_graph, self._manifest.files):
                _check_places(self._folder / name, self._manifest)
        except Exception as error:  # carried to whoever asks for the result
            self._fault = error

    def result(self) -> None:
        """Raises: BundleRefused."""
        self.join()
        if self._fault is not None:
            raise self._fault


@dataclass(frozen=True)
class Bundle:
    """A bundle. path: its folder. digest: SHA-256 of manifest.json, which names every other file's hash.

    Nobody gets at its graph or its golden files before all its files have been checked.
    """

    path: Path
    manifest: Manifest
    digest: str
    _checking: _Checking = field(repr=False, compare=False)
    _graph: str = MODEL
    _whole: Manifest | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Open a bundle and check the size and hash of every file its manifest lists.

        Raises: BundleRefused naming the file and why.
        """
        bundle = cls.open(path)
        bundle.check()
        return bundle

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read the manifest, and check the files in a thread while others get ready; `check` waits for it.

        Raises: BundleRefused where the manifest itself is at fault.
        """
        folder = Path(path)
        data = _read_manifest(folder)
        try:
            manifest = Manifest.from_json(data)
        except SchemaError as error:
            raise BundleRefused(str(folder / MANIFEST), str(error), _RE_EXPORT) from None
        for required in (MODEL, GOLDEN_IMAGES, *sum(golden_files(manifest.heads).values(), ())):
            if required not in manifest.files:
                raise BundleRefused(str(folder), f"its manifest does not list {required}", _RE_EXPORT)
        return cls(folder, manifest, hashlib.sha256(data).hexdigest(), _Checking(folder, manifest))

    def check(self) -> None:
        """Wait until every file has been checked. Raises: BundleRefused naming the file and why."""
        self._checking.result()

    def only(self, head: str) -> Bundle:
        """The same bundle for an engine that will be asked for one head: with that head's own graph, if it has one.

        Libraries run the whole of a graph, whichever of its outputs are asked for.
        """
        graph, manifest = head_graph(head), self.manifest
        if len(manifest.heads) == 1 or graph not in manifest.files:
            return self
        files = {name: entry for name, entry in manifest.files.items() if name == graph or not _is_graph(name)}
        part = replace(manifest, heads={head: manifest.heads[head]}, files=files)
        return replace(self, manifest=part, _graph=graph, _whole=manifest)

    @property
    def model_path(self) -> Path:
        """The ONNX graph; its weights lie beside it. Raises: BundleRefused."""
        self.check()
        return self.path / self._graph

    def golden(self, head: str | None = None) -> Golden:
        """Read the golden inputs and one head's outputs, the first's by default. Raises: BundleRefused."""
        self.check()
        outputs = golden_files((self._whole or self.manifest).heads)[head or next(iter(self.manifest.heads))]
        images, scores, maps = (_read_array(self.path / name) for name in (GOLDEN_IMAGES, *outputs))
        size = self.manifest.input.size
        count = scores.size
        shapes = ((count, size, size, 3), (count,), (count, size, size))
        types = [array.dtype.str for array in (images, scores, maps)]
        if (images.shape, scores.shape, maps.shape) != shapes or types != ["|u1", "<f4", "<f4"]:
            raise BundleRefused(str(self.path / "golden"), "arrays of the wrong shape or type", _RE_EXPORT)
        return Golden(images, scores, maps)


def head_graph(head: str) -> str:
    """The file of one head's own graph, in a bundle of several."""
    return f"model.{head}.onnx"


def _is_graph(name: str) -> bool:
    return "/" not in name and name.endswith(".onnx")


def golden_files(heads: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Head → the files of its golden scores and maps, named as the graph's outputs are."""
    outputs = output_names(heads)
    return {head: (f"golden/{score}.npy", f"golden/{heat}.npy") for head, (score, heat) in outputs.items()}


def find_bundle(named: str | None, folder: Path | None = None) -> Path:
    """Which bundle a command means: the one named, else $MADCLIP_BUNDLE, else the only *.madclip in `folder`.

    Raises: UsageError with the next command to type.
    """
    chosen = named or os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen)
    here = folder or Path()
    found = sorted(here.glob("*.madclip"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:5])
        raise UsageError("which bundle?", f"{len(found)} here: {names}", f"name one: --bundle {found[0].name}")
    raise UsageError(
        "no bundle",
        f"--bundle is absent, ${ENVIRONMENT} is unset, and no *.madclip lies in this folder",
        "make one: madclip export --ckpt x.pt --fp16, then: madclip-run --bundle x-fp16.madclip image.png",
    )


def _check_places(model: Path, manifest: Manifest) -> None:
    """The graph's weights may lie only in files that the manifest lists, and whose hashes were therefore checked."""
    try:
        places = external_places(model)
    except (MalformedGraph, OSError) as error:
        raise BundleRefused(str(model), f"no ONNX graph ({error})", _RE_EXPORT) from None
    for place in sorted(places - manifest.files.keys()):
        raise BundleRefused(
            str(model), f"keeps weights in {place!r}, which its manifest does not list", "do not use it"
        )


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        if not folder.is_dir():
            why = "no such folder" if not folder.exists() else "a bundle is a folder, and this is a file"
            raise BundleRefused(str(folder), why, "name the x.madclip folder that `madclip export` wrote")
        if path.stat().st_size > _MAX_MANIFEST:
            raise BundleRefused(str(path), "far larger than any manifest", _RE_EXPORT)
        return path.read_bytes()
    except OSError as error:
        raise BundleRefused(str(path), error.strerror or str(error), _RE_EXPORT) from None


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy on a damaged file raises what it likes, EOFError and MemoryError too
        raise BundleRefused(str(path), str(error) or type(error).__name__, _RE_EXPORT) from None
    if not isinstance(array, np.ndarray):  # a zip archive opens as a dictionary
        raise BundleRefused(str(path), "not a .npy array", _RE_EXPORT)
    return array


def _check_file(folder: Path, name: str, sha256: str, size: int) -> None:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name or not parts.parts:
        raise BundleRefused(str(folder), f"its manifest lists {name!r}, which leaves the bundle", "do not use it")
    path = folder / parts
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BundleRefused(str(path), "a link that leaves the bundle", "do not use it")
        actual = path.stat().st_size
        if actual != size:
            raise BundleRefused(str(path), f"{actual} bytes, the manifest says {size}", _RE_EXPORT)
        if sha256_of(path) != sha256:
            raise BundleRefused(str(path), "its SHA-256 is not the manifest's", _RE_EXPORT)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in a name, a ring of links
        raise BundleRefused(str(path), str(getattr(error, "strerror", None) or error), _RE_EXPORT) from None
