"""Several checkpoints on several data sets, and the folder of files that tells of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from madclip.checkpoint import Checkpoint
from madclip.config import EncoderSpec
from madclip.data import Dataset, open_dataset
from madclip.device import CPU, Place
from madclip.encoder import Encoder, reload_encoder
from madclip.evaluation.cases import case_pictures
from madclip.evaluation.evaluate import evaluate
from madclip.evaluation.plots import histogram_png, pr_png, roc_png
from madclip.evaluation.result import FORMAT, Evaluation
from madclip.evaluation.summary import SummaryRow, summarise
from madclip.evaluation.tables import figures_csv, figures_markdown, scores_csv
from madclip.model import Model
from madclip_runtime.errors import UsageError
from madclip_runtime.files import make_folder, write_whole

__all__ = ["distinct_names", "evaluate_all", "figures_json", "summary_lines"]


def evaluate_all(
    ckpts: Sequence[Path],
    data: Sequence[Path],
    *,
    weights: str | None = None,
    out: Path | None = None,
    json_file: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    place: Place = CPU,
    partial_masks: bool = False,
) -> tuple[Evaluation, ...]:
    """Every checkpoint on every data set, checked before the first is scored; files only where asked for.

    Raises: UsageError, InputRefused, BundleRefused, OutputNotWritten.
    """
    checkpoints = _load_checkpoints(ckpts)
    datasets = _open_datasets(data, partial_masks=partial_masks)
    if out is not None:
        make_folder(out)
    results: list[Evaluation] = []
    encoders = _Encoders(weights, place)
    for name, checkpoint in checkpoints.items():
        model = checkpoint.model_on(encoders.of(checkpoint.card.encoder))
        for dataset in datasets:
            say(f"{name} on {dataset.name}")
            results.append(evaluate(checkpoint, dataset, model=model, name=name))
            if out is not None:
                alone = len(checkpoints) * len(datasets) == 1
                _write_one(out if alone else out / f"{name}--{dataset.name}", results[-1], model)
    if json_file is not None:
        write_whole(json_file, figures_json(results))
    if out is not None:
        _write_common(out, results)
    return tuple(results)


def distinct_names(paths: Sequence[Path], option: str) -> list[str]:
    """The shortest ends of the paths that tell them apart, without suffix or "_AD". Raises: UsageError."""
    ends = [path.resolve().with_name(path.resolve().stem.removesuffix("_AD")).parts for path in paths]
    for depth in range(1, max(map(len, ends)) + 1):
        names = ["-".join(part.strip("/\\:") for part in end[-depth:]) for end in ends]
        if len(set(names)) == len(names):
            return names
    twice = next(path for path, end in zip(paths, ends, strict=True) if ends.count(end) > 1)
    raise UsageError(f"{option} {twice}", "was given twice", "give each once")


def figures_json(results: Sequence[Evaluation]) -> bytes:
    """One result: its own figures at the top level. Several: `results`, and `summary` over checkpoints."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "results": [result.to_json() for result in results],
        "summary": [row.to_json() for row in summarise(results)],
    }
    chosen = results[0].to_json() if len(results) == 1 else content
    return (json.dumps(chosen, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def summary_lines(results: Sequence[Evaluation]) -> list[str]:
    """Mean ± std over checkpoints and average over sets, for a person; nothing where there is but one result."""
    if len(results) == 1:
        return []
    return [line for row in summarise(results) for line in _row_lines(row)]


def _row_lines(row: SummaryRow) -> list[str]:
    lines = [f"{row.name}, trained on {row.trained_on}, {row.shots} shots:"]
    for dataset, cells in row.cells.items():
        pixel = f", pixel AUROC {cells['pixel_auroc'].text()} %" if "pixel_auroc" in cells else ""
        lines.append(f"  {dataset}: image AUROC {cells['image_auroc'].text()} %{pixel}")
    return lines


def _load_checkpoints(paths: Sequence[Path]) -> dict[str, Checkpoint]:
    loaded = {name: Checkpoint.load(path) for name, path in zip(distinct_names(paths, "--ckpt"), paths, strict=True)}
    seen: dict[str, str] = {}
    for name, checkpoint in loaded.items():
        if checkpoint.sha256 in seen:
            why = f"is the same checkpoint as {seen[checkpoint.sha256]}; a mean over both would count it twice"
            raise UsageError(f"--ckpt {name}", why, "give each once")
        seen[checkpoint.sha256] = name
    return loaded


def _open_datasets(paths: Sequence[Path], *, partial_masks: bool) -> list[Dataset]:
    """Under the names that tell them apart, if their own don't."""
    opened = [open_dataset(path, partial_masks=partial_masks) for path in paths]
    names = distinct_names(paths, "--data")
    if len({dataset.name for dataset in opened}) == len(opened):
        return opened
    return [replace(dataset, name=name) for dataset, name in zip(opened, names, strict=True)]


class _Encoders:
    """Keeps the last encoder: seeds of one method share it, and it is what takes memory."""

    def __init__(self, weights: str | None, place: Place) -> None:
        self._weights = weights
        self._place = place
        self._last: tuple[EncoderSpec, Encoder] | None = None

    def of(self, spec: EncoderSpec) -> Encoder:
        if self._last is None or self._last[0] != spec:
            self._last = None  # freed before the next one is loaded
            self._last = spec, reload_encoder(spec, self._weights).to(self._place.torch_device)
        return self._last[1]


def _write_one(folder: Path, result: Evaluation, model: Model) -> None:
    make_folder(folder)
    write_whole(folder / "scores.csv", scores_csv(result).encode())
    write_whole(folder / "histogram.png", histogram_png(result))
    for name, picture in case_pictures(result, model).items():
        write_whole(folder / f"{name}.png", picture)


def _write_common(out: Path, results: Sequence[Evaluation]) -> None:
    write_whole(out / "figures.json", figures_json(results))
    write_whole(out / "figures.csv", figures_csv(results).encode())
    write_whole(out / "figures.md", figures_markdown(results, summarise(results)).encode())
    write_whole(out / "roc.png", roc_png(results))
    write_whole(out / "pr.png", pr_png(results))
