"""Bundle + engine = Detector; `detector(image)` is a Result.

detector = Detector.load("x-fp16.madclip")
result = detector("image.png")
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip_runtime.bundle import Bundle
from madclip_runtime.engines import Engine, load_engine
from madclip_runtime.errors import InputRefused, UsageError
from madclip_runtime.imaging import MIN_SIDE, DecodedImage, read_image
from madclip_runtime.preprocess import to_model_input
from madclip_runtime.result import Result

__all__ = ["Detector", "ImageLike"]

ImageLike = str | Path | bytes | npt.NDArray[np.uint8]


class Detector:
    """Scores images with one head of a bundle on one engine. Not for use from several threads at once."""

    def __init__(
        self, bundle: Bundle, engine: Engine, *, head: str | None = None, threshold: float | None = None
    ) -> None:
        """head: which of the bundle's, None for its only one. threshold: overrides the head's default operating point.

        Raises: UsageError where the head must be named or isn't there, or the threshold is not in 0–1.
        """
        if threshold is not None and not (math.isfinite(threshold) and 0 <= threshold <= 1):
            raise UsageError(f"threshold {threshold}", "a score lies in 0–1", "give a number from 0 to 1")
        self.bundle = bundle
        self.engine = engine
        self.head = _choose_head(bundle, head)
        calibration = bundle.manifest.heads[self.head].calibration
        self.operating_point = "given" if threshold is not None else calibration.default
        if threshold is None and calibration.default is not None:
            threshold = calibration.points[calibration.default].threshold
        self.threshold = threshold

    @classmethod
    def load(
        cls, path: str | Path, *, engine: str = "cpu", head: str | None = None, threshold: float | None = None
    ) -> Detector:
        """Open and check a bundle, start the engine.

        Raises: BundleRefused, EngineRefused, UsageError.
        """
        bundle = Bundle.load(path)
        _choose_head(bundle, head)  # before the engine's seconds, not after them
        return cls(bundle, load_engine(bundle, engine), head=head, threshold=threshold)

    def __call__(self, image: ImageLike, *, name: str | None = None) -> Result:
        """Score one image: a path, the bytes of a file, or pixels (uint8 [H, W] grey or [H, W, 3] RGB, 0–255).

        name: what to call it in the result. Raises: InputRefused, EngineRefused.
        """
        start = time.perf_counter()
        decoded, label = _decode(image, name)
        decoded_at = time.perf_counter()
        square = to_model_input(decoded.pixels, self.bundle.manifest.input.size)
        prepared_at = time.perf_counter()
        scores, maps = self.engine.run(square[None], [self.head])[self.head]
        computed_at = time.perf_counter()
        times = {
            "decode": (decoded_at - start) * 1e3,
            "preprocess": (prepared_at - decoded_at) * 1e3,
            "compute": (computed_at - prepared_at) * 1e3,
        }
        return self._result(label, decoded, float(scores[0]), maps[0], times)

    def _result(
        self,
        label: str,
        decoded: DecodedImage,
        score: float,
        heat: npt.NDArray[np.float32],
        times_ms: dict[str, float],
    ) -> Result:
        manifest, info = self.bundle.manifest, self.engine.info
        return Result(
            file=label,
            score=score,
            decision=self._decide(score),
            threshold=self.threshold,
            operating_point=self.operating_point,
            map_max=float(heat.max()),
            engine=info.name,
            library=info.library,
            precision=info.precision,
            bundle=manifest.model_id,
            bundle_digest=self.bundle.digest,
            head=self.head,
            image_score=manifest.heads[self.head].image_score,
            image=decoded.pixels,
            model_map=heat,
            times_ms=times_ms,
            notes=decoded.notes,
            notices=manifest.notices,
        )

    def _decide(self, score: float) -> str:
        if self.threshold is None:
            return "uncalibrated"
        return "abnormal" if score >= self.threshold else "normal"


def _choose_head(bundle: Bundle, name: str | None) -> str:
    heads = bundle.manifest.heads
    if name is None and bundle.manifest.only_head is not None:
        return bundle.manifest.only_head
    if name is None or name not in heads:
        why = "the bundle has several heads" if name is None else f"the bundle has no head {name!r}"
        raise UsageError(str(bundle.path), why, f"name one: --head {' | '.join(heads)}")
    return name


def _decode(image: ImageLike, name: str | None) -> tuple[DecodedImage, str]:
    if isinstance(image, (str, Path)):
        label = name or str(image)
        return read_image(Path(image), name=label), label
    if isinstance(image, bytes):
        label = name or "image bytes"
        return read_image(image, name=label), label
    label = name or "pixels"
    return DecodedImage(_as_rgb(image, label), "array"), label


def _as_rgb(pixels: npt.NDArray[np.uint8], label: str) -> npt.NDArray[np.uint8]:
    if pixels.dtype != np.uint8:
        raise InputRefused(label, f"pixels are {pixels.dtype}, not uint8", "scale them to 0–255 first")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or min(pixels.shape[:2]) < MIN_SIDE:
        raise InputRefused(label, f"pixels have shape {pixels.shape}", f"give [H, W] or [H, W, 3], ≥ {MIN_SIDE} a side")
    return pixels
