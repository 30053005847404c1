"""A series through the detector: each image's score, the masks, and the overlays of the highest; in bounded memory.

What this module does not know: Orthanc, and what is written of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip_runtime.detector import Detector
from madclip_runtime.dicom import read_header
from madclip_runtime.dicom_series import Series
from madclip_runtime.errors import InputRefused
from madclip_runtime.frames import dicom_frame
from madclip_runtime.inputs import Job
from madclip_runtime.overlay import draw_overlay
from madclip_runtime.pipeline import Done, run_pipeline
from madclip_runtime.result import Result

__all__ = ["Findings", "Image", "examine"]


@dataclass(frozen=True)
class Image:
    """One image's part. source: the file. score: 0–1. decision: as in a Result. width, height: pixels.

    packed: bool [height, width] as np.packbits of it, None where no pixel reached the threshold or none can.
    """

    source: Path
    score: float
    decision: str
    height: int
    width: int
    packed: npt.NDArray[np.uint8] | None = None

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """bool [height, width]."""
        if self.packed is None:
            return np.zeros((self.height, self.width), dtype=np.bool_)
        flat = np.unpackbits(self.packed, count=self.height * self.width)
        return flat.reshape(self.height, self.width).astype(np.bool_)


@dataclass(frozen=True)
class Findings:
    """images: in the series' own order. overlays: number in `images` → uint8 [h, w, 3] RGB, of the highest scores.

    head, threshold, operating_point: what decided. has_masks: whether the threshold means anything to single pixels.
    """

    detector: Detector
    images: tuple[Image, ...]
    overlays: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def highest(self) -> int:
        """The number of the image with the highest score; the first of equals."""
        return max(range(len(self.images)), key=lambda number: (self.images[number].score, -number))

    @property
    def has_masks(self) -> bool:
        """Whether the threshold says anything of single pixels."""
        card = self.detector.bundle.manifest.heads[self.detector.head]
        return self.detector.threshold is not None and card.image_score == "map_max"


def examine(files: Sequence[Path], detector: Detector, overlays: int, batch: int) -> Findings:
    """All files of one series. overlays: how many pictures, of the highest scores.

    Raises: InputRefused for the first image that can't be used: of a series with a hole nothing is told.
    """
    headers = [read_header(path, f"image {number} of {len(files)}") for number, path in enumerate(files, 1)]
    series = Series.of(headers)
    images: list[Image] = []
    best: list[tuple[float, int, Result]] = []

    def jobs() -> Iterator[Job]:
        for header in series.files:
            yield Job(header.path, header.name, header.path, partial(dicom_frame, header, series))

    def keep(done: Done) -> None:
        if done.refusal is not None:
            raise done.refusal
        (result,) = done.results
        images.append(_image(done.job.source, result))
        heapq.heappush(best, (result.score, -len(images), result))
        if len(best) > overlays:
            heapq.heappop(best)

    run_pipeline(jobs(), detector, keep, batch=batch)
    if not images:
        raise InputRefused("the series", "holds no image")
    drawn = {-place - 1: draw_overlay(result) for _, place, result in best}
    return Findings(detector, tuple(images), dict(sorted(drawn.items())))


def _image(source: Path, result: Result) -> Image:
    height, width = result.image.shape[:2]
    mask = result.mask
    packed = None if mask is None or not mask.any() else np.packbits(mask)
    return Image(source, result.score, result.decision, height, width, packed)
