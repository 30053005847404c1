"""The table of docs/nano.md on words: do nano's lesion prompts tell phantoms apart without any training?

    python benchmarks/training/zero_shot.py [--phantoms 400] [--seed 4242]

AUROC of "nearer to the abnormal than to the normal prompts", for the package's weights and for random ones.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.metrics import roc_auc_score

from madclip.encoder import load_encoder
from madclip.nano.captions import zero_shot
from madclip.phantoms import make_phantom


def main() -> None:
    """Print one line an encoder and an object in the prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=400, help="half of them with a lesion")
    parser.add_argument("--seed", type=int, default=4242, help="of the phantoms; pretraining used 0 and 1")
    arguments = parser.parse_args()
    drawn = [make_phantom(arguments.seed, i // 2, abnormal=bool(i % 2)).image for i in range(arguments.phantoms)]
    images = np.stack([np.repeat(grey[..., None], 3, axis=2) for grey in drawn])
    labels = np.arange(arguments.phantoms) % 2
    for name, weights in (("trained", None), ("random", "random")):
        encoder = load_encoder("nano", weights)
        for word in ("Brain", "medical image"):
            auroc = 100 * roc_auc_score(labels, zero_shot(encoder, images, word))
            print(f"{name:8} prompts on {word!r}: AUROC {auroc:.1f} % on {arguments.phantoms} phantoms")


if __name__ == "__main__":
    main()
