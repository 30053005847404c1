"""Everything that makes a checkpoint what it is, as frozen dataclasses, written whole into it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from madclip_runtime.errors import UsageError

__all__ = [
    "AVERAGE_LAST",
    "DEFAULT_ENCODER",
    "IMAGE_SIZE",
    "MAP_SMOOTHING_PX",
    "EncoderSpec",
    "MethodConfig",
    "TrainConfig",
    "objective_for",
]

DEFAULT_ENCODER = "ViT-L-14-336"
IMAGE_SIZE = 240
"""Pixels a side (paper, section 3)."""
MAP_SMOOTHING_PX = 4.0
AVERAGE_LAST = 10
"""What `madclip train` adds to the paper's method; --as-paper leaves both away. Their worth: docs/experiments.md."""

_OBJECTIVES = {
    "Brain": "Brain",
    "Liver": "Liver",
    "Retina": "retinal OCT",
    "OCT": "retinal OCT",
    "Chest": "Chest X-ray film",
    "NIHChest": "Chest X-ray film",
    "CheXpert": "Chest X-ray film",
    "Histopathology": "histopathological image",
}


_CHOICES = {
    "prompts": ("both", "abnormal", "fixed"),
    "branches": ("dual", "shared"),
    "image_loss": ("siglip", "softmax"),
    "heads": ("separate", "common"),
}
_RULES = ("auto", "authors", "det", "map_max", "blend")


@dataclass(frozen=True)
class EncoderSpec:
    """Which frozen CLIP, exactly.

    name: as asked for. model_config: open_clip's model config as JSON text where it is not one of open_clip's own, else
    empty. weights: "tag:<hub tag>", "file:<path>", "built-in:<file>", "random:<seed>" or "hub". sha256: over every
    tensor of the loaded model, so that the same numbers are recognised wherever they come from. taps: 1-based block
    numbers.
    mean, std: per channel, of pixels in 0–1; (0, 0, 0) and (1, 1, 1) mean no normalisation.
    """

    name: str
    model_config: str
    weights: str
    sha256: str
    image_size: int
    taps: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    quick_gelu: bool
    causal_mask: bool = True

    @property
    def random(self) -> bool:
        """True where the weights were never learned: scores then test the pipeline, not the method."""
        return self.weights.startswith("random:")

    def parsed_config(self) -> dict[str, Any] | None:
        """The model config as a dict, None where open_clip knows the name itself."""
        return json.loads(self.model_config) if self.model_config else None


@dataclass(frozen=True)
class MethodConfig:
    """The method's own constants (paper section 2; where the authors' code differs, docs/method.md says so).

    The defaults are the paper's main configuration; each of the last five is one of its ablations:
    prompts "both" | "abnormal" | "fixed" (a) · branches "dual" | "shared" (c) · subtraction (d) ·
    image_loss "siglip" | "softmax" (e) · heads "separate" | "common" (f). Ablation (b) is the objective.
    map_smoothing_px: standard deviation of the Gaussian over the finished map, in pixels; 0, as in the paper, for none.
    """

    objective: str
    context_vectors: int = 8
    negative_slope: float = 0.01
    token_norm_eps: float = 1e-5
    prompts: str = "both"
    branches: str = "dual"
    subtraction: bool = True
    image_loss: str = "siglip"
    heads: str = "separate"
    map_smoothing_px: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} {getattr(self, name)!r}", f"must be one of {', '.join(allowed)}")
        if not 0 <= self.map_smoothing_px <= 64:
            raise UsageError(f"map smoothing {self.map_smoothing_px}", "must be 0 to 64 pixels")


@dataclass(frozen=True)
class TrainConfig:
    """How the adapters and prompts are learned (paper section 3).

    shots: of each class, drawn by seed; or by the line `list_index` of the file `shot_list`, whose own counts then
    rule. allow_unbalanced: whether such a list may give the classes different counts. device, precision: where the
    steps were computed, and in which precision their matrix products (madclip.device). average_last: of how many last
    epochs the weights' mean is kept, at most half of all; 1, as in the paper, keeps the last. image_score: "auto"
    (madclip.rule), "authors" (map_max where masks were trained on, else det), or the rule asked for.
    """

    shots: int = 16
    seed: int = 111
    epochs: int = 60
    batch_size: int = 16
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    shot_list: str = ""
    list_index: int = 0
    allow_unbalanced: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    average_last: int = 1
    image_score: str = "auto"

    def __post_init__(self) -> None:
        for name, value, least in (("--shots", self.shots, 1), ("--epochs", self.epochs, 1), ("--seed", self.seed, 0)):
            if value < least:
                raise UsageError(f"{name} {value}", f"must be at least {least}")
        if self.image_score not in _RULES:
            raise UsageError(f"--image-score {self.image_score}", f"must be one of {', '.join(_RULES)}")

    @property
    def averaged(self) -> int:
        """Of how many last epochs the weights' mean is kept."""
        return max(1, min(self.average_last, self.epochs // 2))


def objective_for(dataset: str) -> tuple[str, bool]:
    """The paper's word for what a data set shows, by the start of its name; "medical image" where it has none.

    Returns the objective and whether the name was known.
    """
    for prefix, objective in _OBJECTIVES.items():
        if dataset.lower().startswith(prefix.lower()):
            return objective, True
    return "medical image", False
