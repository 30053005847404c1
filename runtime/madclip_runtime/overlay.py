"""The picture a person looks at: the image, the image under its heat map, a score bar, and what this is not.

Colours are fixed to the score's own scale (0–1), never stretched per image: a normal image must look calm.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from madclip_runtime.errors import one_line
from madclip_runtime.png import png_bytes
from madclip_runtime.preprocess import resize_map
from madclip_runtime.result import Result

__all__ = ["draw_overlay", "overlay_png"]

_SHORT, _LONG = 384, 1024  # a panel's longer side is kept within these
_BAR = 118
_LONGEST_LINE = 500  # characters, more than the widest overlay holds
_INK, _PAPER, _GREY = (235, 235, 235), (24, 24, 24), (150, 150, 150)
_COLOUR_BLIND_SAFE = cv2.COLORMAP_CIVIDIS
_CONTOUR = (255, 255, 255)


def overlay_png(result: Result) -> bytes:
    """The overlay as the bytes of a PNG."""
    return png_bytes(draw_overlay(result))


def draw_overlay(result: Result) -> npt.NDArray[np.uint8]:
    """Two panels over a caption: uint8 [h, w, 3] RGB.

    Left the image, right the image under its map; where the score is the map's own maximum, a white line rounds the
    region at or above the threshold.
    """
    width, height = _panel_size(result.image.shape[1], result.image.shape[0])
    plain = np.array(Image.fromarray(result.image).resize((width, height), Image.Resampling.BICUBIC))
    heat = resize_map(result.model_map, height, width)
    marked = _blend(plain, heat)
    if result.image_score == "map_max" and result.threshold is not None:
        _outline(marked, heat >= result.threshold)
    panels = np.concatenate([plain, marked], axis=1)
    return np.concatenate([panels, _caption(result, panels.shape[1])], axis=0)


def _panel_size(width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    scale = min(max(longer, _SHORT), _LONG) / longer
    return max(round(width * scale), 160), max(round(height * scale), 32)


def _blend(plain: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Opacity grows with the map, so that what is calm stays readable."""
    level = np.clip(heat, 0.0, 1.0)
    coloured = cv2.applyColorMap((level * 255).astype(np.uint8), _COLOUR_BLIND_SAFE)[:, :, ::-1]
    alpha = np.clip(1.4 * (level - 0.2), 0.0, 0.75)[:, :, None]
    mixed: npt.NDArray[np.uint8] = (plain * (1 - alpha) + coloured * alpha).round().astype(np.uint8)
    return mixed


def _outline(picture: npt.NDArray[np.uint8], region: npt.NDArray[np.bool_]) -> None:
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, _CONTOUR, 1, cv2.LINE_AA)


def _caption(result: Result, width: int) -> npt.NDArray[np.uint8]:
    ran = f"{result.bundle} · {result.engine} {result.precision}"
    canvas = _same_on_all(width, ran, "; ".join(result.notices), _legend(result)).copy()
    draw = ImageDraw.Draw(canvas)
    draw.text((12, 8), f"{result.decision}   score {result.score:.3f}", fill=_INK, font=_font(20))
    _score_bar(draw, result, width)
    return np.array(canvas)


@lru_cache(maxsize=8)
def _same_on_all(width: int, ran: str, notices: str, legend: str) -> Image.Image:
    """The lines that every overlay of a run has; drawing text is most of what an overlay costs."""
    canvas = Image.new("RGB", (width, _BAR), _PAPER)
    draw = ImageDraw.Draw(canvas)
    small = _font(13)
    draw.text((12, 64), _fit(ran, small, width - 24), fill=_GREY, font=small)
    draw.text((12, 82), _fit(notices, small, width - 24), fill=_INK, font=small)
    draw.text((12, 99), _fit(legend, small, width - 24), fill=_GREY, font=small)
    return canvas


@lru_cache(maxsize=2)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _score_bar(draw: ImageDraw.ImageDraw, result: Result, width: int) -> None:
    left, right, top, bottom = 12, width - 12, 40, 54
    draw.rectangle((left, top, right, bottom), outline=_GREY)
    filled = left + (right - left) * min(max(result.score, 0.0), 1.0)
    if filled > left + 1:
        draw.rectangle((left + 1, top + 1, filled, bottom - 1), fill=(124, 123, 120))
    if result.threshold is not None:
        x = left + (right - left) * result.threshold
        draw.line((x, top - 4, x, bottom + 4), fill=(255, 234, 70), width=3)


def _legend(result: Result) -> str:
    if result.threshold is None:
        return "no threshold: this bundle is uncalibrated · bar: score from 0 to 1"
    return f"bar: score from 0 to 1 · yellow: threshold {result.threshold:.3f} ({result.operating_point})"


def _fit(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """Cut to one line of `width` pixels. The font can't measure a line break, and a bundle's texts are not ours."""
    text = one_line(text[:_LONGEST_LINE])
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip(" ….") + "…" if len(text) > 2 else ""
    return text
