"""The image tower learns from a teacher, half a block at a time: what each of its blocks does to tokens.

The student's block k is held against the teacher's block k, after the attention and after the MLP; a deeper teacher's
further blocks are not used. Every half block begins with the teacher's own tokens, so that all learn at once, and is
handed over, view by view, to what the half block before it made. The loss is the share of the teacher's variance that
is not explained, channel by channel, mean over half blocks. The patch embedding and the positions are linear, and are
fitted by least squares before the first step.

What this module does not know: where the views come from, and what the tower is used for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from madclip.encoder import Encoder
from madclip_runtime.errors import UsageError

__all__ = ["Batch", "DistilConfig", "Distiller", "Step"]

_RIDGE = 1.0
_FLOOR = 0.003
"""Added to the variance along each direction of pixel space, in normalised units squared."""
_SURVEYED = 8
_CLASS_TOKEN = 0.1
"""How much the class token's error counts beside that of the patch tokens, which the taps are made of."""
_QUIET = 0.02
"""Of their seeded size: the last matrices of each half block at the start, so that it begins near "changes nothing"."""


@dataclass(frozen=True)
class Batch:
    """`count` views of `size` × `size` pixels, a multiple of the patch."""

    size: int
    count: int


@dataclass(frozen=True)
class DistilConfig:
    """How the image tower is taught: at a steady rate until the hand-over begins, then linearly down to zero.

    windows, whole: two sorts of steps that take turns, parts of an image and all of it; whole images alone from
    `whole_from` of the way on. matrix_rate: of Muon, for the blocks' matrices. rate: of AdamW, for biases and norms.
    survey: batches of eight whole images that are looked at before the first step. hand_over: between which shares of
    the way half blocks turn from the teacher's tokens to the student's own. bf16: matrix products in bfloat16, on
    processors that have it.
    """

    steps: int = 5000
    windows: Batch = Batch(128, 16)
    whole: Batch = Batch(240, 5)
    whole_from: float = 0.8
    seed: int = 0
    matrix_rate: float = 0.03
    rate: float = 1.5e-3
    weight_decay: float = 0.01
    warmup: int = 30
    survey: int = 24
    hand_over: tuple[float, float] = (0.25, 0.75)
    bf16: bool = False

    def batch_at(self, step: int) -> Batch:
        """What the 0-based `step` looks at."""
        return self.whole if step % 2 or step >= self.whole_from * self.steps else self.windows

    def rate_share_at(self, step: int) -> float:
        """Share of both rates, 0–1."""
        falling = (self.steps - step) / max(1.0, self.steps * (1 - self.hand_over[0]))
        return min(1.0, (step + 1) / self.warmup, falling)

    def own_share_at(self, step: int) -> float:
        """How often a half block goes on from the student's own tokens, 0–1."""
        start, end = self.hand_over
        return min(1.0, max(0.0, (step / self.steps - start) / (end - start)))


@dataclass(frozen=True)
class Step:
    """One step done: its number from 0, side of the views in pixels, and the loss: share of variance not explained."""

    step: int
    size: int
    loss: float


class Distiller:
    """Student, teacher and optimisers; `run` teaches, `state` and `load_state` let it be interrupted."""

    def __init__(self, student: Encoder, teacher: Encoder, config: DistilConfig) -> None:
        """Both on one device. Raises: UsageError where their blocks can't be compared."""
        mine, theirs = _shape(student), _shape(teacher)
        if mine[1:] != theirs[1:] or mine[0] > theirs[0]:
            raise UsageError(
                f"teacher {teacher.spec.name}", f"its blocks × width × patch are {theirs}, nano's are {mine}"
            )
        self.student, self.teacher, self.config = student, teacher, config
        self.step = 0
        self._spread: list[Tensor] = []
        blocks: Any = student.visual.transformer
        moving = list(blocks.requires_grad_(True).parameters())
        matrices, rest = ([p for p in moving if p.ndim == dimensions] for dimensions in (2, 1))
        self._optimisers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Muon(matrices, config.matrix_rate, weight_decay=config.weight_decay), config.matrix_rate),
            (torch.optim.AdamW(rest, config.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True), config.rate),
        ]

    def run(self, views: Callable[[int, Batch], Tensor]) -> Iterator[Step]:
        """views: step, batch → float [N, 3, s, s] RGB 0–1. Yields after each step, so the caller may stop or save."""
        if not self._spread and self.step < self.config.steps:
            whole = Batch(self.student.spec.image_size, _SURVEYED)
            self._survey([views(step, whole).to(self.student.device) for step in range(self.config.survey)])
        while self.step < self.config.steps:
            batch = self.config.batch_at(self.step)
            loss = self._learn(views(self.step, batch).to(self.student.device))
            self.step += 1
            yield Step(self.step - 1, batch.size, loss)

    @torch.no_grad()
    def unexplained(self, views: Tensor) -> tuple[float, ...]:
        """Where the student stands on its own: share of the teacher's variance, after the embedding and at each tap.

        views: float [N, 3, S, S] RGB 0–1, whole images.
        """
        places = torch.arange(1 + (views.shape[-1] // _shape(self.student)[2]) ** 2, device=self.student.device)
        stops = (0, *(2 * tap for tap in self.student.spec.taps))
        views = views.to(places.device)
        made, targets = (_tokens(tower, views, places, stops[-1] // 2) for tower in (self.student, self.teacher))
        return tuple(float(_unexplained(made[stop], targets[stop], self._spread[stop])[0]) for stop in stops)

    def state(self) -> dict[str, Any]:
        """Everything that moves, for torch.save."""
        optimisers = [optimiser.state_dict() for optimiser, _ in self._optimisers]
        student = self.student.visual.state_dict()
        return {"step": self.step, "student": student, "optimisers": optimisers, "spread": self._spread}

    def load_state(self, state: dict[str, Any]) -> None:
        """What state() gave, under the same config."""
        self.step = int(state["step"])
        self.student.visual.load_state_dict(state["student"])
        for (optimiser, _), content in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(content)
        self._spread = [tensor.to(self.student.device) for tensor in state["spread"]]

    @torch.no_grad()
    def _survey(self, batches: list[Tensor]) -> None:
        """From the first views: how much the teacher's tokens vary, and where the student starts."""
        where = [self._places(batch, number) for number, batch in enumerate(batches)]
        depth = _shape(self.student)[0]
        seen = [_tokens(self.teacher, batch, places, depth) for batch, places in zip(batches, where, strict=True)]
        tokens = [torch.cat(stop) for stop in zip(*seen, strict=True)]
        self._spread = [_spread(stop) for stop in tokens]
        side = _shape(self.student)[2]
        normal = torch.cat([(batch - self.student.mean) / self.student.std for batch in batches])
        patches = nn.functional.unfold(normal, side, stride=side).transpose(1, 2).flatten(0, 1)
        at = torch.cat([places[1:].repeat(len(batch)) for batch, places in zip(batches, where, strict=True)])
        self._fit_embedding(patches, at, tokens[0])
        self._quieten([stop[:, 1:].mean(dim=(0, 1)) for stop in tokens])

    def _fit_embedding(self, patches: Tensor, at: Tensor, embedded: Tensor) -> None:
        """Least squares with a ridge, in whitened pixels: smooth patches say little about fine detail.

        patches: float [T, 3·p²], normalised. at: int64 [T], their positions. embedded: float [N, 1 + L, d].
        """
        visual: Any = self.student.visual
        variance, directions = torch.linalg.eigh(torch.cov(patches.T.double()))
        basis = (directions / (variance + _FLOOR).sqrt()).T.float()
        place = nn.functional.one_hot(at - 1, len(visual.positional_embedding) - 1).float()
        both = torch.cat([patches @ basis.T, place], dim=1)
        ridge = _RIDGE * torch.eye(both.shape[1], device=both.device)
        solved = torch.linalg.solve(both.T @ both + ridge, both.T @ embedded[:, 1:].flatten(0, 1))
        visual.conv1.weight.copy_((solved[: len(basis)].T @ basis).view_as(visual.conv1.weight))
        visual.positional_embedding.copy_(torch.cat([torch.zeros_like(solved[:1]), solved[len(basis) :]]))
        visual.class_embedding.copy_(embedded[:, 0].mean(dim=0))

    def _quieten(self, means: list[Tensor]) -> None:
        """Half blocks that at first add hardly more than the mean of what the teacher's add."""
        visual: Any = self.student.visual
        lasts = [last for block in visual.transformer.resblocks for last in (block.attn.out_proj, block.mlp.c_proj)]
        for last, before, after in zip(lasts, means, means[1:], strict=False):
            last.weight.mul_(_QUIET)
            last.bias.copy_(after - before)

    def _places(self, views: Tensor, step: int) -> Tensor:
        """Which of the position embeddings a view has: int64 [1 + L]; small views lie somewhere in the grid."""
        patch = _shape(self.student)[2]
        whole, side = self.student.spec.image_size // patch, views.shape[-1] // patch
        generator = torch.Generator().manual_seed(1_000_003 * self.config.seed + step)
        top, left = (int(torch.randint(whole - side + 1, (), generator=generator)) for _ in range(2))
        rows = torch.arange(top, top + side)[:, None] * whole + torch.arange(left, left + side)
        return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + rows.flatten()]).to(self.student.device)

    def _learn(self, views: Tensor) -> float:
        places, depth = self._places(views, self.step), _shape(self.student)[0]
        with torch.autocast(views.device.type, dtype=torch.bfloat16, enabled=self.config.bf16):
            with torch.no_grad():
                targets = _tokens(self.teacher, views, places, depth)
            made = _tokens(self.student, views, places, depth, targets, self._own(len(views)))
        losses = [_unexplained(m, t, s) for m, t, s in zip(made, targets, self._spread, strict=True)][1:]
        loss = torch.stack([patch + _CLASS_TOKEN * cls for patch, cls in losses]).mean()
        for optimiser, rate in self._optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = rate * self.config.rate_share_at(self.step)
        loss.backward()
        for optimiser, _ in self._optimisers:
            optimiser.step()
        return float(loss.detach())

    def _own(self, count: int) -> Tensor:
        """bool [half blocks, N]: which begin with the student's own tokens, on which views."""
        generator = torch.Generator().manual_seed(7_000_003 * (self.config.seed + 1) + self.step)
        drawn = torch.rand(2 * _shape(self.student)[0], count, generator=generator)
        return (drawn < self.config.own_share_at(self.step)).to(self.student.device)


def _shape(encoder: Encoder) -> tuple[int, int, int]:
    visual: Any = encoder.visual
    kernel = visual.conv1
    return len(visual.transformer.resblocks), int(kernel.out_channels), int(kernel.kernel_size[0])


def _tokens(
    encoder: Encoder,
    views: Tensor,
    places: Tensor,
    depth: int,
    feeds: list[Tensor] | None = None,
    own: Tensor | None = None,
) -> list[Tensor]:
    """The tokens after the embedding and after each half of the first `depth` blocks: [N, 1 + L, d] each, class first.

    feeds, own: half block k begins with feeds[k] on views where own[k], bool [N], is false.
    """
    visual: Any = encoder.visual
    x = nn.functional.conv2d((views - encoder.mean) / encoder.std, visual.conv1.weight, stride=visual.conv1.stride)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1).to(x.dtype), x], dim=1)
    made = [visual.ln_pre(x + visual.positional_embedding[places])]
    for number, half in enumerate(_halves(visual, depth)):
        x = made[-1]
        if feeds is not None and own is not None:
            x = torch.where(own[number][:, None, None], x.float(), feeds[number].float())
        made.append(half(x))
    return made


def _halves(visual: Any, depth: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """Attention and MLP of each block, each with its shortcut."""

    def attention(block: Any, x: Tensor) -> Tensor:
        return x + block.ls_1(block.attention(q_x=block.ln_1(x)))

    def mlp(block: Any, x: Tensor) -> Tensor:
        return x + block.ls_2(block.mlp(block.ln_2(x)))

    for block in visual.transformer.resblocks[:depth]:
        yield partial(attention, block)
        yield partial(mlp, block)


def _spread(target: Tensor) -> Tensor:
    """Standard deviation of each channel over patch tokens, [d]; none near zero."""
    spread = target[:, 1:].flatten(0, 1).std(dim=0)
    return spread.clamp_min(0.1 * spread.mean())


def _unexplained(made: Tensor, target: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error of patch tokens, and of the class token, in units of the patch tokens' variance."""
    error = ((made.float() - target.float()) / spread).square()
    return error[:, 1:].mean(), error[:, 0].mean()
