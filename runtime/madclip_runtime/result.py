"""What one image gets: score, decision, map, regions, and what ran it. The one-page contract is docs/result.md."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.preprocess import resize_map

if TYPE_CHECKING:
    from madclip_runtime.regions import Region

__all__ = ["RESULT_FORMAT", "Result", "refusal_line"]

RESULT_FORMAT = "madclip-result/2"


@dataclass(frozen=True)
class Result:
    """One image's answer by one head.

    file: the name the caller gave. score: 0–1, by the head's image-score rule. decision: "normal", "abnormal",
    "borderline" (no further from the threshold than score_error), or "uncalibrated" where there is no threshold.
    score_error: the largest difference from the checkpoint's score that the export measured.
    image: uint8 [H, W, 3] RGB, upright. model_map: float32 [S, S] 0–1 as the graph gave it.
    orientation: the EXIF orientation that was undone, 1–8. spacing_mm: between rows and columns, None where unknown.
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
    score_error: float = 0.0
    orientation: int = 1
    spacing_mm: tuple[float, float] | None = None

    @cached_property
    def map(self) -> npt.NDArray[np.float32]:
        """The heat map at the image's own size: float32 [H, W] 0–1, aligned with `image`."""
        return resize_map(self.model_map, self.image.shape[0], self.image.shape[1])

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """Where the map reaches the threshold: bool [H, W]; None where the threshold says nothing of single pixels."""
        from madclip_runtime.regions import region_mask

        if self.threshold is None or self.image_score != "map_max":
            return None
        if self.map_max < self.threshold:
            return np.zeros(self.image.shape[:2], dtype=np.bool_)
        row, column = np.unravel_index(int(self.model_map.argmax()), self.model_map.shape)
        (height, width), (rows, columns) = self.image.shape[:2], self.model_map.shape
        peak = (int((row + 0.5) * height / rows), int((column + 0.5) * width / columns))
        return region_mask(self.map, peak, self.threshold)

    @cached_property
    def regions(self) -> tuple[Region, ...] | None:
        """The connected parts of `mask`, the largest first; None where there is no mask."""
        from madclip_runtime.regions import find_regions

        if self.mask is None:
            return None
        return find_regions(self.map, self.mask, self.spacing_mm) if self.mask.any() else ()

    def to_json(self) -> dict[str, Any]:
        """The JSON line: everything but the arrays."""
        height, width = self.image.shape[:2]
        regions = self.regions
        return {
            "format": RESULT_FORMAT,
            "file": self.file,
            "score": self.score,
            "decision": self.decision,
            "threshold": self.threshold,
            "operating_point": self.operating_point,
            "score_error": self.score_error,
            "map_max": self.map_max,
            "image_score": self.image_score,
            "regions": None if regions is None else [{**asdict(r), "box": list(r.box)} for r in regions],
            "width": width,
            "height": height,
            "orientation": self.orientation,
            "spacing_mm": None if self.spacing_mm is None else list(self.spacing_mm),
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


def refusal_line(file: str, name: str, why: str, do: str) -> dict[str, Any]:
    """The JSON line of a file that was refused. name: of the error."""
    return {"format": RESULT_FORMAT, "file": file, "refused": {"name": name, "why": why, "do": do}}
