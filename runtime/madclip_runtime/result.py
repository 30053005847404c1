"""What one image gets: score, decision, map, and what ran it. The one-page contract is docs/result.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.preprocess import resize_map

__all__ = ["RESULT_FORMAT", "Result"]

RESULT_FORMAT = "madclip-result/1"


@dataclass(frozen=True)
class Result:
    """One image's answer.

    file: the name the caller gave. score: 0–1, by the bundle's image-score rule. decision: "normal", "abnormal",
    or "uncalibrated" where the bundle has no threshold and none was given.
    image: uint8 [H, W, 3] RGB, upright. model_map: float32 [S, S] 0–1 as the graph gave it.
    times_ms: wall time of decode, preprocess, compute. notes: conversions of this image worth knowing.
    """

    file: str
    score: float
    decision: str
    threshold: float | None
    operating_point: str | None
    map_max: float
    engine: str
    library: str
    precision: str
    bundle: str
    bundle_digest: str
    head: str
    image_score: str
    image: npt.NDArray[np.uint8]
    model_map: npt.NDArray[np.float32]
    times_ms: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def map(self) -> npt.NDArray[np.float32]:
        """The heat map at the image's own size: float32 [H, W] 0–1, aligned with `image`."""
        return resize_map(self.model_map, self.image.shape[0], self.image.shape[1])

    def to_json(self) -> dict[str, Any]:
        """The JSON line: everything but the arrays."""
        height, width = self.image.shape[:2]
        return {
            "format": RESULT_FORMAT,
            "file": self.file,
            "score": self.score,
            "decision": self.decision,
            "threshold": self.threshold,
            "operating_point": self.operating_point,
            "map_max": self.map_max,
            "image_score": self.image_score,
            "width": width,
            "height": height,
            "engine": self.engine,
            "library": self.library,
            "precision": self.precision,
            "bundle": self.bundle,
            "bundle_digest": self.bundle_digest,
            "head": self.head,
            "times_ms": {name: round(value, 3) for name, value in self.times_ms.items()},
            "notes": list(self.notes),
            "notices": list(self.notices),
        }
