"""Views: what the two towers look at during pretraining. Sources, cut, turned, coloured, mixed and spoiled.

A view depends on (seed, step, its place in the batch) and on nothing else, so an interrupted run goes on exactly.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from madclip.nano.textures import draw_canvas, field
from madclip.phantoms import make_phantom

__all__ = ["Sources", "make_batch"]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]  # OpenCV's stubs promise no more

_CANVASES = 640
_PHANTOMS = 64
_SHARES = (0.45, 0.45, 0.10)


class Sources:
    """What views are cut from: pictures, a pool of canvases that slowly renews itself, and phantoms.

    Slot k of the pool holds another canvas every `canvases` steps; drawn when first asked for.
    """

    def __init__(
        self, pictures: list[Bytes], seed: int, *, canvases: int = _CANVASES, phantoms: int = _PHANTOMS
    ) -> None:
        """pictures: each uint8 [H, W, 3] RGB 0–255; may be empty."""
        self._pictures = pictures
        self._seed = seed
        self._pool: dict[int, tuple[int, Bytes]] = {}
        self._canvases = canvases
        self._phantoms: dict[int, Bytes] = {}
        self._phantom_count = phantoms

    def draw(self, rng: np.random.Generator, step: int) -> Bytes:
        """uint8 [H, W, 3] RGB 0–255, of random kind."""
        kind = rng.choice(3, p=_SHARES)
        if kind == 0 and self._pictures:
            return self._pictures[int(rng.integers(len(self._pictures)))]
        if kind == 2:
            return self._phantom(int(rng.integers(self._phantom_count)))
        return self._canvas(int(rng.integers(self._canvases)), step)

    def _canvas(self, slot: int, step: int) -> Bytes:
        age = (step + slot) // self._canvases
        kept = self._pool.get(slot)
        if kept is None or kept[0] != age:
            kept = (age, draw_canvas(self._seed, age * self._canvases + slot)[0])
            self._pool[slot] = kept
        return kept[1]

    def _phantom(self, index: int) -> Bytes:
        if index not in self._phantoms:
            grey = make_phantom(self._seed, index // 2, abnormal=index % 2 == 1).image
            self._phantoms[index] = np.repeat(grey[..., None], 3, axis=2)
        return self._phantoms[index]


def make_batch(sources: Sources, seed: int, step: int, count: int, size: int) -> Floats:
    """float32 [count, 3, size, size] RGB 0–1."""
    views = [_view(sources, np.random.default_rng([seed, step, place]), step, size) for place in range(count)]
    return np.ascontiguousarray(np.stack(views).transpose(0, 3, 1, 2))


def _view(sources: Sources, rng: np.random.Generator, step: int, size: int) -> Floats:
    view = _cut(rng, sources.draw(rng, step), size)
    if rng.random() < 0.3:
        view = _mix(rng, view, _cut(rng, sources.draw(rng, step), size))
    view = _recolour(rng, view)
    if rng.random() < 0.35:
        view = _spoil(rng, view)
    if rng.random() < 0.15:
        view = view * _aperture(rng, size)[..., None]
    return np.clip(view, 0, 1).astype(np.float32)


def _cut(rng: np.random.Generator, source: Floats, size: int) -> Floats:
    """A turned, mirrored, stretched piece of any scale: float32 [size, size, 3] 0–1."""
    height, width = source.shape[:2]
    reach = min(height, width) / size  # 1 / zoom at which the shorter side just fits
    zoom = np.exp(rng.uniform(np.log(0.8 / reach), np.log(max(2.5, 1.2 / reach))))
    if zoom < 0.7:  # shrink with an area mean first, or fine texture turns into grain that no scanner shows
        source = cv2.resize(source, None, fx=1.2 * zoom, fy=1.2 * zoom, interpolation=cv2.INTER_AREA)
        height, width = source.shape[:2]
        zoom = 1 / 1.2
    turn = rng.uniform(0, 360) if rng.random() < 0.4 else 90.0 * int(rng.integers(4))
    matrix = cv2.getRotationMatrix2D((0, 0), turn, zoom)
    matrix[:, 0] *= (1 if rng.random() < 0.5 else -1) * np.exp(rng.uniform(-0.25, 0.25))
    slack = np.maximum(np.array([width, height]) - size / zoom, 0) / 2
    centre = np.array([width, height]) / 2 + rng.uniform(-1, 1, 2) * slack
    matrix[:, 2] = size / 2 - matrix[:, :2] @ centre
    edge = cv2.BORDER_CONSTANT if rng.random() < 0.25 else cv2.BORDER_REFLECT
    piece = cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=edge)
    return piece.astype(np.float32) / np.float32(255)


def _mix(rng: np.random.Generator, one: Floats, other: Floats) -> Floats:
    """Blend, multiply, or lay one over the other through a soft random shape."""
    kind = rng.random()
    if kind < 0.3:
        return one + np.float32(rng.uniform(0.1, 0.6)) * (other - one)
    if kind < 0.45:
        return np.sqrt(one * other)
    sharp = 2.0 * 20.0 ** rng.random()
    cover = np.clip(0.5 + sharp * (field(rng, len(one), int(rng.integers(2, 7))) + rng.uniform(-0.4, 0.4)), 0, 1)
    return one + cover[..., None].astype(np.float32) * (other - one)


def _recolour(rng: np.random.Generator, view: Floats) -> Floats:
    if rng.random() < 0.55:
        grey = view @ np.array([0.299, 0.587, 0.114], np.float32)
        view = np.repeat(grey[..., None], 3, axis=2)
    elif rng.random() < 0.5:
        view = view * rng.uniform(0.6, 1.3, 3).astype(np.float32)
        if rng.random() < 0.3:
            view = view[..., rng.permutation(3)]
    if rng.random() < 0.1:
        view = 1 - view
    if rng.random() < 0.4:  # a window: the darkest and brightest shares cut off, as displays do
        low, high = np.quantile(view[::4, ::4], [rng.uniform(0, 0.05), rng.uniform(0.95, 1.0)])
        view = (view - low) / max(float(high - low), 0.05)
    view = np.clip(view, 0, 1) ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    mean = float(view.mean())
    contrast, lift = np.exp(rng.uniform(-0.9, 0.3)), rng.uniform(-0.2, 0.2)
    return np.clip((view - mean) * np.float32(contrast) + np.float32(mean + lift), 0, 1)


def _spoil(rng: np.random.Generator, view: Floats) -> Floats:
    """Blur, noise, speckle or JPEG."""
    kind, size = rng.random(), len(view)
    if kind < 0.35:
        return cv2.GaussianBlur(view, (0, 0), rng.uniform(0.5, 2.5))
    if kind < 0.55:
        return view + rng.uniform(0.01, 0.12) * rng.standard_normal((size, size, 1)).astype(np.float32)
    if kind < 0.8:
        grain: Floats = np.abs(rng.standard_normal((size, size, 1))).astype(np.float32)
        grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.4, 1.5))[..., None]
        return view * (1 + np.float32(rng.uniform(0.3, 1.2)) * (grain / grain.mean() - 1))
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 80))]
    # bytes of our own making, so OpenCV may read them
    packed = cv2.imencode(".jpg", np.rint(255 * np.clip(view, 0, 1)).astype(np.uint8), quality)[1]
    decoded: Any = cv2.imdecode(packed, cv2.IMREAD_COLOR)  # noqa: TID251
    return decoded.astype(np.float32) / np.float32(255)


def _aperture(rng: np.random.Generator, size: int) -> Floats:
    """What a probe, a tube or a head lets through: float32 [size, size], 0 outside."""
    mask: Floats = np.zeros((size, size), np.float32)
    kind = rng.random()
    if kind < 0.5:
        centre = tuple(int(v) for v in rng.uniform(0.35, 0.65, 2) * size)
        axes = tuple(int(v) for v in rng.uniform(0.3, 0.6, 2) * size)
        cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, 360, 1.0, -1, cv2.LINE_AA)
    elif kind < 0.75:
        half = rng.uniform(20, 45)
        centre = (size // 2, -int(rng.uniform(0, 0.3) * size))
        cv2.ellipse(mask, centre, (int(1.1 * size),) * 2, 90, -half, half, 1.0, -1, cv2.LINE_AA)
    else:
        left, top = (int(v) for v in rng.uniform(0, 0.3, 2) * size)
        mask[top : size - int(rng.uniform(0, 0.3) * size), left : size - int(rng.uniform(0, 0.3) * size)] = 1
    return mask
