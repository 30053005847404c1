"""The MadCLIP authors' own checkpoints (`Brain.pth` …) as ours, with their code's habits as recorded settings.

Their file: state dicts of four modules a branch (`{i}.fc1.0.weight` shared, `fc2` det, `fc3` seg) and of two prompt
makers (`prompt_learner.ctx.<class>_<position>`, float [7, 8, text width]). Their habits: no mean/std on the input,
plain GELU, no causal mask in the prompt encoder. The file is read with weights_only=True, never by plain unpickling.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from madclip.checkpoint import Card, Checkpoint
from madclip.config import MethodConfig, TrainConfig, objective_for
from madclip.encoder import Encoder
from madclip.prompts import PromptLearner, TextTower
from madclip_runtime.errors import BundleRefused, UsageError
from madclip_runtime.manifest import Calibration, DataCard

__all__ = ["AUTHORS_SETS", "import_authors", "with_their_habits"]

AUTHORS_SETS = {
    "Brain": True,
    "Liver": True,
    "Retina_RESC": True,
    "Retina_OCT2017": False,
    "Chest": False,
    "Histopathology": False,
}
"""Their data sets, and whether each has masks: then their score is the map's maximum, else the det mean."""

_HEADS = {"shared": "fc1", "det": "fc2", "seg": "fc3"}
_CLASSES = ("normal", "abnormal")
_POSITIONS = ("end", "front", "middle")
_DO = "give a file that their train.py saved with --text_mood learnable_all"


def with_their_habits(encoder: Encoder) -> Encoder:
    """The same weights, run as their code runs them. The encoder must have been built without QuickGELU."""
    spec = replace(encoder.spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), causal_mask=False)
    return Encoder(encoder.clip, spec)


def import_authors(path: Path, dataset: str, encoder: Encoder) -> Checkpoint:
    """path: their file. dataset: one of AUTHORS_SETS. encoder: already with_their_habits.

    Raises: UsageError for an unknown set; BundleRefused for anything but such a file, naming what is wrong.
    """
    if dataset not in AUTHORS_SETS:
        raise UsageError(f"--dataset {dataset}", f"is not one of {', '.join(AUTHORS_SETS)}")
    content, sha256 = _read(path)
    adapters = _adapters(content, len(encoder.spec.taps), path)
    context = _context(content, path)
    width, embed_dim = adapters["normal.0.shared.weight"].shape[1], adapters["normal.0.det.weight"].shape[0]
    method = MethodConfig(objective_for(dataset)[0], context_vectors=context.shape[3])
    t_normal, t_abnormal = _text(encoder, method, context, embed_dim, path)
    card = Card(
        encoder=encoder.spec,
        method=method,
        train=TrainConfig(),
        data=_data_card(dataset, method),
        image_score="map_max" if AUTHORS_SETS[dataset] else "det",
        calibration=Calibration(
            reason=f"imported from the authors' file {sha256[:12]}; no validation images were seen"
        ),
        width=width,
        embed_dim=embed_dim,
        image_score_reason="the authors' rule for this set",
    )
    return Checkpoint(card, adapters, {"context": context}, t_normal, t_abnormal)


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        data = path.read_bytes()
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on a bad file; none of them may run code
        raise BundleRefused(
            str(path), f"not a plain torch file ({str(error).partition(chr(10))[0][:120]})", _DO
        ) from None
    wanted = {f"{c}_det_adapters" for c in _CLASSES} | {f"prompt_maker_{c}" for c in _CLASSES}
    missing = wanted - set(content) if isinstance(content, dict) else wanted
    if missing:
        raise BundleRefused(str(path), f"lacks {', '.join(sorted(missing))}", _DO)
    return content, hashlib.sha256(data).hexdigest()


def _adapters(content: dict[str, Any], levels: int, path: Path) -> dict[str, Tensor]:
    adapters: dict[str, Tensor] = {}
    for branch in _CLASSES:
        state = content[f"{branch}_det_adapters"]
        for level in range(levels):
            for ours, theirs in _HEADS.items():
                key = f"{level}.{theirs}.0.weight"
                if not isinstance(state.get(key), Tensor):
                    raise BundleRefused(str(path), f"{branch}_det_adapters lacks {key}", _DO)
                adapters[f"{branch}.{level}.{ours}.weight"] = state[key].float()
    return _of_one_shape(adapters, path)


def _of_one_shape(adapters: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    shapes: dict[str, set[tuple[int, ...]]] = {ours: set() for ours in _HEADS}
    for name, tensor in adapters.items():
        shapes[name.split(".")[2]].add(tuple(tensor.shape))
    if any(len(found) != 1 for found in shapes.values()) or shapes["det"] != shapes["seg"]:
        raise BundleRefused(str(path), f"its adapters have mixed shapes: {shapes}", _DO)
    return adapters


def _context(content: dict[str, Any], path: Path) -> Tensor:
    """float [2 classes, 3 positions, 7 states, M, text width]."""
    rows = []
    for name in _CLASSES:
        state = content[f"prompt_maker_{name}"]
        keys = [f"prompt_learner.ctx.{name}_{position}" for position in _POSITIONS]
        missing = [key for key in keys if not isinstance(state.get(key), Tensor)]
        if missing:
            raise BundleRefused(str(path), f"prompt_maker_{name} lacks {', '.join(missing)}", _DO)
        rows.append(torch.stack([state[key].float() for key in keys]))
    return torch.stack(rows)


def _text(encoder: Encoder, method: MethodConfig, context: Tensor, embed_dim: int, path: Path) -> tuple[Tensor, Tensor]:
    learner = PromptLearner(TextTower(encoder), method, torch.Generator())
    if learner.context.shape != context.shape:
        why = f"its prompts have shape {tuple(context.shape)}, this encoder takes {tuple(learner.context.shape)}"
        raise BundleRefused(str(path), why, "name the encoder it was trained on: --encoder")
    with torch.no_grad():
        learner.context.copy_(context)
        t_normal, t_abnormal = learner()
    if len(t_normal) != embed_dim:
        raise BundleRefused(
            str(path), f"its heads are {embed_dim} wide, this encoder's text {len(t_normal)}", "--encoder"
        )
    return t_normal.clone(), t_abnormal.clone()


def _data_card(dataset: str, method: MethodConfig) -> DataCard:
    """Their file does not say how many shots or epochs: 0 stands for unknown."""
    return DataCard(
        dataset=dataset,
        objective=method.objective,
        synthetic=False,
        normal_shots=0,
        abnormal_shots=0,
        masks=AUTHORS_SETS[dataset],
        epochs=0,
        seed=0,
    )
