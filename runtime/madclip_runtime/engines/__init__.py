"""Engines: each runs a bundle's graph on one device, one file each, behind one small protocol.

Nothing is imported or probed here; a missing library is a named error when that engine is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import EngineRefused, UsageError

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle

__all__ = ["ENGINES", "Answer", "Answers", "Engine", "EngineInfo", "check_outputs", "load_engine"]

ENGINES = ("cpu",)
"""What `load_engine` takes. Others join here, one file each."""


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

        The encoder runs once for all heads, and a head that isn't wanted costs nothing where the library allows that.
        Raises: EngineRefused where the library fails or an output is not finite.
        """
        ...


def load_engine(bundle: Bundle, name: str = "cpu") -> Engine:
    """The engine called `name` for this bundle, or a refusal; never another one in its place.

    Raises: UsageError for an unknown name; EngineRefused where its library is missing or it isn't active.
    """
    if name == "cpu":
        from madclip_runtime.engines.onnxruntime_cpu import OnnxRuntimeCpu

        return OnnxRuntimeCpu(bundle)
    raise UsageError(f"engine {name!r}", "no such engine in this version", f"choose from: {', '.join(ENGINES)}")


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
