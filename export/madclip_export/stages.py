"""Where a graph departs from the checkpoint: every stage from ONNX Runtime against PyTorch, an image at a time.

The reference is the encoder as open_clip runs it and the paper's two-channel form; nothing of the fused module takes
part. What this module does not know: limits (limits.py), or what happens on a miss.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from madclip.model import Model, to_unit_floats
from madclip.scores import abnormal_logit, reference_scores
from madclip_export.onnx_file import STAGE
from madclip_runtime.bundle import MODEL

__all__ = ["StageErrors", "compare_stages", "suspect"]

Values = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class StageErrors:
    """errors: one an image: root mean square of the difference, as a share of the stage's own over all images."""

    name: str
    errors: tuple[float, ...]

    @property
    def worst(self) -> float:
        """Of all images; infinite where any value is no number."""
        return max(self.errors)

    @property
    def worst_image(self) -> int:
        """Which of the images."""
        return self.errors.index(self.worst)


def compare_stages(folder: Path, models: Mapping[str, Model], images: npt.NDArray[np.uint8]) -> list[StageErrors]:
    """Every stage that the graph in `folder` names, in its order. images: uint8 [K, S, S, 3]."""
    squares: dict[str, list[tuple[float, float]]] = {}
    with _probe(folder) as session:
        given = [output.name for output in session.get_outputs() if output.name.startswith(STAGE)]
        for image in images:
            expected = _reference(models, image)
            names = [name for name in given if name.removeprefix(STAGE) in expected]
            values = session.run(names, {"image": image[None]})
            for name, value in zip(names, values, strict=True):
                stage = name.removeprefix(STAGE)
                squares.setdefault(stage, []).append(_squares(value, expected[stage]))
    return [_errors(name, np.array(found)) for name, found in squares.items()]


def suspect(stages: list[StageErrors], rounding: float) -> StageErrors:
    """The stage whose error grows most over what came before it, past what rounding adds."""
    before = rounding
    jumps = []
    for stage in stages:
        jumps.append(stage.worst / before)
        before = max(before, stage.worst) if ".level." not in stage.name else before
    return stages[int(np.argmax(np.nan_to_num(jumps, nan=np.inf)))]


@contextlib.contextmanager
def _probe(folder: Path) -> Iterator[Any]:
    """A session of the graph whose stages are outputs too; the changed graph lies beside the weights while it runs."""
    import onnxruntime

    model = onnx.load(folder / MODEL, load_external_data=False)
    known = {output.name for output in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name.startswith(STAGE) and name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    path = folder / ".stages.onnx"
    try:
        path.write_bytes(model.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        yield onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    finally:
        path.unlink(missing_ok=True)


@torch.no_grad()
def _reference(models: Mapping[str, Model], image: npt.NDArray[np.uint8]) -> Values:
    """The same stages in PyTorch, float32, of one image."""
    encoder = next(iter(models.values())).encoder
    found: dict[str, Tensor] = {}
    handles = _watch(encoder.visual, encoder.spec.taps, found)
    try:
        pixels = to_unit_floats(image[None])
        taps = encoder.taps(pixels)
    finally:
        for handle in handles:
            handle.remove()
    found["pixels"] = (pixels - encoder.mean) / encoder.std
    for tap, value in zip(encoder.spec.taps, taps, strict=True):
        found[f"block.{tap:02}"] = value
    for head, model in models.items():
        found |= {f"{head}.{name}": value for name, value in _levels(model, taps).items()}
    return {name: value.numpy() for name, value in found.items()}


def _levels(model: Model, taps: list[Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for number, (normal, abnormal) in enumerate(model.adapters(taps), start=1):
        t_n, t_ab = model.t_normal, model.t_abnormal
        scores = abnormal_logit(reference_scores(normal, abnormal, t_n, t_ab, subtraction=model.subtraction))
        found |= {f"level.{number}.det": scores[:, :, 0], f"level.{number}.seg": scores[:, :, 1]}
    return found


def _watch(visual: Any, taps: tuple[int, ...], found: dict[str, Tensor]) -> list[Any]:
    """Hooks on open_clip's own blocks; none on a tower of another kind."""
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None:
        return []
    handles = [blocks[0].register_forward_pre_hook(lambda _, given: found.__setitem__("embedding", given[0]))]
    for number, block in enumerate(blocks[: taps[-1]], start=1):
        for name, part in (("ln_1", block.ln_1), ("ln_2", block.ln_2), ("mlp", block)):
            key = f"block.{number:02}.{name}"
            handles.append(part.register_forward_hook(lambda _, __, out, key=key: found.__setitem__(key, out)))
        key = f"block.{number:02}.attention"
        handles.append(block.ln_2.register_forward_pre_hook(lambda _, given, k=key: found.__setitem__(k, given[0])))
    return handles


def _squares(value: npt.NDArray[Any], expected: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Mean squares of the difference and of what is expected. Where no class token is computed, none is expected."""
    if expected.shape != value.shape:
        expected = expected[:, 1:]
    difference = value.astype(np.float64) - expected
    return float(np.square(difference).mean()), float(np.square(expected, dtype=np.float64).mean())


def _errors(name: str, squares: npt.NDArray[np.float64]) -> StageErrors:
    size = max(float(squares[:, 1].mean()), 1e-24)
    errors = np.nan_to_num(np.sqrt(squares[:, 0] / size), nan=np.inf)
    return StageErrors(name, tuple(float(error) for error in errors))
