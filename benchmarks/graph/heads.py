"""What more heads on one tower cost: bytes a head, and time of one image with one head and with all.

    python benchmarks/graph/heads.py --precision fp16 --heads 6

Untrained checkpoints on one encoder (random weights by default: cost does not depend on what was learned) are exported
by the command line, once alone and once together; both run on the CPU in alternating order. Last line: JSON.
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
from typing import Any

import numpy as np

from madclip_runtime.bundle import Bundle
from madclip_runtime.engines import load_engine

sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))

_SETTLE_S = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="ViT-L-14-336")
    parser.add_argument("--weights", default="random")
    parser.add_argument("--image-score", default="map_max", choices=("map_max", "det"))
    parser.add_argument("--precision", default="fp16", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--work", help="folder for the bundles while it runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="madclip-heads-", dir=args.work) as folder:
        ckpts = _checkpoints(args, Path(folder))
        one, all_of_them = _export(args, ckpts[:1], Path(folder)), _export(args, ckpts, Path(folder))
        figures = _costs(one, all_of_them, args) | _times(one, all_of_them, args.rounds)
    print("\n".join(f"{name:24} {value}" for name, value in figures.items()))
    print(json.dumps(figures))


def _checkpoints(args: argparse.Namespace, folder: Path) -> list[Path]:
    from model import make_checkpoint

    paths = []
    for number in range(args.heads):
        checkpoint, _ = make_checkpoint(args.encoder, args.weights, args.image_score, seed=number)
        paths.append(folder / f"head{number}.pt")
        checkpoint.save(paths[-1])
    return paths


def _export(args: argparse.Namespace, ckpts: list[Path], folder: Path) -> Path:
    out = folder / f"{len(ckpts)}.madclip"
    given = [word for path in ckpts for word in ("--ckpt", str(path))]
    command = [sys.executable, "-m", "madclip.cli", "export", *given, f"--{args.precision}", "--out", str(out)]
    subprocess.run([*command, "--weights", args.weights], check=True, stdout=subprocess.DEVNULL)
    return out


def _costs(one: Path, several: Path, args: argparse.Namespace) -> dict[str, Any]:
    sizes = [sum(file.stat().st_size for file in path.glob("model.onnx*")) / 1e6 for path in (one, several)]
    added = (sizes[1] - sizes[0]) / (args.heads - 1)
    return {
        "encoder": args.encoder,
        "precision": args.precision,
        "image score": args.image_score,
        "graph with one head, MB": round(sizes[0], 1),
        f"graph with {args.heads}, MB": round(sizes[1], 1),
        "MB a head": round(added, 2),
    }


def _times(one: Path, several: Path, rounds: int) -> dict[str, Any]:
    bundle = Bundle.load(several)
    first = next(iter(bundle.manifest.heads))
    engines = {
        "single": load_engine(Bundle.load(one), "cpu"),
        "one": load_engine(bundle.only(first), "cpu"),
        "all": load_engine(bundle, "cpu"),
    }
    size = bundle.manifest.input.size
    ways = {
        "single": lambda image: engines["single"].run(image),
        "one of several": lambda image: engines["one"].run(image),
        "all": lambda image: engines["all"].run(image),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    generator = np.random.default_rng(0)
    for number in range(rounds + 1):
        image = generator.integers(0, 256, (1, size, size, 3), np.uint8)
        for name in list(ways)[:: 1 if number % 2 else -1]:
            time.sleep(_SETTLE_S)  # the last session's threads spin for a while, and would halve this one
            start = time.perf_counter()
            ways[name](image)
            if number:  # the first round warms up
                taken[name].append(time.perf_counter() - start)
    ratios = {
        f"{name}, against single": round(
            statistics.median(a / b for a, b in zip(taken[name], taken["single"], strict=True)), 3
        )
        for name in ("one of several", "all")
    }
    return {"single, ms": round(1e3 * statistics.median(taken["single"]), 1), **ratios}


if __name__ == "__main__":
    main()
