"""ROC, precision–recall and score histograms as PNG. Colours (Okabe–Ito) differ to colour-blind eyes, and so do lines.

matplotlib is imported only here and in `cases`, when a picture is asked for, and never through its global state.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from madclip.evaluation.ranking import Ranking
from madclip.evaluation.result import Evaluation
from madclip_runtime.errors import one_line
from madclip_runtime.manifest import NOTICE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ABNORMAL", "NORMAL", "histogram_png", "picture_notice", "pr_png", "roc_png", "to_png"]

NORMAL, ABNORMAL = "#0072B2", "#D55E00"
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":")
_PANEL = 5.2  # inches a side
_DPI = 120
_LONGEST_NAME = 28
_MOST_NAMED = 12


def roc_png(results: Sequence[Evaluation]) -> bytes:
    """One panel a data set, one line a checkpoint; circles are its stored operating points on these images."""
    return _panels(results, _roc)


def pr_png(results: Sequence[Evaluation]) -> bytes:
    """Precision over recall; the dotted line is what flagging everything would reach."""
    return _panels(results, _pr)


def histogram_png(result: Evaluation) -> bytes:
    """Scores of normal and abnormal test images, with every stored threshold drawn."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(1.5 * _PANEL, 0.85 * _PANEL)
    axes = figure.subplots()
    scores, labels = result.own_scores, result.scores.labels
    common: dict[str, Any] = {"bins": np.linspace(0, 1, 51), "alpha": 0.55, "edgecolor": "black", "linewidth": 0.6}
    for kind, (name, colour, hatch) in enumerate((("normal", NORMAL, ""), ("abnormal", ABNORMAL, "//"))):
        label = f"{name} ({result.counts[name]})"
        axes.hist(scores[labels == kind], color=colour, label=label, hatch=hatch, **common)
    for number, (name, point) in enumerate(result.points.items()):
        style = _STYLES[(number + 1) % len(_STYLES)]
        axes.axvline(point.threshold, color="black", linestyle=style, label=f"threshold {name}: {point.threshold:.3f}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(0, 1), xlabel=f"image score ({result.image_score})", ylabel="test images")
    axes.set_title(f"{_short(result.name)} on {_short(result.dataset)}")
    axes.legend(loc="upper center", frameon=True, fontsize=9)
    return to_png(figure, [result])


def to_png(figure: Figure, results: Sequence[Evaluation]) -> bytes:
    """The picture as a file's bytes, with the notice under it."""
    figure.supxlabel(picture_notice(results), fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def picture_notice(results: Sequence[Evaluation]) -> str:
    """What every picture says of itself."""
    words = [NOTICE]
    if any(result.synthetic for result in results):
        words.append("synthetic phantoms, not patients")
    if any(result.encoder_random for result in results):
        words.append("random encoder weights")
    return " · ".join(words)


def _panels(results: Sequence[Evaluation], draw: Callable[[Axes, Sequence[Evaluation]], None]) -> bytes:
    sets = list(dict.fromkeys(result.dataset for result in results))
    columns = min(3, len(sets))
    rows = -(-len(sets) // columns)
    figure = _figure(columns * _PANEL, rows * _PANEL + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, dataset in zip(panels, sets, strict=False):
        draw(axes, [result for result in results if result.dataset == dataset])
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=_short(dataset))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower center" if draw is _pr else "lower right", fontsize=8)
    for axes in panels[len(sets) :]:
        axes.axis("off")
    return to_png(figure, results)


def _roc(axes: Axes, results: Sequence[Evaluation]) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for number, result in enumerate(results):
        curve = Ranking(result.scores.labels, result.own_scores).curve()
        look = _look(number, f"{result.figures['image_auroc'].percent:.1f} %", result)
        axes.plot(curve.fp / curve.fp[-1], curve.tp / curve.tp[-1], **look)
        for point in result.points.values():
            spot = 1 - point.specificity.value, point.sensitivity.value
            axes.plot(*spot, marker="o", markersize=8, markerfacecolor="none", color=look["color"])
    axes.set(xlabel="1 − specificity (○ stored operating points)", ylabel="sensitivity")


def _pr(axes: Axes, results: Sequence[Evaluation]) -> None:
    labels = results[0].scores.labels
    axes.axhline(labels.mean(), color="grey", linestyle=":", linewidth=1)
    for number, result in enumerate(results):
        curve = Ranking(result.scores.labels, result.own_scores).curve()
        recall, precision = curve.tp[1:] / curve.tp[-1], curve.tp[1:] / (curve.tp[1:] + curve.fp[1:])
        look = _look(number, f"{result.figures['image_aupr'].percent:.1f} %", result)
        axes.step(np.append(0, recall), np.append(precision[0], precision), where="pre", **look)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision")


def _look(number: int, value: str, result: Evaluation) -> dict[str, Any]:
    style = _STYLES[(number // len(_LINES) + number) % len(_STYLES)]
    named = number < _MOST_NAMED
    label = f"{_short(result.name)}: {value}" if named else None
    return {"color": _LINES[number % len(_LINES)], "linestyle": style, "linewidth": 1.8, "label": label}


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _short(name: str) -> str:
    """Names come from files: no dollar may start a formula, and none may push a plot aside."""
    plain = one_line(name)
    cut = plain if len(plain) <= _LONGEST_NAME else plain[: _LONGEST_NAME - 1] + "…"
    return cut.replace("$", r"\$")
