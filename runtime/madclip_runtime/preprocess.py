"""Upright RGB pixels → the square the graph takes. The only place where an image is resized for a model.

Training imports this too: what the model learns on and what it sees later is one piece of code. Division by 255
and mean/std live inside the graph, so nothing here knows them. Source: MadCLIP, section 3 (240-pixel inputs).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["resize_map", "to_model_input"]


def to_model_input(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Resize to the model's square: Pillow bicubic, antialiased, aspect ratio not kept.

    pixels: uint8 [H, W, 3] RGB 0–255. size: S, pixels a side. Returns uint8 [S, S, 3] RGB 0–255, C-contiguous.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 [H, W, 3], got {pixels.dtype} {pixels.shape}")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize((size, size), Image.Resampling.BICUBIC))


def resize_map(heat: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Carry a map back to an image's own size, bilinear.

    heat: float32 [S, S] 0–1. Returns float32 [height, width] 0–1.
    """
    image = Image.fromarray(np.ascontiguousarray(heat, dtype=np.float32))
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
