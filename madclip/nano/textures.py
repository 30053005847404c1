"""Procedural canvases for pretraining: noise, shapes, stripes, speckle, layers, cells, shadows, strokes.

What it is: eight seeded drawing programs, each a loose likeness of how some kind of picture gets its texture.
What it does not know: any real image. Nothing was fitted to one, and no data set went in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["CANVAS_SIZE", "KINDS", "draw_canvas", "field"]

CANVAS_SIZE = 320
Floats = npt.NDArray[Any]  # OpenCV's stubs promise no more
Bytes = npt.NDArray[np.uint8]
_Draw = Callable[[np.random.Generator, int], Floats]


def draw_canvas(seed: int, index: int, kind: str | None = None, size: int = CANVAS_SIZE) -> tuple[Bytes, str]:
    """Canvas `index` of a seed: uint8 [size, size, 3] RGB 0–255, and its kind (drawn where None).

    Depends on its arguments alone.
    """
    rng = np.random.default_rng([seed, index, 3])
    drawn = str(rng.choice(list(KINDS)))
    kind = kind or drawn
    canvas = KINDS[kind](rng, size)
    if rng.random() < 0.4:
        canvas = _warp(rng, canvas)
    return np.rint(255 * np.clip(canvas, 0, 1)).astype(np.uint8), kind


def field(rng: np.random.Generator, size: int, cells: int, octaves: int = 1, gain: float = 0.5) -> Floats:
    """Smooth noise in about −1…1: float32 [size, size], `cells` bumps across, finer octaves each `gain` as strong."""
    total: Floats = np.zeros((size, size), np.float32)
    weight, spread = 1.0, 0.0
    for _ in range(octaves):
        grid = rng.standard_normal((min(cells, size), min(cells, size))).astype(np.float32)
        total += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        spread += weight * weight
        weight, cells = weight * gain, cells * 2
    return total / np.float32(2.0 * spread**0.5)


def _stretched(rng: np.random.Generator, size: int, cells: int, octaves: int, gain: float) -> Floats:
    """A field pulled along one direction, now and then."""
    noise = field(rng, size, cells, octaves, gain)
    if rng.random() < 0.6:
        return noise
    pull, turn = rng.uniform(2.0, 8.0), rng.uniform(0, 180.0)
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), turn, 1.0)
    matrix[0] /= pull
    return cv2.warpAffine(noise, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _paint(rng: np.random.Generator, grey: Floats) -> Floats:
    """Grey 0–1 → RGB: through a palette of three to five colours, or left grey."""
    if rng.random() < 0.4:
        return np.repeat(grey[..., None], 3, axis=2)
    stops = int(rng.integers(3, 6))
    colours: Floats = rng.random((stops, 3)).astype(np.float32)
    colours = 0.5 * colours + 0.5 * np.sort(colours.mean(axis=1))[:, None]
    where = np.clip(grey, 0, 1) * (stops - 1)
    at = np.linspace(0, stops - 1, stops)
    return np.stack([np.interp(where, at, colours[:, c]) for c in range(3)], axis=2).astype(np.float32)


def _noise(rng: np.random.Generator, size: int) -> Floats:
    cells, gain = int(rng.integers(2, 40)), rng.uniform(0.35, 0.95)
    grey = 0.5 + rng.uniform(0.2, 0.7) * _stretched(rng, size, cells, int(rng.integers(1, 6)), gain)
    if rng.random() < 0.25:
        grey = 1.0 - np.abs(2.0 * grey - 1.0)
    return _paint(rng, grey)


def _polygon(rng: np.random.Generator, centre: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.int32]:
    corners = int(rng.integers(3, 12))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = reach * rng.uniform(0.4, 1.0, corners)
    points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    return np.rint(points).astype(np.int32)


def _shapes(rng: np.random.Generator, size: int) -> Floats:
    """Dead leaves: shapes of all sizes that cover each other, plain or textured."""
    canvas = _noise(rng, size)
    textures = [_noise(rng, size) for _ in range(2)]
    mask = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(15, 120))):
        reach = size * 0.02 * (20.0 ** rng.random())
        centre = rng.uniform(0, size, 2)
        mask[:] = 0
        if rng.random() < 0.5:
            axes = (int(reach) + 1, int(reach * rng.uniform(0.3, 1.0)) + 1)
            place = (int(centre[0]), int(centre[1]))
            cv2.ellipse(mask, place, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
        else:
            cv2.fillPoly(mask, [_polygon(rng, centre, reach)], 255, cv2.LINE_AA)
        low = np.maximum(np.floor(centre - reach - 2).astype(int), 0)
        high = np.minimum(np.ceil(centre + reach + 3).astype(int), size)
        box = (slice(low[1], high[1]), slice(low[0], high[0]))
        cover = mask[box].astype(np.float32)[..., None] / np.float32(255)
        colour = rng.random(3).astype(np.float32)
        paint = colour if rng.random() < 0.5 else np.float32(0.6) * textures[int(rng.integers(2))][box] + 0.4 * colour
        canvas[box] += (paint - canvas[box]) * cover
    return canvas


def _stripes(rng: np.random.Generator, size: int) -> Floats:
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    phase = np.zeros((size, size), np.float32)
    grey = np.full((size, size), 0.5, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        turn, count = rng.uniform(0, np.pi), 3.0 * 20.0 ** rng.random()
        phase = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)) + 0.05 * field(rng, size, 6)
        wave = np.sin(np.float32(2 * np.pi * count) * phase)
        wave = np.sign(wave) if rng.random() < 0.3 else wave
        grey = grey + rng.uniform(0.1, 0.35) * wave * np.clip(0.6 + field(rng, size, 3), 0, 1)
    return _paint(rng, grey)


def _grain(rng: np.random.Generator, size: int, across: float, down: float) -> Floats:
    """Speckle: the length of blurred complex noise, mean about 1: float32 [size, size]."""
    parts = [
        cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), across, None, down)
        for _ in range(2)
    ]
    length = np.hypot(*parts)
    return length / max(float(length.mean()), 1e-6)


def _speckle(rng: np.random.Generator, size: int) -> Floats:
    """Echoes: a smooth reflecting tissue with dark and bright regions, under speckle, weaker with depth."""
    depth = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    tissue = 0.45 + 0.35 * _stretched(rng, size, int(rng.integers(3, 9)), 3, 0.6)
    for _ in range(int(rng.integers(0, 5))):
        blob = _blob_cover(rng, size, rng.uniform(0.04, 0.25), rng.uniform(0.02, 0.2))
        tissue = tissue + (rng.uniform(0.02, 0.9) - tissue) * blob
    for _ in range(int(rng.integers(0, 6))):
        line = rng.uniform(0, 1) + 0.06 * field(rng, size, 4)[0]
        tissue = tissue + rng.uniform(0.2, 0.7) * np.exp(-(((depth - line) / rng.uniform(0.005, 0.03)) ** 2))
    echo = np.clip(tissue, 0, 1) * _grain(rng, size, rng.uniform(0.8, 3.0), rng.uniform(0.6, 1.6))
    echo = echo * np.exp(-rng.uniform(0, 1.5) * depth)
    return np.repeat(np.clip(echo ** rng.uniform(0.4, 0.9), 0, 1)[..., None], 3, axis=2)


def _blob_cover(rng: np.random.Generator, size: int, reach: float, soft: float) -> Floats:
    """0–1 [size, size]: a ragged ellipse of radius `reach` (of the side), its edge `soft` of that radius."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    cy, cx = rng.uniform(0.1, 0.9, 2)
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(1.0, 2.2)
    along = (x - cx) * np.float32(np.cos(turn)) + (y - cy) * np.float32(np.sin(turn))
    across = (y - cy) * np.float32(np.cos(turn)) - (x - cx) * np.float32(np.sin(turn))
    far = np.hypot(along / squeeze, across) / reach + rng.uniform(0, 0.5) * field(rng, size, 8, 3)
    return np.clip((1 - far) / (soft + 0.02) + 0.5, 0, 1).astype(np.float32)


def _layers(rng: np.random.Generator, size: int) -> Floats:
    """Bands between wavy lines, each with its own brightness, under fine speckle."""
    y = np.arange(size, dtype=np.float32)[:, None] / size
    top, bottom = np.sort(rng.uniform(0.05, 0.95, 2))
    edges = np.sort(rng.uniform(top, bottom, int(rng.integers(3, 11))))
    bend = rng.uniform(0, 0.12) * field(rng, size, 3)[:1]
    grey = np.full((size, size), rng.uniform(0, 0.12), np.float32)
    for edge in edges:
        line = np.float32(edge) + bend + rng.uniform(0, 0.03) * field(rng, size, 10)[:1]
        cover = np.clip((y - line) * size / rng.uniform(1, 8) + 0.5, 0, 1)
        grey = grey + (np.float32(rng.uniform(0.03, 0.95)) - grey) * cover
    fade = np.clip((y - edges[-1] - bend) / rng.uniform(0.1, 0.5), 0, 1)
    grey = grey * (1 - fade * rng.uniform(0.3, 1.0))
    for _ in range(int(rng.integers(0, 3))):
        grey = grey + (rng.uniform(0, 0.8) - grey) * _blob_cover(rng, size, rng.uniform(0.02, 0.1), 0.2)
    grain = _grain(rng, size, rng.uniform(0.6, 1.6), rng.uniform(0.5, 1.0))
    return np.repeat(np.clip(grey * (1 + rng.uniform(0.2, 1.0) * (grain - 1)), 0, 1)[..., None], 3, axis=2)


def _cells(rng: np.random.Generator, size: int) -> Floats:
    """Stained tissue: a pale ground with fibres and gaps, and hundreds of dark nuclei."""
    ground, nucleus = rng.uniform(0.55, 0.95, 3), rng.uniform(0.1, 0.55, 3)
    if rng.random() < 0.6:  # pink and violet, as most stains are
        ground, nucleus = np.array([0.92, 0.70, 0.82]), np.array([0.42, 0.25, 0.58])
        ground, nucleus = ground + rng.uniform(-0.1, 0.08, 3), nucleus + rng.uniform(-0.15, 0.15, 3)
    fibres = 0.5 + _stretched(rng, size, int(rng.integers(6, 30)), 3, 0.7)
    canvas = (ground[None, None] * (1 - 0.25 * np.clip(fibres, 0, 1.2)[..., None])).astype(np.float32)
    gaps = np.clip(4 * (field(rng, size, int(rng.integers(3, 10)), 2) - rng.uniform(0.1, 0.6)), 0, 1)[..., None]
    canvas = canvas + (np.float32(0.95) - canvas) * gaps
    reach, crowd = size * rng.uniform(0.006, 0.03), field(rng, size, int(rng.integers(2, 8)), 2)
    cover = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(60, 700))):
        row, column = rng.integers(0, size, 2)
        if crowd[row, column] < rng.uniform(-0.6, 0.4):
            continue
        axes = (max(1, int(reach * rng.uniform(0.6, 1.5))), max(1, int(reach * rng.uniform(0.4, 1.0))))
        shade = int(rng.integers(120, 256))
        cv2.ellipse(cover, (int(column), int(row)), axes, rng.uniform(0, 180), 0, 360, shade, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.4, 1.4)).astype(np.float32)[..., None] / 255
    soft = soft * np.clip(1 + 0.4 * field(rng, size, 80), 0, 1.3)[..., None]
    return canvas + (nucleus.astype(np.float32) - canvas) * np.clip(soft, 0, 1)


def _shadows(rng: np.random.Generator, size: int) -> Floats:
    """A projection: soft bodies and bright bars that add up, as in an X-ray film."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    grey = rng.uniform(0.1, 0.4) + 0.15 * field(rng, size, 3)
    for _ in range(int(rng.integers(2, 8))):
        cover = _blob_cover(rng, size, rng.uniform(0.08, 0.5), rng.uniform(0.1, 0.8))
        grey = grey + rng.uniform(-0.35, 0.4) * cover
    if rng.random() < 0.8:
        bow = rng.uniform(-0.6, 0.6) * (x - 0.5) ** 2 + rng.uniform(-0.3, 0.3) * np.abs(x - 0.5)
        bars = np.sin(2 * np.pi * rng.uniform(4, 14) * (y + bow + 0.01 * field(rng, size, 5)))
        grey = grey + rng.uniform(0.03, 0.14) * np.clip(bars + rng.uniform(-0.3, 0.6), 0, 1)
    fine = rng.uniform(0.01, 0.05) * field(rng, size, 60, 2) + rng.uniform(0.02, 0.1) * field(rng, size, 12, 3)
    return np.repeat((grey + fine)[..., None], 3, axis=2)


def _strokes(rng: np.random.Generator, size: int) -> Floats:
    """Lines, arcs and letters on a quiet ground."""
    ground = np.clip(_noise(rng, size) * np.float32(rng.uniform(0.2, 1.0)), 0, 1)
    canvas = np.ascontiguousarray((255 * ground).astype(np.uint8))
    for _ in range(int(rng.integers(5, 60))):
        colour = [int(c) for c in rng.integers(0, 256, 3)]
        start, end = (tuple(int(v) for v in rng.integers(0, size, 2)) for _ in range(2))
        thick = int(rng.integers(1, 6))
        kind = rng.random()
        if kind < 0.5:
            cv2.line(canvas, start, end, colour, thick, cv2.LINE_AA)
        elif kind < 0.8:
            axes = (int(rng.integers(3, size // 2)), int(rng.integers(3, size // 2)))
            sweep = (0.0, rng.uniform(0, 360), rng.uniform(0, 360))
            cv2.ellipse(canvas, start, axes, *sweep, colour, thick, cv2.LINE_AA)
        else:
            letters = "".join(chr(int(c)) for c in rng.integers(33, 127, 6))
            cv2.putText(canvas, letters, start, int(rng.integers(0, 8)), rng.uniform(0.3, 2), colour, thick)
    return canvas.astype(np.float32) / 255


def _warp(rng: np.random.Generator, canvas: Floats) -> Floats:
    """Bend a canvas by a smooth displacement."""
    size = canvas.shape[0]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    push = size * rng.uniform(0.01, 0.06)
    cells = int(rng.integers(2, 8))
    dx, dy = (push * field(rng, size, cells) for _ in range(2))
    bent: Floats = cv2.remap(
        canvas.astype(np.float32),
        (x + dx).astype(np.float32),
        (y + dy).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    return bent


KINDS: dict[str, _Draw] = {
    "noise": _noise,
    "shapes": _shapes,
    "stripes": _stripes,
    "speckle": _speckle,
    "layers": _layers,
    "cells": _cells,
    "shadows": _shadows,
    "strokes": _strokes,
}
"""Every drawing program by name: RGB float32 [size, size, 3], about 0–1, before clipping."""
