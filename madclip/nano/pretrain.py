"""`madclip pretrain-nano`: pictures, canvases and phantoms → the encoder's weights, half precision, one file.

Two stages: the image tower from a teacher (distil), then the text tower on captioned images (captions). The state is
kept beside the result, so that an interrupted run goes on and ends with the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from madclip.encoder import Encoder, load_encoder
from madclip.nano.captions import CaptionConfig, learn_captions
from madclip.nano.distil import Batch, DistilConfig, Distiller, Step
from madclip.nano.pictures import PICTURES, load_pictures
from madclip.nano.views import Bytes, Sources, make_batch
from madclip.progress import TrainingState
from madclip_runtime.files import write_whole

__all__ = ["Curve", "Made", "distil", "pretrain", "save_weights"]

_EVERY = 200
"""Steps between two rows of the curve; the state is kept as often."""
_JUDGED = 24
"""Whole views that the student is judged by."""


@dataclass
class Curve:
    """How the student nears its teacher on views that no step sees, by its own tokens throughout.

    rows: [step, mean loss since the last row, unexplained variance after the embedding and at each tap …].
    """

    rows: list[list[float]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, steps: list[Step], unexplained: tuple[float, ...]) -> list[float]:
        """A new row, after these steps."""
        loss = sum(step.loss for step in steps) / len(steps)
        self.rows.append([steps[-1].step + 1, round(loss, 4), *(round(share, 4) for share in unexplained)])
        return self.rows[-1]

    def write(self, path: Path) -> None:
        """As CSV. Raises: OutputNotWritten."""
        taps = max((len(row) for row in self.rows), default=3) - 3
        head = ["step", "loss", "embedding", *(f"tap{number}" for number in range(1, taps + 1))]
        lines = [",".join(head), *(",".join(f"{value:g}" for value in row) for row in self.rows)]
        write_whole(path, ("\n".join(lines) + "\n").encode())


@dataclass(frozen=True)
class Made:
    """The weights file that was written: its size, its hash, and how long both stages took."""

    nbytes: int
    sha256: str
    seconds: float


def pretrain(
    teacher: Encoder, towers: DistilConfig, words: CaptionConfig, out: Path, *, say: Callable[[str], None]
) -> Made:
    """Both stages, on the teacher's device, with scikit-image's pictures. Beside `out`: its curve, as CSV.

    Raises: UsageError, InputRefused, OutputNotWritten.
    """
    pictures = load_pictures()
    student = load_encoder("nano", "random").to(teacher.device)
    state = out.with_name(out.name + ".training")
    curve = distil(student, teacher, pictures, towers, state=state, say=say)
    curve.write(out.with_suffix(".csv"))
    start = time.perf_counter()
    loss = learn_captions(student, words, say)
    seconds = curve.seconds + time.perf_counter() - start
    recipe = {
        "image tower": asdict(towers),
        "text tower": asdict(words) | {"loss": round(loss, 4)},
        "teacher": {"name": teacher.spec.name, "tensors sha256": teacher.spec.sha256},
        "pictures": PICTURES,
    }
    digest = save_weights(student, out, recipe)
    state.unlink(missing_ok=True)
    return Made(out.stat().st_size, digest, seconds)


def distil(
    student: Encoder,
    teacher: Encoder,
    pictures: list[Bytes],
    config: DistilConfig,
    *,
    state: Path | None,
    say: Callable[[str], None],
) -> Curve:
    """Teach the student's image tower in place. state: where an interrupted run is picked up.

    Raises: UsageError, OutputNotWritten.
    """
    cv2.setNumThreads(1)
    sources, unseen = Sources(pictures, config.seed), Sources(pictures, config.seed + 1)
    judged = torch.from_numpy(make_batch(unseen, config.seed + 1, 0, _JUDGED, student.spec.image_size))
    distiller = Distiller(student, teacher, config)
    kept, curve = _resume(distiller, student, teacher, config, state, say)
    start, recent = time.perf_counter() - curve.seconds, []

    def views(step: int, batch: Batch) -> Tensor:
        return torch.from_numpy(make_batch(sources, config.seed, step, batch.count, batch.size))

    for step in distiller.run(views):
        recent.append(step)
        if distiller.step % _EVERY and distiller.step != config.steps:
            continue
        row, recent = curve.add(recent, distiller.unexplained(judged)), []
        curve.seconds = time.perf_counter() - start
        words = " ".join(f"{100 * share:.1f}" for share in row[2:])
        say(f"step {row[0]:.0f}/{config.steps}: loss {row[1]:.3f}, {words} % unexplained, {curve.seconds:.0f} s")
        if kept:
            kept.save(distiller.state() | {"curve": curve.rows, "seconds": curve.seconds})
    student.eval().requires_grad_(False)
    return curve


def _resume(
    distiller: Distiller,
    student: Encoder,
    teacher: Encoder,
    config: DistilConfig,
    state: Path | None,
    say: Callable[[str], None],
) -> tuple[TrainingState | None, Curve]:
    if state is None:
        return None, Curve()
    made_of = (student.spec.name, teacher.spec.sha256, asdict(config), torch.__version__)
    kept = TrainingState(state, hashlib.sha256(repr(made_of).encode()).hexdigest())
    content = kept.load()
    if content is None:
        return kept, Curve()
    distiller.load_state(content)
    say(f"going on after step {distiller.step}")
    return kept, Curve(content["curve"], float(content["seconds"]))


def save_weights(encoder: Encoder, path: Path, recipe: dict[str, Any]) -> str:
    """Half-precision safetensors with the recipe in its header; returns the file's SHA-256.

    Raises: OutputNotWritten.
    """
    from safetensors.torch import save

    halves = {name: tensor.detach().cpu().half().contiguous() for name, tensor in encoder.clip.state_dict().items()}
    data = save(halves, metadata={"recipe": json.dumps(recipe, sort_keys=True)})
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()
