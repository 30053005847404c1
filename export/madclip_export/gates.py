"""All gates of a staged bundle: what was measured, whether it may leave, and which stage and image are to blame.

numeric parity (golden images, singly and in a batch) · stages (every layer against the checkpoint) · verification data
(given images: figures, ranks, decisions). NaN or an impossible value anywhere is refused by the engine itself, whatever
is accepted here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from madclip.checkpoint import Checkpoint
from madclip.model import Model
from madclip_export.limits import ROUNDING, STAGES, keeps
from madclip_export.parity import Parity, measure_parity
from madclip_export.stages import StageErrors, compare_stages, suspect
from madclip_export.verify import Verified, verify
from madclip_runtime.bundle import Bundle
from madclip_runtime.engines import load_engine
from madclip_runtime.errors import BundleRefused
from madclip_runtime.manifest import Gate

__all__ = ["Measured", "ParityMissed", "measure"]

Say = Callable[[str], None]


class ParityMissed(BundleRefused):
    """The exported graph does not compute what the checkpoint computes, so nothing was left."""


@dataclass(frozen=True)
class Measured:
    """Everything the gates found. parity, verified: by head. stages: of the golden images."""

    precision: str
    parity: dict[str, Parity]
    stages: tuple[StageErrors, ...]
    verified: dict[str, Verified]

    @property
    def gates(self) -> tuple[Gate, ...]:
        """As the manifest keeps them."""
        return (
            *(found.gate() for found in self.parity.values()),
            self._stage_gate(),
            *(found.gate() for found in self.verified.values()),
        )

    @property
    def missed(self) -> tuple[Gate, ...]:
        """Those that were not kept."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def score_error(self, head: str) -> float:
        """The largest difference from the checkpoint's score on any image that was looked at."""
        found = [self.parity[head].measured["score"]]
        if head in self.verified:
            found.append(float(self.verified[head].score.max()))
        return max(found)

    def lines(self) -> list[str]:
        """What a person reads."""
        found = [line for parity in self.parity.values() for line in parity.table().splitlines()]
        blamed = self._suspect()
        found.append(f"stages: worst {self._worst_stage():.1e} of its size, limit {STAGES[self.precision]:.0e}")
        found.append(f"largest step at {blamed.name}: {blamed.worst:.1e}, golden image {blamed.worst_image}")
        return found + [line for verified in self.verified.values() for line in verified.lines()]

    def refusal(self) -> str:
        """Which gates were missed, and where: one sentence."""
        parts = []
        for gate in self.missed:
            over = [name for name, limit in gate.limits.items() if not keeps(name, gate.measured[name], limit)]
            of_head = f"{gate.head}: " if gate.head else ""
            parts.append(f"{of_head}{gate.name} ({', '.join(over)} beyond the limit for {self.precision})")
        blamed = self._suspect()
        image = next(iter(self.parity.values())).worst_image
        where = f"first departs from the checkpoint at {blamed.name}, on golden image {blamed.worst_image}"
        return f"{'; '.join(parts)}; {where}; worst golden image {image}"

    def _stage_gate(self) -> Gate:
        worst, limit = self._worst_stage(), STAGES[self.precision]
        return Gate(
            name="stages",
            reference="PyTorch fp32, the encoder as open_clip runs it",
            engine="onnxruntime-cpu",
            images=len(self.stages[0].errors),
            passed=worst <= limit,
            measured={"worst": min(worst, 1e9)},
            limits={"worst": limit},
        )

    def _worst_stage(self) -> float:
        return max(stage.worst for stage in self.stages)

    def _suspect(self) -> StageErrors:
        return suspect(list(self.stages), ROUNDING[self.precision])


def measure(
    folder: Path,
    checkpoints: Mapping[str, Checkpoint],
    models: Mapping[str, Model],
    verify_data: Mapping[str, Path],
    say: Say,
) -> Measured:
    """folder: a staged bundle, loaded here exactly as a hospital would.

    Raises: BundleRefused, EngineRefused, InputRefused.
    """
    bundle = Bundle.load(folder)
    precision = bundle.manifest.precision
    engine = load_engine(bundle, "cpu")
    golden = {head: bundle.golden(head) for head in models}
    images = next(iter(golden.values())).images
    say(f"comparing with the checkpoint on {len(images)} golden images")
    parity = measure_parity(engine, golden, precision)
    if len(models) > 1:  # each has a graph of its own too
        for head, found in parity.items():
            alone = load_engine(bundle.only(head), "cpu").run(images)[head]
            parity[head] = found.or_worse(golden[head], alone)
    stages = compare_stages(folder, models, images)
    verified = {}
    for head, data in verify_data.items():
        say(f"comparing {head} with the checkpoint on {data}")
        verified[head] = verify(engine, checkpoints[head], models[head], head, precision, data)
    return Measured(precision, parity, tuple(stages), verified)
