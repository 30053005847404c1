"""The frozen encoder's taps, computed once an augmented image and kept.

The encoder never changes and the sixteen variants are fixed, so every epoch reads what the first pass wrote: in
memory, or past a stated budget in one memory-mapped file that goes when the store is closed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from madclip.encoder import Encoder

__all__ = ["FeatureStore"]


class FeatureStore:
    """float32 [N, levels, L, d]. A context manager: leaving it frees the memory or removes the file."""

    def __init__(self, count: int, levels: int, length: int, width: int, *, budget_bytes: int) -> None:
        """budget_bytes: past this the features live in a file in the system's temporary folder."""
        shape = (count, levels, length, width)
        self.nbytes = int(np.prod(shape)) * 4
        self.on_disk = self.nbytes > budget_bytes
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._array: npt.NDArray[np.float32] | None
        if self.on_disk:
            self._folder = tempfile.TemporaryDirectory(prefix="madclip-features-")
            path = Path(self._folder.name) / "features.npy"
            self._array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
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
    def compute(cls, encoder: Encoder, images: Tensor, *, budget_bytes: int, batch: int = 16) -> FeatureStore:
        """images: float [N, 3, S, S] RGB 0–1. A progress bar on stderr, where that is a terminal."""
        length, width = encoder.tap_shape()
        store = cls(len(images), len(encoder.spec.taps), length, width, budget_bytes=budget_bytes)
        with tqdm(total=len(images), desc="encoder features", unit="image", disable=None) as bar:
            for start in range(0, len(images), batch):
                taps = encoder.taps(images[start : start + batch])
                store._write(start, torch.stack(taps, dim=1))
                bar.update(len(taps[0]))
        return store

    def batch(self, indices: Tensor) -> list[Tensor]:
        """indices: int64 [B] → one float [B, L, d] a level."""
        assert self._array is not None, "the store is closed"
        chosen = torch.from_numpy(self._array[indices.numpy()])
        return list(chosen.unbind(dim=1))

    def _write(self, start: int, taps: Tensor) -> None:
        assert self._array is not None, "the store is closed"
        self._array[start : start + len(taps)] = taps.numpy()
