"""How near nano's numbers are to its teacher's: what the blocks learned, and what the embedding was fitted to.

    python benchmarks/training/nearness.py TEACHER.safetensors

Cosines between tensors of the same name: the largest of any matrix of the blocks, and the patch embedding's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

import madclip

_NANO = Path(madclip.__file__).parent / "nano/nano.safetensors"


def main() -> None:
    nano, teacher = load_file(_NANO), load_file(sys.argv[1])
    blocks = [name for name in nano if ".resblocks." in name and name.startswith("visual.") and nano[name].ndim == 2]
    nearest = max(blocks, key=lambda name: abs(_cosine(nano[name], teacher[name])))
    print(f"{len(blocks)} matrices of blocks, largest: {_cosine(nano[nearest], teacher[nearest]):.3f} ({nearest})")
    name = "visual.conv1.weight"
    print(f"patch embedding: {_cosine(nano[name], teacher[name]):.3f}")


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.float().flatten(), other.float().flatten(), dim=0))


if __name__ == "__main__":
    main()
