"""A training run that survives kill -9: its whole state after each epoch, and a log a spreadsheet reads.

`x.pt.training` holds adapters, prompts, optimiser, random state and a fingerprint of everything that made them. A run
with the same fingerprint goes on from it and ends with the very numbers it would have had; any other starts anew.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from madclip_runtime.errors import OutputNotWritten
from madclip_runtime.files import write_whole

__all__ = ["TrainingLog", "TrainingState"]

_FORMAT = "madclip-training/1"


@dataclass(frozen=True)
class TrainingState:
    """Where one run keeps its state. fingerprint: of data, encoder, method and settings."""

    path: Path
    fingerprint: str

    def load(self) -> dict[str, Any] | None:
        """The last whole state of this very run, or None: no file, a damaged one, or another run's."""
        try:
            content = torch.load(io.BytesIO(self.path.read_bytes()), map_location="cpu", weights_only=True)
        except Exception:  # whatever is wrong with it, the answer is to start anew
            return None
        mine = isinstance(content, dict) and content.get("format") == _FORMAT
        return content if mine and content.get("fingerprint") == self.fingerprint else None

    def save(self, content: dict[str, Any]) -> None:
        """Written whole or not at all. Raises: OutputNotWritten."""
        buffer = io.BytesIO()
        torch.save({"format": _FORMAT, "fingerprint": self.fingerprint, **content}, buffer)
        write_whole(self.path, buffer.getvalue())


@dataclass(frozen=True)
class TrainingLog:
    """A CSV of one line an epoch: epoch, mean loss, seconds. path: None keeps no log."""

    path: Path | None

    def start(self, first_epoch: int) -> None:
        """A new file for a new run; a resumed run keeps the lines of the epochs it has. Raises: OutputNotWritten."""
        if self.path is None:
            return
        kept = self._lines(first_epoch) if first_epoch else []
        write_whole(self.path, "".join(["epoch,loss,seconds\n", *kept]).encode())

    def add(self, epoch: int, loss: float, seconds: float) -> None:
        """epoch counts from 1. Raises: OutputNotWritten."""
        if self.path is None:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{epoch},{loss:.6f},{seconds:.3f}\n")
        except OSError as error:
            raise OutputNotWritten(str(self.path), error.strerror or str(error), "choose another --log") from None

    def _lines(self, epochs: int) -> list[str]:
        assert self.path is not None
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
        except (OSError, ValueError):
            return []
        return [line for line in lines if line.endswith("\n") and line.split(",")[0].isdigit()][:epochs]
