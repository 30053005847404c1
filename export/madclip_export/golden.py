"""Golden inputs: a few images that travel with a bundle, so that a box can prove it computes what the export did.

Synthetic by default. A patient's pixels go in only when the user names the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip.phantoms import make_phantom
from madclip_runtime.imaging import read_image
from madclip_runtime.preprocess import to_model_input

__all__ = ["golden_images"]

_SEED = 20250923


def golden_images(size: int, named: Sequence[Path]) -> npt.NDArray[np.uint8]:
    """uint8 [K, S, S, 3] RGB: two normal and two abnormal phantoms, noise, black, white, a ramp; then the named ones.

    Raises: InputRefused for a named image that can't be read.
    """
    phantoms = [make_phantom(_SEED, i, abnormal=i % 2 == 1, size=size).image for i in range(4)]
    generator = np.random.default_rng(_SEED)
    noise = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, size).astype(np.uint8), (size, size))
    grey = [*phantoms, np.zeros((size, size), np.uint8), np.full((size, size), 255, np.uint8), ramp]
    images = [np.repeat(image[:, :, None], 3, axis=2) for image in grey]
    real = [to_model_input(read_image(path).pixels, size) for path in named]
    return np.stack([*images, noise, *real])
