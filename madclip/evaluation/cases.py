"""The test images that teach most: the normals scored highest, the abnormals scored lowest, and the clearest finds.

These pictures hold pixels of the user's images: they are written to the folder the user names, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from madclip.data import Case
from madclip.evaluation.plots import to_png
from madclip.evaluation.result import Evaluation
from madclip.model import Model
from madclip.reading import load_cases
from madclip_runtime.errors import one_line
from madclip_runtime.imaging import read_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SHOWN", "case_pictures", "choose_cases"]

SHOWN = 4
"""Images in each picture."""
_TITLES = {
    "normals-highest": "normal images with the highest scores",
    "abnormals-lowest": "abnormal images with the lowest scores",
    "abnormals-highest": "abnormal images with the highest scores",
}
_LESION, _FLAGGED = "#E69F00", "#56B4E9"
_HEAT = "cividis"


def choose_cases(labels: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> dict[str, list[int]]:
    """Which images each picture shows, the most telling first. labels: int64 [N], 1 abnormal. scores: float64 [N]."""
    falling = np.argsort(-scores, kind="stable")
    normal, abnormal = falling[labels[falling] == 0], falling[labels[falling] == 1]
    chosen = (normal[:SHOWN], abnormal[::-1][:SHOWN], abnormal[:SHOWN])
    return {name: [int(i) for i in of_it] for name, of_it in zip(_TITLES, chosen, strict=True)}


@dataclass(frozen=True)
class _Shown:
    """One image of a picture. image: uint8 [S, S, 3]. mask: bool [S, S]. heat: float32 [S, S] 0–1.

    extent: matplotlib's (left, right, bottom, top) that gives the square its image's own shape back.
    """

    title: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    heat: npt.NDArray[np.float32]
    extent: tuple[float, float, float, float]


def case_pictures(result: Evaluation, model: Model) -> dict[str, bytes]:
    """The three pictures as PNG, by name; the chosen images are read and scored again. Raises: InputRefused."""
    chosen = choose_cases(result.scores.labels, result.own_scores)
    needed = sorted({index for indices in chosen.values() for index in indices})
    cases = tuple(result.scores.cases[index] for index in needed)
    loaded = load_cases(cases, model.encoder.spec.image_size)
    maps = model.reference(loaded.images).maps
    shown = {
        index: _Shown(_title(result, index), loaded.images[n], loaded.masks[n], maps[n], _own_shape(cases[n]))
        for n, index in enumerate(needed)
    }
    return {name: _picture(result, name, [shown[index] for index in indices]) for name, indices in chosen.items()}


def _picture(result: Evaluation, name: str, shown: Sequence[_Shown]) -> bytes:
    from matplotlib.figure import Figure

    learned, threshold = result.checkpoint.card.data.masks, _map_threshold(result)
    figure = Figure(figsize=(3.1 * len(shown) + 0.9, 7.0), layout="constrained")
    panels = figure.subplots(2, len(shown), squeeze=False)
    for (above, below), one in zip(panels.T, shown, strict=True):
        above.imshow(one.image, extent=one.extent)
        above.set_title(one.title, fontsize=9)
        above.set(xticks=[], yticks=[])
        _show_map(below, one, learned=learned)
        for axes in (above, below):
            _outline(axes, one, one.mask, _LESION, "solid")
        if threshold is not None:
            _outline(above, one, one.heat >= threshold, _FLAGGED, "dashed")
    figure.suptitle(f"{_cut(result.name)} on {_cut(result.dataset)}: {_TITLES[name]}", fontsize=11, x=0.01, ha="left")
    _explain(figure, panels, threshold, learned=learned)
    return to_png(figure, [result])


def _title(result: Evaluation, index: int) -> str:
    return f"{_cut(result.scores.cases[index].image.name)}\nscore {result.own_scores[index]:.3f}"


def _own_shape(case: Case) -> tuple[float, float, float, float]:
    height, width = read_image(case.image).pixels.shape[:2]
    return 0.0, float(width), float(height), 0.0


def _show_map(axes: Axes, one: _Shown, *, learned: bool) -> None:
    """On the fixed scale 0–1; a map that was never trained is not shown as if it meant something."""
    axes.set(xticks=[], yticks=[])
    if learned:
        axes.imshow(one.heat, cmap=_HEAT, vmin=0, vmax=1, extent=one.extent)
    else:
        axes.text(0.5, 0.5, "no heat map:\ntrained without masks", ha="center", va="center", transform=axes.transAxes)


def _outline(axes: Axes, one: _Shown, region: npt.NDArray[np.bool_], colour: str, style: str) -> None:
    if region.all() or not region.any():
        return
    size = len(region)
    x, y = ((np.arange(size) + 0.5) * side / size for side in one.extent[1:3])
    for width, ink in ((2.4, "black"), (1.2, colour)):  # a dark rim keeps it visible on bright tissue
        axes.contour(x, y, region.astype(float), levels=[0.5], colors=ink, linewidths=width, linestyles=style)


def _map_threshold(result: Evaluation) -> float | None:
    """The default operating point's, where it is one of the map."""
    default = result.checkpoint.card.calibration.default
    return result.points[default].threshold if default and result.image_score == "map_max" else None


def _explain(figure: Figure, panels: npt.NDArray[np.object_], threshold: float | None, *, learned: bool) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=_LESION, label="lesion mask")]
    if threshold is not None:
        handles.append(Line2D([], [], color=_FLAGGED, linestyle="dashed", label=f"map ≥ {threshold:.3f}"))
    figure.legend(handles=handles, loc="outside upper right", ncols=2, fontsize=9)
    if learned:
        bar = figure.colorbar(ScalarMappable(Normalize(0, 1), _HEAT), ax=list(panels[1]), shrink=0.85)
        bar.set_label("map, 0–1")


def _cut(name: str) -> str:
    plain = one_line(name).replace("$", r"\$")
    return plain if len(plain) <= 34 else f"{plain[:15]}…{plain[-18:]}"
