"""The frozen encoder's taps, computed once an augmented image and kept.

The encoder never changes and an image's sixteen variants are fixed by its pixels, so every epoch reads what the first
pass wrote: in memory, or past a stated budget in one memory-mapped file that goes when the store is closed. With a
cache folder, other seeds and ablations read it too.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from madclip.augment import AUGMENTATION, VARIANTS
from madclip.encoder import Encoder
from madclip_runtime.errors import OutputNotWritten
from madclip_runtime.files import make_folder, write_whole

__all__ = ["FeatureCache", "FeatureStore"]

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureCache:
    """A folder of one file an image: float32 [16, levels, L, d], named by what it depends on, so it can't go stale.

    The name hashes the encoder's tensors, its taps, size, mean and std, torch's version and device, the augmentation's
    version and the variants' own pixels. A file that can't be read whole is computed again.
    """

    folder: Path

    def find(self, encoder: Encoder, variants: Tensor, shape: tuple[int, ...]) -> Features | None:
        """What is kept for these variants (float [16, 3, S, S]), or None."""
        try:
            kept = np.load(self._path(encoder, variants), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return kept if kept.shape == shape and kept.dtype == np.float32 else None

    def keep(self, encoder: Encoder, variants: Tensor, features: Features) -> None:
        """Raises: OutputNotWritten."""
        buffer = io.BytesIO()
        np.save(buffer, features, allow_pickle=False)
        make_folder(self.folder)
        write_whole(self._path(encoder, variants), buffer.getvalue())

    def _path(self, encoder: Encoder, variants: Tensor) -> Path:
        spec = encoder.spec
        contract = (spec.sha256, spec.quick_gelu, spec.taps, spec.image_size, spec.mean, spec.std, AUGMENTATION)
        digest = hashlib.sha256(repr((*contract, torch.__version__, encoder.device.type)).encode())
        digest.update(variants.contiguous().numpy().tobytes())
        return self.folder / f"{digest.hexdigest()[:40]}.npy"


class FeatureStore:
    """float32 [N, levels, L, d]. A context manager: leaving it frees the memory or removes the file."""

    def __init__(self, count: int, levels: int, length: int, width: int, *, budget_bytes: int) -> None:
        """budget_bytes: past this the features live in a file in the system's temporary folder."""
        shape = (count, levels, length, width)
        self.nbytes = int(np.prod(shape)) * 4
        self.on_disk = self.nbytes > budget_bytes
        self.reused = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._array: Features | None
        if self.on_disk:
            self._folder = tempfile.TemporaryDirectory(prefix="madclip-features-")
            self._array = _map_file(Path(self._folder.name) / "features.npy", shape)
        else:
            self._array = np.empty(shape, dtype=np.float32)

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._array = None
        if self._folder is not None:
            self._folder.cleanup()

    @classmethod
    def compute(
        cls, encoder: Encoder, images: Tensor, *, budget_bytes: int, cache: FeatureCache | None = None
    ) -> FeatureStore:
        """images: float [N, 3, S, S] RGB 0–1, sixteen variants an image. Progress on stderr, where that is a terminal.

        Raises: OutputNotWritten where the cache can't be written.
        """
        length, width = encoder.tap_shape()
        store = cls(len(images), len(encoder.spec.taps), length, width, budget_bytes=budget_bytes)
        with tqdm(total=len(images), desc="encoder features", unit="image", disable=None) as bar:
            for start in range(0, len(images), VARIANTS):
                variants = images[start : start + VARIANTS]
                store._write(start, store._features(encoder, variants, cache))
                bar.update(len(variants))
        return store

    def batch(self, indices: Tensor) -> list[Tensor]:
        """indices: int64 [B] → one float [B, L, d] a level."""
        assert self._array is not None, "the store is closed"
        chosen = torch.from_numpy(self._array[indices.numpy()])
        return list(chosen.unbind(dim=1))

    def _features(self, encoder: Encoder, variants: Tensor, cache: FeatureCache | None) -> Features:
        assert self._array is not None, "the store is closed"
        kept = cache.find(encoder, variants, (len(variants), *self._array.shape[1:])) if cache else None
        if kept is not None:
            self.reused += len(variants)
            return kept
        fresh: Features = torch.stack(encoder.taps(variants), dim=1).cpu().numpy()
        if cache:
            cache.keep(encoder, variants, fresh)
        return fresh

    def _write(self, start: int, features: Features) -> None:
        assert self._array is not None, "the store is closed"
        self._array[start : start + len(features)] = features


def _map_file(path: Path, shape: tuple[int, ...]) -> Features:
    try:
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    except OSError as error:
        raise OutputNotWritten(str(path), error.strerror or str(error), "free some space, or set TMPDIR") from None
