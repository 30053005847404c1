"""What the viewer page lays over each other: the image, its heat map, and the outline of what reached the threshold."""

from __future__ import annotations

import base64
import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

from madclip_runtime.png import png_bytes
from madclip_runtime.result import Result

__all__ = ["pictures_of"]

_LONGEST_SIDE = 1600
"""Pixels; a larger image is shown smaller."""
_MOST_POINTS = 20_000
_WITHIN_PX = 0.5


def pictures_of(result: Result) -> dict[str, Any]:
    """`image`, `heat`: PNGs as data URLs, the heat at the model's own size, to be stretched over the image.

    Colours are fixed to 0–1, never stretched per image, and clear where it is calm. Not cividis, as on overlays: its
    middle is grey, and on a grey image a threshold near 0.5 would go unseen; inferno too is even to the colour-blind.
    `outline`: closed lines of [x, y] in pixels of the upright image; null where the result has no mask.
    """
    return {"image": _url(_image(result)), "heat": _url(_heat(result)), "outline": _outline(result)}


def _image(result: Result) -> bytes:
    height, width = result.image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale == 1.0:
        return png_bytes(result.image)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk = Image.fromarray(result.image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return png_bytes(np.asarray(shrunk))


def _heat(result: Result) -> bytes:
    level = np.clip(result.model_map, 0.0, 1.0)
    coloured = cv2.applyColorMap(np.rint(level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    alpha = np.clip(2.0 * (level - 0.1), 0.0, 1.0)
    picture = np.dstack([coloured, np.rint(alpha * 255).astype(np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _outline(result: Result) -> list[Any] | None:
    if result.mask is None:
        return None
    found, _ = cv2.findContours(result.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    lines: list[Any] = []
    left = _MOST_POINTS
    for line in sorted(found, key=len, reverse=True):
        points = cv2.approxPolyDP(line, _WITHIN_PX, True).reshape(-1, 2).tolist()
        left -= len(points)
        if left < 0:
            break
        lines.append(points)
    return lines


def _url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
