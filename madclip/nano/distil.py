"""The image tower learns from a teacher: the same taps, from fewer blocks.

The student falls into sections: the patch embedding, the first block, and the blocks up to each tap; each is held
against the teacher's tokens at its own such place. A section begins either with what the one before made, or with the
teacher's tokens instead. Training hands over from the latter to the former, so that all sections learn from the first
step on. It starts where it can without steps: blocks that change nothing but the mean token, and a patch embedding
fitted by least squares to some hundred views. The loss is the share of the teacher's variance that is not explained,
channel by channel, mean over sections.

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

_RIDGE = 1.0
_FLOOR = 0.003
"""Added to the variance along each direction of pixel space, in normalised units squared."""


@dataclass(frozen=True)
class Phase:
    """`steps` steps of `batch` views of `size` × `size` pixels, a multiple of 16, up to the tap number `taps`."""

    size: int
    batch: int
    steps: int
    taps: int = 4


@dataclass(frozen=True)
class DistilConfig:
    """How the image tower is taught: at a steady rate, which falls to zero in the last phase.

    survey: batches that are looked at before the first step. hand_over: between which shares of the way after the first
    phase sections turn from the teacher's tokens to their own. bf16: matrix products in bfloat16 (for large batches, on
    processors that have it).
    """

    phases: tuple[Phase, ...] = (Phase(128, 16, 1500, taps=1), Phase(128, 8, 2500), Phase(240, 3, 1000))
    seed: int = 0
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup: int = 60
    survey: int = 32
    hand_over: tuple[float, float] = (0.1, 0.5)
    bf16: bool = False

    @classmethod
    def of_steps(cls, steps: int, *, seed: int = 0, bf16: bool = False) -> DistilConfig:
        """So many steps: three tenths for the first tap alone, the hardest; the last fifth on whole images."""
        first, last = round(0.3 * steps), round(0.2 * steps)
        phases = (Phase(128, 16, first, taps=1), Phase(128, 8, steps - first - last), Phase(240, 3, last))
        return cls(phases=phases, seed=seed, bf16=bf16)

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
        """Learning rate: a linear start, steady, and in the last phase linear down to zero."""
        falling = (self.steps - step) / max(1, self.phases[-1].steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, falling)

    def own_share_at(self, step: int) -> float:
        """How many of the views a section takes from the student's own section before it, 0–1."""
        done = (step - self.phases[0].steps) / max(1, self.steps - self.phases[0].steps)
        start, end = self.hand_over
        return min(1.0, max(0.0, (done - start) / (end - start)))


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
        self._stops = _stops(student, teacher)
        visual: Any = student.visual
        self._core = nn.Parameter(torch.zeros_like(visual.conv1.weight.flatten(1)))
        self._basis = torch.eye(self._core.shape[1], device=student.device)
        self._spread: list[Tensor] = []
        self._moving = [p for name, p in visual.named_parameters() if _is_taught(name)]
        for parameter in self._moving:
            parameter.requires_grad_(True)
        fitted = [visual.positional_embedding, self._core]  # nearly right from the start
        decays = [p for p in self._moving if p.ndim > 1 and p is not visual.positional_embedding]
        rest = [p for p in self._moving if p.ndim == 1]
        self._moving.append(self._core)
        groups = [
            {"params": decays, "weight_decay": config.weight_decay, "times": 1.0},
            {"params": rest, "weight_decay": 0.0, "times": 1.0},
            {"params": fitted, "weight_decay": 0.0, "times": 0.2},
        ]
        self._optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)

    def run(self, views: Callable[[int, Phase], Tensor]) -> Iterator[Step]:
        """views: step, phase → float [N, 3, s, s] RGB 0–1. Yields after each step, so the caller may stop or save."""
        if not self._spread and self.step < self.config.steps:
            first = self.config.phase_at(0)
            self._survey([views(step, first).to(self.student.device) for step in range(self.config.survey)])
        while self.step < self.config.steps:
            phase = self.config.phase_at(self.step)
            unexplained = self._learn(views(self.step, phase).to(self.student.device), phase)
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
        """From the first views: how much the teacher's tokens vary, and where the student starts."""
        first = self.config.phase_at(0)
        where = [self._places(first, number) for number in range(len(batches))]
        seen = [
            _sections(self.teacher, batch, places, self._stops[1]) for batch, places in zip(batches, where, strict=True)
        ]
        sections = [torch.cat(section) for section in zip(*seen, strict=True)]
        self._spread = [_spread(section) for section in sections]
        side = _shape(self.student)[2]
        normal = torch.cat([(batch - self.student.mean) / self.student.std for batch in batches])
        patches = nn.functional.unfold(normal, side, stride=side).transpose(1, 2).flatten(0, 1)
        variance, directions = torch.linalg.eigh(torch.cov(patches.T.double()))
        self._basis = (directions / (variance + _FLOOR).sqrt()).T.float().contiguous()
        at = torch.cat([places[1:].repeat(len(batch)) for batch, places in zip(batches, where, strict=True)])
        self._start(patches @ self._basis.T, at, sections)

    def _start(self, patches: Tensor, at: Tensor, sections: list[Tensor]) -> None:
        """Blocks that add nothing but the mean; embedding and positions as near the teacher as they get.

        patches: float [T, 3·p²] in the basis. at: int64 [T], their positions.
        """
        visual: Any = self.student.visual
        for block in visual.transformer.resblocks:
            for last in (block.attn.out_proj, block.mlp.c_proj):
                last.weight.zero_()
                last.bias.zero_()
        target = sections[0][:, 1:].flatten(0, 1)
        shown = torch.bincount(at, minlength=len(visual.positional_embedding)) > 0
        place = nn.functional.one_hot(at, len(shown)).float()[:, shown]
        both = torch.cat([patches, place], dim=1)
        ridge = _RIDGE * torch.eye(both.shape[1], device=both.device)
        solved = torch.linalg.solve(both.T @ both + ridge, both.T @ target)
        self._core.copy_(solved[: patches.shape[1]].T)
        visual.positional_embedding.zero_()
        visual.positional_embedding[shown] = solved[patches.shape[1] :]
        visual.class_embedding.copy_(sections[0][:, 0].mean(dim=0))
        means = [section[:, 1:].mean(dim=(0, 1)) for section in sections]
        for number, before, after in zip(self._stops[0][1:], means, means[1:], strict=False):
            visual.transformer.resblocks[number - 1].mlp.c_proj.bias.copy_(after - before)

    def _places(self, phase: Phase, step: int) -> Tensor:
        """Which of the position embeddings a view has: int64 [1 + L]; small views lie somewhere in the grid."""
        patch = _shape(self.student)[2]
        whole, side = self.student.spec.image_size // patch, phase.size // patch
        generator = torch.Generator().manual_seed(1_000_003 * self.config.seed + step)
        top, left = (int(torch.randint(whole - side + 1, (), generator=generator)) for _ in range(2))
        rows = torch.arange(top, top + side)[:, None] * whole + torch.arange(left, left + side)
        return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + rows.flatten()]).to(self.student.device)

    def _learn(self, views: Tensor, phase: Phase) -> tuple[float, ...]:
        places = self._places(phase, self.step)
        count = len(self._stops[0]) - (len(self.student.spec.taps) - phase.taps)
        mine, theirs = (stops[:count] for stops in self._stops)
        with torch.autocast(views.device.type, dtype=torch.bfloat16, enabled=self.config.bf16):
            with torch.no_grad():
                targets = _sections(self.teacher, views, places, theirs)
            own = self._own(len(views))
            made = _sections(self.student, views, places, mine, self._kernel(), targets, own)
        losses = [_unexplained(m, t, s) for m, t, s in zip(made, targets, self._spread, strict=False)]
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


def _stops(student: Encoder, teacher: Encoder) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the two are compared, by blocks done: the embedding, the first block where it is no tap, the taps."""
    first = (0, 1) if student.spec.taps[0] > 1 < teacher.spec.taps[0] else (0,)
    return (*first, *student.spec.taps), (*first, *teacher.spec.taps)


def _sections(
    encoder: Encoder,
    views: Tensor,
    places: Tensor,
    stops: tuple[int, ...],
    kernel: Tensor | None = None,
    feeds: list[Tensor] | None = None,
    own: Tensor | None = None,
) -> list[Tensor]:
    """The tokens after so many blocks, class token first: one [N, 1 + L, d] a stop; 0 is the embedding.

    kernel: in place of the encoder's patch embedding. feeds: what views that are not `own` go on with after each stop.
    """
    visual: Any = encoder.visual
    kernel = visual.conv1.weight if kernel is None else kernel
    x = nn.functional.conv2d((views - encoder.mean) / encoder.std, kernel, stride=kernel.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1).to(x.dtype), x], dim=1)
    x = visual.ln_pre(x + visual.positional_embedding[places])
    made: list[Tensor] = []
    for number in range(stops[-1] + 1):
        x = visual.transformer.resblocks[number - 1](x) if number else x
        if number in stops:
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
