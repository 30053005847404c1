"""Engines: each runs a bundle's graph on one device, one file each, behind one small protocol.

Nothing is imported or probed here; a missing library is a named error when that engine is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from madclip_runtime.engine_names import AUTO, ENGINES
from madclip_runtime.errors import EngineRefused, UsageError

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.cache import Cache

__all__ = ["AUTO", "ENGINES", "Answer", "Answers", "Engine", "EngineInfo", "check_outputs", "load_engine"]

_HOMES = {
    "auto": "auto",
    "cpu": "ort_cpu",
    "cuda": "ort_cuda",
    "tensorrt": "ort_tensorrt",
    "rtx": "ort_rtx",
    "tensorrt-native": "native_tensorrt",
    "rtx-native": "native_rtx",
}


@dataclass(frozen=True)
class EngineInfo:
    """What really runs, not what was asked for. name: e.g. "onnxruntime-cpu"; library: name and version."""

    name: str
    library: str
    device: str
    precision: str
    threads: int


class Answer(NamedTuple):
    """One head's outputs for N images. scores: float32 [N]. maps: float32 [N, S, S]. Both in 0–1."""

    scores: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32]


Answers = dict[str, Answer]
"""By head."""


class Engine(Protocol):
    """Runs one bundle's graph."""

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        ...

    def run(self, images: npt.NDArray[np.uint8], heads: Sequence[str] | None = None) -> Answers:
        """images: uint8 [N, S, S, 3] RGB 0–255, N ≥ 1. heads: which of the bundle's are wanted, None for all.

        The encoder runs once for all heads. Libraries compute those that aren't wanted too: where only one ever will
        be, load the engine for `bundle.only(head)`.
        Raises: EngineRefused where the library fails or an output is not finite.
        """
        ...


def load_engine(
    bundle: Bundle, name: str = "cpu", *, cache: Cache | None = None, tell: Callable[[str], None] = lambda _: None
) -> Engine:
    """The engine called `name` for this bundle, or a refusal; never another one in its place.

    name: one of ENGINES, or "auto", which chooses and tells. cache: where to keep what is built for this machine.
    Raises: UsageError for an unknown name; EngineRefused where its library is missing or it isn't active;
    BundleRefused where the graph can't be loaded or isn't ours.
    """
    if name not in _HOMES:
        choice = ", ".join((AUTO, *ENGINES))
        raise UsageError(f"engine {name!r}", "no such engine in this version", f"choose from: {choice}")
    home = importlib.import_module(f"madclip_runtime.engines.{_HOMES[name]}")
    engine: Engine = home.start(bundle, cache, tell)
    return engine


def check_outputs(answer: Answer, count: int, size: int, engine: str) -> None:
    """Every engine's last line: shapes as promised, finite, and within 0–1 (a hair of rounding allowed).

    Raises: EngineRefused.
    """
    scores, maps = answer
    if scores.shape != (count,) or maps.shape != (count, size, size):
        raise EngineRefused(engine, f"outputs of shape {scores.shape} and {maps.shape}", "export the bundle again")
    # np.minimum, not min: Python's min(0.5, nan) is 0.5, and a NaN in the maps would pass.
    low = float(np.minimum(scores.min(), maps.min()))
    high = float(np.maximum(scores.max(), maps.max()))
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # false for NaN as well
        raise EngineRefused(engine, f"outputs from {low} to {high} instead of 0–1", "do not use these results")
