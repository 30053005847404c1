"""Several checkpoints: mean ± standard deviation over those that differ by nothing but their seed or shots' draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import mean, stdev
from typing import Any

from madclip.checkpoint import Checkpoint
from madclip.evaluation.figures import FIGURES
from madclip.evaluation.result import Evaluation
from madclip_runtime.schema import encode

__all__ = ["AVERAGE", "Spread", "SummaryRow", "summarise"]

AVERAGE = "average"
"""The column after the last data set: each checkpoint's mean over the sets that have the figure."""
_DRAWN = frozenset({"seed", "shot_list", "list_index"})
"""What may differ between checkpoints of one row."""


@dataclass(frozen=True)
class Spread:
    """Percent over n checkpoints; std: sample standard deviation (n − 1), None for one checkpoint."""

    mean: float
    std: float | None
    n: int

    def text(self) -> str:
        """ "95.90 ± 1.20"."""
        return f"{self.mean:.2f}" + ("" if self.std is None else f" ± {self.std:.2f}")


@dataclass(frozen=True)
class SummaryRow:
    """One method. cells: by data set (and AVERAGE, where there are several), then by figure."""

    name: str
    trained_on: str
    shots: str
    encoder: str
    seeds: tuple[int, ...]
    checkpoints: tuple[str, ...]
    image_scores: tuple[str, ...]
    cells: dict[str, dict[str, Spread]]

    def to_json(self) -> dict[str, Any]:
        """Percent."""
        return dict(encode(self))


def summarise(results: Sequence[Evaluation]) -> tuple[SummaryRow, ...]:
    """One row a method, fewest shots first, else in the order given."""
    methods: dict[str, list[Evaluation]] = {}
    for result in results:
        methods.setdefault(_method(result.checkpoint), []).append(result)
    shots = [group[0].checkpoint.card.data.abnormal_shots for group in methods.values()]
    rows = [_row(group) for group in methods.values()]
    return tuple(row for _, row in sorted(zip(shots, rows, strict=True), key=lambda pair: pair[0]))


def _method(checkpoint: Checkpoint) -> str:
    """All that made a checkpoint, but what was drawn, and but the score rule, which may come from validation images."""
    card = checkpoint.card
    made = (card.encoder.sha256, card.encoder.mean, card.encoder.std, card.method, card.train, card.data)
    return repr([_without_draw(encode(part)) for part in made])


def _without_draw(part: Any) -> Any:
    return {k: v for k, v in part.items() if k not in _DRAWN} if isinstance(part, dict) else part


def _row(group: Sequence[Evaluation]) -> SummaryRow:
    names = tuple(dict.fromkeys(result.name for result in group))
    firsts = {result.name: result for result in group}.values()
    cells = {dataset: _spreads([r for r in group if r.dataset == dataset]) for dataset in _datasets(group)}
    if len(cells) > 1:
        cells[AVERAGE] = _averages(group, names)
    card = group[0].checkpoint.card
    normal, abnormal = card.data.normal_shots, card.data.abnormal_shots
    return SummaryRow(
        name=_common_name(names),
        trained_on=card.data.dataset,
        shots=str(normal) if normal == abnormal else f"{normal}+{abnormal}",
        encoder=card.encoder.name,
        seeds=tuple(result.checkpoint.card.data.seed for result in firsts),
        checkpoints=names,
        image_scores=tuple(dict.fromkeys(result.image_score for result in group)),
        cells=cells,
    )


def _datasets(group: Sequence[Evaluation]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(result.dataset for result in group))


def _spreads(results: Sequence[Evaluation]) -> dict[str, Spread]:
    found = {name: [r.figures[name].percent for r in results if name in r.figures] for name in FIGURES}
    return {name: _spread(values) for name, values in found.items() if values}


def _averages(group: Sequence[Evaluation], names: tuple[str, ...]) -> dict[str, Spread]:
    found: dict[str, Spread] = {}
    for figure in FIGURES:
        each = [[r.figures[figure].percent for r in group if r.name == name and figure in r.figures] for name in names]
        if values := [mean(of_one) for of_one in each if of_one]:
            found[figure] = _spread(values)
    return found


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean(values), stdev(values) if len(values) > 1 else None, len(values))


def _common_name(names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return names[0]
    shared = "".join(letters[0] for letters in takewhile(lambda each: len(set(each)) == 1, zip(*names, strict=False)))
    return f"{shared.rstrip('-_. ') or names[0]} (n = {len(names)})"
