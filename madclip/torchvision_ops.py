"""One cure for one ailment: a torchvision built for CUDA beside a CPU-only torch.

PyPI's torchvision registers its compiled operators only when its CUDA build loads; beside a CPU torch it fails at
import with "operator torchvision::nms does not exist", and open_clip imports torchvision. madclip never calls those
operators, so declaring their signatures, only where they are missing, lets the import through.
"""

from __future__ import annotations

import torch

__all__ = ["declare_missing_operators"]

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[torch.library.Library] = []  # a Library's declarations live as long as the object


def declare_missing_operators() -> None:
    """Make `import torchvision` possible. Call before importing open_clip; harmless to call again."""
    if _kept:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _kept.append(library)
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SIGNATURE)
