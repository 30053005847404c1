"""The photographs that pretraining may see: those that scikit-image's wheel holds and that are CC0 or public domain.

Each one's licence is what scikit-image's documentation says of it. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused, UsageError
from madclip_runtime.imaging import read_image

__all__ = ["PICTURES", "load_pictures"]

PICTURES = {
    "astronaut.png": "public domain (NASA)",
    "brick.png": "CC0",
    "camera.png": "CC0",
    "cell.png": "CC0",
    "chelsea.png": "CC0",
    "clock_motion.png": "public domain",
    "coffee.png": "CC0",
    "grass.png": "CC0",
    "gravel.png": "CC0",
    "hubble_deep_field.jpg": "public domain (NASA)",
    "retina.jpg": "CC0",
    "rocket.jpg": "public domain (SpaceX)",
    "text.png": "public domain",
}
"""File name in scikit-image's data folder → licence."""


def load_pictures() -> list[npt.NDArray[np.uint8]]:
    """Each uint8 [H, W, 3] RGB 0–255, in the order of PICTURES.

    Raises: UsageError without scikit-image, InputRefused where its wheel lacks one.
    """
    try:
        import skimage
    except ImportError:
        install = 'pip install "madclip[pretrain]"'
        raise UsageError("madclip pretrain-nano", "scikit-image, whose pictures it uses, is missing", install) from None
    folder = Path(skimage.__file__).parent / "data"
    for name in PICTURES:
        if not (folder / name).is_file():
            raise InputRefused(name, "this scikit-image does not ship it", "use the version in constraints.txt")
    return [read_image(folder / name).pixels for name in PICTURES]
