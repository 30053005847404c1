"""The figures that table.sh left, per set and seed, beside those of the authors' own code.

python benchmarks/training/summary.py OUT    (the folder given to table.sh)
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

SEEDS = (111, 222, 333)
# image AUROC: the authors' code, same encoder and shots, their rule, seed 111, 20 epochs; pixel AUROC: mean of three
# seeds at 6 epochs. Four sets were sampled from a larger test pool (docs/experiments.md).
AUTHORS: dict[str, tuple[float, float | None]] = {
    "BrainLGG": (90.7, 98.3),
    "BrainBraTS": (96.9, 99.2),
    "BreastBUSI": (97.5, 93.0),
    "RetinaOCTDL": (91.9, None),
    "ChestNIH": (78.7, None),
    "LungLC25000": (100.0, None),
}


def main(folder: Path) -> None:
    image = {name: _figures(folder, name, "image_auroc") for name in AUTHORS}
    pixel = {name: _figures(folder, name, "pixel_auroc") for name, (_, masks) in AUTHORS.items() if masks is not None}
    print("| image AUROC | 111 | 222 | 333 | mean | authors' code, 111 |\n|---|---|---|---|---|---|")
    for name, values in image.items():
        print(_row(name, values, AUTHORS[name][0]))
    print(_row("**mean**", _means(image), statistics.mean(theirs for theirs, _ in AUTHORS.values())))
    print("\n| pixel AUROC | 111 | 222 | 333 | mean | authors' code, three seeds |\n|---|---|---|---|---|---|")
    for name, values in pixel.items():
        print(_row(name, values, AUTHORS[name][1]))
    print(_row("**mean**", _means(pixel), statistics.mean(p for _, p in AUTHORS.values() if p is not None)))


def _figures(folder: Path, name: str, figure: str) -> list[float | None]:
    files = [folder / f"{name}-s{seed}.json" for seed in SEEDS]
    return [json.loads(file.read_text())[figure] if file.exists() else None for file in files]


def _means(rows: dict[str, list[float | None]]) -> list[float | None]:
    """Over sets, for each seed that has them all."""
    columns = [[row[i] for row in rows.values()] for i in range(len(SEEDS))]
    return [
        None if None in column else statistics.mean(value for value in column if value is not None)
        for column in columns
    ]


def _row(name: str, values: list[float | None], theirs: float | None) -> str:
    have = [value for value in values if value is not None]
    mean = f"{statistics.mean(have):.2f}" if len(have) == len(values) else "–"
    cells = ["–" if value is None else f"{value:.2f}" for value in values]
    return "| " + " | ".join([name, *cells, mean, "–" if theirs is None else f"{theirs:.1f}"]) + " |"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
