"""The trained parts together, and the reference way to score an image with them.

`reference` is the paper's two-channel form, kept apart from the one-channel form that trains and is exported: export
is compared with this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from madclip.adapters import DualBranchAdapters
from madclip.encoder import Encoder
from madclip.scores import detection_score, level_map, reference_scores, smooth

__all__ = ["Answers", "Model", "image_scores", "to_unit_floats"]


@dataclass(frozen=True)
class Answers:
    """Scores of N images. det: float64 [N], mean over patches. maps: float32 [N, S, S]. All in 0–1."""

    det: npt.NDArray[np.float64]
    maps: npt.NDArray[np.float32]

    @property
    def map_max(self) -> npt.NDArray[np.float64]:
        """Maximum of each map: float64 [N]."""
        return self.maps.reshape(len(self.maps), -1).max(axis=1).astype(np.float64)

    def image_scores(self, rule: str, map_share: float = 1.0) -> npt.NDArray[np.float64]:
        """By the rule: float64 [N]. See image_scores."""
        return image_scores(rule, map_share, self.det, self.map_max)


@dataclass(frozen=True)
class Model:
    """A frozen encoder, its adapters, and the two text embeddings (float [e], unit length), all on one device.

    subtraction: False is the paper's ablation (d). smoothing_px: of the map, 0 for none.
    """

    encoder: Encoder
    adapters: DualBranchAdapters
    t_normal: Tensor
    t_abnormal: Tensor
    subtraction: bool = True
    smoothing_px: float = 0.0

    @torch.no_grad()
    def reference(self, images: npt.NDArray[np.uint8], *, batch: int = 8, progress: bool = True) -> Answers:
        """images: uint8 [N, S, S, 3] RGB 0–255, already preprocessed; progress on stderr if a terminal."""
        det, maps = [], []
        for start in tqdm(range(0, len(images), batch), desc="scoring", disable=None if progress else True):
            d, m = self._batch(to_unit_floats(images[start : start + batch]))
            det.append(d.double().cpu().numpy())
            maps.append(m.cpu().numpy())
        return Answers(np.concatenate(det), np.concatenate(maps))

    def _batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        size = self.encoder.spec.image_size
        det, maps = [], []
        for normal, abnormal in self.adapters(self.encoder.taps(images)):
            scores = reference_scores(normal, abnormal, self.t_normal, self.t_abnormal, subtraction=self.subtraction)
            det.append(detection_score(scores[:, :, 0]))
            maps.append(level_map(scores[:, :, 1], size))
        return torch.stack(det).mean(0), smooth(torch.stack(maps).mean(0), self.smoothing_px)


def image_scores(
    rule: str, map_share: float, det: npt.NDArray[np.float64], map_max: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """rule: "det", "map_max", or "blend": (1 − map_share)·det + map_share·map_max. All float64 [N], 0–1."""
    if rule == "blend":
        return (1 - map_share) * det + map_share * map_max
    return det if rule == "det" else map_max


def to_unit_floats(images: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [N, S, S, 3] RGB 0–255 → float [N, 3, S, S] RGB 0–1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
