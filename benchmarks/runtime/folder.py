"""What `madclip-run` adds to its engine: a cold start, and a folder against the engine alone, in turns.

    python benchmarks/runtime/folder.py --bundle x.madclip --images DIR --count 200 --rounds 3

Cold: a new process for one image, its cache warm. Folder: a process for all images less one for a single image (so that
starting falls out), overlays and all; the engine alone: the same number of calls in a loop on one prepared image. The
share is the engine's time over the folder's. Nothing else should run. Last line: JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from madclip_runtime.bundle import Bundle
from madclip_runtime.cache import open_cache
from madclip_runtime.engines import load_engine
from madclip_runtime.imaging import SUFFIXES

_WARM_UP, _COLD, _CACHE_GB = 5, 9, 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", default="cpu")
    args = parser.parse_args()
    files = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in SUFFIXES)[: args.count]
    if len(files) < args.count:
        parser.error(f"only {len(files)} pictures under {args.images}")
    _run(args, files[:1])  # fills the cache
    cold = sorted(_run(args, files[:1]) for _ in range(_COLD))
    shares, folder_ms, engine_ms = [], [], []
    for _ in range(args.rounds):
        one, all_of_them = _run(args, files[:1]), _run(args, files)
        alone = _engine_alone(args, len(files) - 1)
        shares.append(alone / (all_of_them - one))
        folder_ms.append(1e3 * (all_of_them - one) / (len(files) - 1))
        engine_ms.append(1e3 * alone / (len(files) - 1))
    figures = {
        "bundle": Bundle.load(args.bundle).manifest.model_id,
        "images": len(files),
        "cold_s": {"median": round(statistics.median(cold), 3), "least": round(cold[0], 3), "most": round(cold[-1], 3)},
        "folder_ms": [round(value, 1) for value in folder_ms],
        "engine_ms": [round(value, 1) for value in engine_ms],
        "shares": [round(value, 3) for value in shares],
        "median_share": round(statistics.median(shares), 3),
    }
    print(json.dumps(figures))


def _run(args: argparse.Namespace, files: list[Path]) -> float:
    """Seconds of a whole process."""
    with tempfile.TemporaryDirectory() as out:
        words = ["--bundle", str(args.bundle), "--engine", args.engine, "--out", out, *map(str, files)]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "madclip_runtime.cli", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


def _engine_alone(args: argparse.Namespace, count: int) -> float:
    bundle = Bundle.load(args.bundle)
    cache = open_cache(None, _CACHE_GB, lambda line: None)  # the command's own
    engine, size = load_engine(bundle, args.engine, cache=cache), bundle.manifest.input.size
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    for _ in range(_WARM_UP):
        engine.run(image)
    start = time.perf_counter()
    for _ in range(count):
        engine.run(image)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
