"""Bundle + engine = Detector; `detector(image)` is a Result.

detector = Detector.load("x-fp16.madclip")
result = detector("image.png")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from madclip_runtime.bundle import Bundle
from madclip_runtime.decision import ALL_HEADS, Point, choose_heads, choose_point
from madclip_runtime.engines import Answers, Engine, load_engine
from madclip_runtime.errors import InputRefused, UsageError
from madclip_runtime.frames import Frame, Measured, read_frame, to_picture
from madclip_runtime.imaging import MIN_SIDE, DecodedImage
from madclip_runtime.preprocess import to_model_input
from madclip_runtime.result import Result
from madclip_runtime.window import Window

if TYPE_CHECKING:
    from madclip_runtime.cache import Cache

__all__ = ["ALL_HEADS", "Detector", "ImageLike", "Prepared"]

ImageLike = str | Path | bytes | npt.NDArray[np.uint8] | DecodedImage | Measured


@dataclass(frozen=True)
class View:
    """What some heads are shown of one frame. square: uint8 [S, S, 3] RGB."""

    heads: tuple[str, ...]
    image: DecodedImage
    square: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prepared:
    """One frame ready for the engine; more than one view only where heads ask for different windows."""

    name: str
    views: tuple[View, ...]
    times_ms: dict[str, float]

    @property
    def size_bytes(self) -> int:
        """Of its pixels."""
        return sum(view.image.pixels.nbytes + view.square.nbytes for view in self.views)


class Detector:
    """Scores images with one head of a bundle, or with all, on one engine. Not for several threads at once."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        head: str | None = None,
        threshold: float | None = None,
        operating_point: str | None = None,
        window: Window | None = None,
    ) -> None:
        """head: which of the bundle's, "all", or None for its only one. threshold, operating_point: at most one of
        them; they override the head's default operating point. window: for measured values (DICOM, NIfTI), and only
        for heads whose bundle names none.

        Raises: UsageError where a head, a point or a window can't be had.
        """
        self.bundle = bundle
        self.engine = engine
        self.heads = choose_heads(bundle, head)
        self.points: dict[str, Point] = {
            name: choose_point(bundle, name, threshold, operating_point) for name in self.heads
        }
        self._window = window
        _check_window(bundle, self.heads, window)

    @property
    def head(self) -> str:
        """The first of its heads."""
        return self.heads[0]

    @property
    def threshold(self) -> float | None:
        """What decides for the first head; None where it is uncalibrated."""
        return self.points[self.head].threshold

    @property
    def operating_point(self) -> str | None:
        """Its name, "given" where the caller gave a threshold."""
        return self.points[self.head].name

    @classmethod
    def load(
        cls,
        path: str | Path | Bundle,
        *,
        engine: str = "cpu",
        head: str | None = None,
        threshold: float | None = None,
        operating_point: str | None = None,
        window: Window | None = None,
        cache: Cache | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Detector:
        """Open and check a bundle, start the engine.

        path: of the bundle, or one that is open already. cache: where engines keep what they build on this machine,
        None for nowhere. tell: hears one line about anything that takes long, or that an `auto` engine chose.
        Raises: BundleRefused, EngineRefused, UsageError.
        """
        bundle = path if isinstance(path, Bundle) else Bundle.open(path)
        heads = choose_heads(bundle, head)
        for name in heads:  # before the engine's seconds, not after them
            choose_point(bundle, name, threshold, operating_point)
        _check_window(bundle, heads, window)
        started = load_engine(bundle.only(heads[0]) if len(heads) == 1 else bundle, engine, cache=cache, tell=tell)
        bundle.check()  # an engine from the cache may not have had to wait for it
        return cls(bundle, started, head=head, threshold=threshold, operating_point=operating_point, window=window)

    def __call__(self, image: ImageLike, *, name: str | None = None) -> Result:
        """Score one image: a path, a file's bytes, pixels (uint8 [H, W] grey or [H, W, 3] RGB, 0–255), or a frame.

        name: what to call it in the result. Raises: InputRefused, EngineRefused; UsageError with several heads.
        """
        if len(self.heads) > 1:
            raise UsageError("this detector", f"answers with {len(self.heads)} heads", "call each_head(image)")
        return self.each_head(image, name=name)[0]

    def each_head(self, image: ImageLike, *, name: str | None = None) -> tuple[Result, ...]:
        """One result a head, in the bundle's order; the encoder runs once unless heads ask for different windows."""
        start = time.perf_counter()
        frame, label = _decode(image, name)
        return self.compute([self.prepare(frame, label, started=start)])[0]

    def prepare(self, frame: Frame, name: str, *, started: float | None = None) -> Prepared:
        """A frame, windowed and resized; may run in another thread than `compute`. Raises: InputRefused.

        started: time.perf_counter() before it was decoded.
        """
        decoded_at = time.perf_counter()
        views = []
        for window, heads in self._by_window(frame).items():
            image = to_picture(frame, window, name, self._window)
            views.append(View(heads, image, to_model_input(image.pixels, self.bundle.manifest.input.size)))
        done = time.perf_counter()
        begun = decoded_at if started is None else started
        return Prepared(
            name, tuple(views), {"decode": (decoded_at - begun) * 1e3, "preprocess": (done - decoded_at) * 1e3}
        )

    def compute(self, batch: Sequence[Prepared]) -> list[tuple[Result, ...]]:
        """Run the engine once for frames of one kind. Raises: EngineRefused."""
        start = time.perf_counter()
        answers: dict[tuple[int, int], Answers] = {}
        groups: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        for i, prepared in enumerate(batch):
            for k, view in enumerate(prepared.views):
                groups.setdefault(view.heads, []).append((i, k))
        for heads, places in groups.items():
            squares = np.stack([batch[i].views[k].square for i, k in places])
            together = self.engine.run(squares, heads)
            for row, place in enumerate(places):
                answers[place] = {
                    head: type(answer)(answer.scores[row : row + 1], answer.maps[row : row + 1])
                    for head, answer in together.items()
                }
        each_ms = (time.perf_counter() - start) * 1e3 / len(batch)
        return [self._results(prepared, i, answers, each_ms) for i, prepared in enumerate(batch)]

    def _results(
        self, prepared: Prepared, place: int, answers: dict[tuple[int, int], Answers], compute_ms: float
    ) -> tuple[Result, ...]:
        times = {**prepared.times_ms, "compute": compute_ms}
        found = {
            head: self._result(prepared.name, view.image, head, answers[place, k], times)
            for k, view in enumerate(prepared.views)
            for head in view.heads
        }
        return tuple(found[head] for head in self.heads)

    def _result(
        self, name: str, image: DecodedImage, head: str, answers: Answers, times_ms: dict[str, float]
    ) -> Result:
        manifest, info, point = self.bundle.manifest, self.engine.info, self.points[head]
        card = manifest.heads[head]
        score, heat = float(answers[head].scores[0]), answers[head].maps[0]
        return Result(
            file=name,
            score=score,
            decision=point.decide(score, card.score_error),
            threshold=point.threshold,
            operating_point=point.name,
            map_max=float(heat.max()),
            engine=info.name,
            library=info.library,
            precision=info.precision,
            bundle=manifest.model_id,
            bundle_digest=self.bundle.digest,
            head=head,
            image_score=card.image_score,
            image=image.pixels,
            model_map=heat,
            times_ms=times_ms,
            notes=image.notes,
            notices=manifest.notices,
            score_error=card.score_error,
            orientation=image.orientation,
            spacing_mm=image.spacing_mm,
        )

    def _by_window(self, frame: Frame) -> dict[Window | None, tuple[str, ...]]:
        """Heads by the window they learned through; pictures need none."""
        if not isinstance(frame, Measured):
            return {None: self.heads}
        groups: dict[Window | None, tuple[str, ...]] = {}
        for head in self.heads:
            window = self.bundle.manifest.heads[head].data.window
            groups[window] = (*groups.get(window, ()), head)
        return groups


def _check_window(bundle: Bundle, heads: Sequence[str], window: Window | None) -> None:
    for head in heads:
        own = bundle.manifest.heads[head].data.window
        if window is not None and own is not None:
            why = f"the bundle's head {head} learned through the window {own.name}, and sees the same here"
            raise UsageError(f"--window {window.name}", why, "leave --window away")


def _decode(image: ImageLike, name: str | None) -> tuple[Frame, str]:
    if isinstance(image, (str, Path)):
        label = name or str(image)
        return read_frame(Path(image), label), label
    if isinstance(image, bytes):
        label = name or "image bytes"
        return read_frame(image, label), label
    if isinstance(image, (DecodedImage, Measured)):
        return image, name or "frame"
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
