"""The image tower learns from a teacher: the same taps, from fewer blocks.

The student falls into five sections: the embedding of patches, and the blocks up to each tap. A section starts either
from what the section before it made, or from the teacher's tokens in its place. Training hands over from the latter
to the former, so that all sections learn from the first step on. The loss is the share of the teacher's variance that
is not explained, channel by channel, mean over sections. Neighbouring pixels are nearly equal, which makes fine
texture slow to learn; so the patch embedding moves in a basis where pixels are uncorrelated.

What this module does not know: where the views come from, and what the tower is used for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from madclip.encoder import Encoder
from madclip_runtime.errors import UsageError

__all__ = ["DistilConfig", "Distiller", "Phase", "Step"]

_SURVEY = 16
"""Batches looked at before the first step."""
_QUICKER = 16.0
_FLOOR = 0.003
"""Added to the variance along each direction of pixel space, in normalised units squared."""


@dataclass(frozen=True)
class Phase:
    """`steps` steps of `batch` views of `size` × `size` pixels, a multiple of 16."""

    size: int
    batch: int
    steps: int


@dataclass(frozen=True)
class DistilConfig:
    """How the image tower is taught: at a steady rate in the first phase, which then falls to zero.

    hand_over: between which steps sections turn from the teacher's tokens to their own. bf16: matrix products in
    bfloat16 (for large batches, on processors that have it).
    """

    phases: tuple[Phase, ...] = (Phase(128, 8, 4000), Phase(240, 3, 1000))
    seed: int = 0
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 60
    hand_over: tuple[int, int] = (400, 1600)
    bf16: bool = False

    @classmethod
    def of_steps(cls, steps: int, *, seed: int = 0, bf16: bool = False) -> DistilConfig:
        """So many steps: four fifths on views of 128 pixels, the rest on whole images of 240 while the rate falls."""
        first = round(steps * 4 / 5)
        return cls(phases=(Phase(128, 8, first), Phase(240, 3, steps - first)), seed=seed, bf16=bf16)

    @property
    def steps(self) -> int:
        """All phases together."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> Phase:
        """The phase that 0-based `step` falls into."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]

    def rate_at(self, step: int) -> float:
        """Learning rate: a linear start, steady, then linear down to zero."""
        first = self.phases[0].steps
        falling = (self.steps - step) / max(1, self.steps - first)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, falling)

    def own_share_at(self, step: int) -> float:
        """How many of the views a section takes from the student's own section before it, 0–1."""
        start, end = self.hand_over
        return min(1.0, max(0.0, (step - start) / max(1, end - start)))


@dataclass(frozen=True)
class Step:
    """One step done: its number from 0, side of the views in pixels, and unexplained variance at each tap, 0 is all."""

    step: int
    size: int
    unexplained: tuple[float, ...]


class Distiller:
    """Student, teacher and optimiser; `run` teaches, `state` and `load_state` let it be interrupted."""

    def __init__(self, student: Encoder, teacher: Encoder, config: DistilConfig) -> None:
        """Both on one device. Raises: UsageError where their taps can't be compared."""
        mine, theirs = _shape(student), _shape(teacher)
        if mine != theirs:
            raise UsageError(
                f"teacher {teacher.spec.name}", f"its taps × width × patch are {theirs}, nano's are {mine}"
            )
        self.student, self.teacher, self.config = student, teacher, config
        self.step = 0
        visual: Any = student.visual
        self._core = nn.Parameter(torch.zeros_like(visual.conv1.weight.flatten(1)))
        self._basis = torch.eye(self._core.shape[1], device=student.device)
        self._spread: list[Tensor] = []
        self._moving = [p for name, p in student.visual.named_parameters() if _is_taught(name)]
        for parameter in self._moving:
            parameter.requires_grad_(True)
        self._optimiser = self._group({id(visual.positional_embedding), id(visual.class_embedding)})

    def _group(self, first: set[int]) -> torch.optim.AdamW:
        """Matrices decay; positions have the longest way to go, and a higher rate."""
        quick = [p for p in self._moving if id(p) in first]
        decays = [p for p in self._moving if p.ndim > 1 and id(p) not in first]
        rest = [p for p in self._moving if p.ndim == 1 and id(p) not in first]
        self._moving.append(self._core)
        groups = [
            {"params": decays, "weight_decay": self.config.weight_decay, "times": 1.0},
            {"params": rest, "weight_decay": 0.0, "times": 1.0},
            {"params": quick, "weight_decay": 0.0, "times": _QUICKER},
            {"params": [self._core], "weight_decay": 0.0, "times": 2.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.98), fused=True)

    def run(self, views: Callable[[int, Phase], Tensor]) -> Iterator[Step]:
        """views: step, phase → float [N, 3, s, s] RGB 0–1. Yields after each step, so the caller may stop or save."""
        if not self._spread and self.step < self.config.steps:
            first = self.config.phase_at(0)
            self._survey([views(step, first).to(self.student.device) for step in range(_SURVEY)])
        while self.step < self.config.steps:
            phase = self.config.phase_at(self.step)
            unexplained = self._learn(views(self.step, phase).to(self.student.device), self._places(phase))
            self.step += 1
            yield Step(self.step - 1, phase.size, unexplained)
        self._settle()

    def state(self) -> dict[str, Any]:
        """Everything that moves, for torch.save."""
        self._settle()
        taught = {name: tensor for name, tensor in self.student.visual.state_dict().items() if _is_taught(name, True)}
        fixed = {"basis": self._basis, "spread": self._spread, "core": self._core.detach()}
        return {"step": self.step, "student": taught, "optimiser": self._optimiser.state_dict(), **fixed}

    def load_state(self, state: dict[str, Any]) -> None:
        """What state() gave, under the same config."""
        self.step = int(state["step"])
        self.student.visual.load_state_dict(state["student"], strict=False)
        self._optimiser.load_state_dict(state["optimiser"])
        self._spread = [tensor.to(self.student.device) for tensor in state["spread"]]
        self._basis = state["basis"].to(self.student.device)
        self._core.data.copy_(state["core"])

    @torch.no_grad()
    def _survey(self, batches: list[Tensor]) -> None:
        """From the first views: in which basis pixels are uncorrelated, and how much the teacher's tokens vary."""
        side = _shape(self.student)[2]
        normal = [(batch - self.student.mean) / self.student.std for batch in batches]
        patches = torch.cat(
            [nn.functional.unfold(batch, side, stride=side).transpose(1, 2).flatten(0, 1) for batch in normal]
        )
        variance, directions = torch.linalg.eigh(torch.cov(patches.T.double()))
        self._basis = (directions / (variance + _FLOOR).sqrt()).T.float().contiguous()
        places = self._places(self.config.phase_at(0))
        found = zip(*(_sections(self.teacher, batch, places) for batch in batches), strict=True)
        sections = [torch.cat(section) for section in found]
        self._spread = [_spread(section) for section in sections]
        self._start_at_the_mean([section[:, 1:].mean(dim=(0, 1)) for section in sections])

    def _start_at_the_mean(self, means: list[Tensor]) -> None:
        """Each section begins by moving the mean token as far as the teacher does; Adam alone would take long."""
        blocks: Any = self.student.visual.transformer.resblocks  # type: ignore[union-attr]
        for tap, before, after in zip(self.student.spec.taps, means, means[1:], strict=False):
            blocks[tap - 1].mlp.c_proj.bias.copy_(after - before)

    def _places(self, phase: Phase) -> Tensor:
        """Which of the position embeddings a view has: int64 [1 + L]; small views lie somewhere in the grid."""
        patch = _shape(self.student)[2]
        whole, side = self.student.spec.image_size // patch, phase.size // patch
        generator = torch.Generator().manual_seed(1_000_003 * self.config.seed + self.step)
        top, left = (int(torch.randint(whole - side + 1, (), generator=generator)) for _ in range(2))
        rows = torch.arange(top, top + side)[:, None] * whole + torch.arange(left, left + side)
        return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + rows.flatten()]).to(self.student.device)

    def _learn(self, views: Tensor, places: Tensor) -> tuple[float, ...]:
        with torch.autocast(views.device.type, dtype=torch.bfloat16, enabled=self.config.bf16):
            with torch.no_grad():
                targets = _sections(self.teacher, views, places)
            made = _sections(self.student, views, places, self._kernel(), targets, self._own(len(views)))
        losses = [_unexplained(m, t, s) for m, t, s in zip(made, targets, self._spread, strict=True)]
        for group in self._optimiser.param_groups:
            group["lr"] = group["times"] * self.config.rate_at(self.step)
        self._optimiser.zero_grad(set_to_none=True)
        torch.stack([patch + 0.1 * cls for patch, cls in losses]).mean().backward()
        nn.utils.clip_grad_norm_(self._moving, 1.0)
        self._optimiser.step()
        return tuple(float(patch.detach()) for patch, _ in losses)

    def _kernel(self) -> Tensor:
        """The patch embedding in pixels: float [d, 3, p, p]."""
        embedding: Any = self.student.visual.conv1
        with torch.autocast(self._core.device.type, enabled=False):
            return (self._core @ self._basis).view_as(embedding.weight)

    @torch.no_grad()
    def _settle(self) -> None:
        embedding: Any = self.student.visual.conv1
        embedding.weight.copy_(self._kernel())

    def _own(self, count: int) -> Tensor:
        """bool [N]: views that go on with the student's own tokens."""
        generator = torch.Generator().manual_seed(7_000_003 * (self.config.seed + 1) + self.step)
        own = torch.rand(count, generator=generator) < self.config.own_share_at(self.step)
        return own.to(self.student.device)


def _shape(encoder: Encoder) -> tuple[int, int, int]:
    embedding: Any = encoder.visual.conv1
    return len(encoder.spec.taps), int(embedding.out_channels), int(embedding.kernel_size[0])


def _is_taught(name: str, with_kernel: bool = False) -> bool:
    """Whether the taps depend on the parameter; the patch embedding itself moves in its own basis."""
    return not name.startswith(("ln_post", "proj", "attn_pool")) and (with_kernel or name != "conv1.weight")


def _sections(
    encoder: Encoder,
    views: Tensor,
    places: Tensor,
    kernel: Tensor | None = None,
    feeds: list[Tensor] | None = None,
    own: Tensor | None = None,
) -> list[Tensor]:
    """Embedding and taps with class token: one [N, 1 + L, d] each.

    kernel: in place of the encoder's patch embedding. feeds: what views that are not `own` go on with at each.
    """
    visual: Any = encoder.visual
    kernel = visual.conv1.weight if kernel is None else kernel
    x = nn.functional.conv2d((views - encoder.mean) / encoder.std, kernel, stride=kernel.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1).to(x.dtype), x], dim=1)
    x = visual.ln_pre(x + visual.positional_embedding[places])
    made: list[Tensor] = []
    for number, block in enumerate((None, *visual.transformer.resblocks)):
        x = x if block is None else block(x)
        if number == 0 or number in encoder.spec.taps:
            made.append(x)
            if feeds is not None and own is not None:
                x = torch.where(own[:, None, None], x, feeds[len(made) - 1].to(x.dtype))
    return made


def _spread(target: Tensor) -> Tensor:
    """Standard deviation of each channel: of patch tokens, and of the class token, [2, 1, d]; none near zero."""
    patches = target[:, 1:].flatten(0, 1).std(dim=0)
    classes = target[:, 0].std(dim=0)
    floor = 0.1 * patches.mean()
    return torch.stack([patches.clamp_min(floor), classes.clamp_min(floor)])[:, None]


def _unexplained(made: Tensor, target: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error in units of the teacher's own variance: of patch tokens, of the class token."""
    error = made.float() - target.float()
    return (error[:, 1:] / spread[0]).square().mean(), (error[:, 0] / spread[1]).square().mean()
