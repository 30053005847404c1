"""figures.csv and figures.md: the same figures for a spreadsheet, and in the shape of the paper's Tables 1–3."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from madclip.evaluation.figures import FIGURES, interval_text
from madclip.evaluation.result import Evaluation
from madclip.evaluation.summary import AVERAGE, SummaryRow
from madclip_runtime.errors import one_line
from madclip_runtime.manifest import NOTICE

__all__ = ["figures_csv", "figures_markdown", "scores_csv"]

_HOW_JUDGED = "the threshold comes from validation images; the intervals take images as independent"
_PAPERS = {"AC": "image_auroc", "AS": "pixel_auroc"}


def figures_csv(results: Sequence[Evaluation]) -> str:
    """One line a checkpoint, data set and figure; percent."""
    head = ["checkpoint", "trained_on", "normal_shots", "abnormal_shots", "seed", "test_set", "figure"]
    rows = [[*head, "percent", "low_95", "high_95"]]
    for result in results:
        data = result.checkpoint.card.data
        made = [result.name, data.dataset, str(data.normal_shots), str(data.abnormal_shots), str(data.seed)]
        for name, figure in result.figures.items():
            rows.append(
                [*made, result.dataset, name, *map(_number, (figure.percent, figure.low, figure.high))],
            )
    return _csv(rows)


def scores_csv(result: Evaluation) -> str:
    """One line a test image: what every image figure was computed from."""
    rules = tuple(result.scores.by_rule)
    rows = [["label", "file", *rules]]
    for number, case in enumerate(result.scores.cases):
        scores = [f"{result.scores.by_rule[rule][number]:.9f}" for rule in rules]
        rows.append(["Ungood" if case.abnormal else "good", case.image.name, *scores])
    return _csv(rows)


def figures_markdown(results: Sequence[Evaluation], rows: Sequence[SummaryRow]) -> str:
    """The paper's table, then all figures set by set, then what a reader must know."""
    parts = ["# Evaluation", f"{NOTICE}. All figures in percent, on test images.", *_paper_table(rows), ""]
    for result in results:
        parts += [f"## {_plain(result.name)} on {_plain(result.dataset)}", *_figure_table(result)]
        parts += [f"- {point.line(name)}; {_HOW_JUDGED}" for name, point in result.points.items()]
        parts += [f"- {FIGURES[name]}: not given, {why}" for name, why in result.missing.items()]
        parts += [f"- {_plain(note)}" for note in (_sampling(result), *result.notes)]
        parts.append("")
    return "\n".join([*parts, "![ROC](roc.png) ![precision–recall](pr.png)", ""])


def _paper_table(rows: Sequence[SummaryRow]) -> Iterator[str]:
    """Rows: methods, by shots where these differ (Table 2), with their source where it is another set (Table 3)."""
    sets = list(dict.fromkeys(name for row in rows for name in row.cells if name != AVERAGE))
    if len(sets) > 1:
        sets.append(AVERAGE)
    columns = [(name, short) for name in sets for short in _PAPERS if any(_cell(row, name, short) for row in rows)]
    lead = ["method"]
    if len({row.shots for row in rows}) > 1:
        lead.insert(0, "shots")
    if any(row.trained_on != name for row in rows for name in sets if name != AVERAGE):
        lead.insert(0, "trained on")
    yield "AC: image AUROC, AS: pixel AUROC" + (", mean ± std over checkpoints (n − 1)." if _any_spread(rows) else ".")
    yield ""
    yield _line([*lead, *(f"{_plain(name)} {short}" for name, short in columns)])
    yield _line(["---"] * (len(lead) + len(columns)))
    for row in rows:
        own = {"method": row.name, "shots": row.shots, "trained on": row.trained_on}
        yield _line([*(_plain(own[key]) for key in lead), *(_cell(row, *column) or "–" for column in columns)])


def _cell(row: SummaryRow, dataset: str, short: str) -> str:
    spread = row.cells.get(dataset, {}).get(_PAPERS[short])
    return "" if spread is None else spread.text()


def _any_spread(rows: Sequence[SummaryRow]) -> bool:
    return any(s.std is not None for row in rows for cells in row.cells.values() for s in cells.values())


def _figure_table(result: Evaluation) -> Iterator[str]:
    counts = f"{result.counts['normal']} normal, {result.counts['abnormal']} abnormal images"
    yield f"{counts}; image score: {result.image_score}."
    yield ""
    yield _line(["figure", "% (95 % interval)"])
    yield _line(["---", "---"])
    for name, figure in result.figures.items():
        yield _line([FIGURES[name], interval_text(figure)])
    for rule, percent in result.image_auroc_by_rule.items():
        yield _line([f"image AUROC by {rule}", f"{percent:.2f} %"])
    yield ""


def _sampling(result: Evaluation) -> str:
    b = result.bootstrap
    if not b.intervals:
        return f"intervals: none; {b.groups} groups ({b.unit})"
    return f"intervals: bootstrap, {b.method}, {b.resamples} resamples of {b.groups} groups ({b.unit}), seed {b.seed}"


def _plain(text: str) -> str:
    """Names come from folders and files: none may break a table."""
    return one_line(text).replace("|", "/")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _csv(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
