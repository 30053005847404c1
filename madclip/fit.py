"""The loop that moves adapters and prompts over kept features: one step, one epoch, resuming. Paper, section 3.

What this module does not know: images, data folders, or how a checkpoint is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from madclip.adapters import DualBranchAdapters
from madclip.config import MethodConfig, TrainConfig
from madclip.device import CPU, Place
from madclip.features import FeatureStore
from madclip.losses import segmentation_loss, siglip_loss, softmax_loss
from madclip.memory import keep_freed_memory
from madclip.progress import TrainingLog, TrainingState
from madclip.prompts import PromptLearner
from madclip.scores import abnormal_logit, class_scores, directions
from madclip_runtime.errors import EngineRefused

__all__ = ["Batchable", "Listener", "Trained", "fit", "step_loss"]


@dataclass
class Trained:
    """The parts that move."""

    adapters: DualBranchAdapters
    prompts: PromptLearner
    method: MethodConfig

    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything that moves, each once."""
        return [*self.adapters.parameters(), *self.prompts.parameters()]


@dataclass(frozen=True)
class Batchable:
    """Expanded shots: features of N = shots × 16 images; masks float [N, S, S]; labels float [N]; masked bool [N].

    masked: which images take part in the map's loss; the others train the image score only.
    """

    features: FeatureStore
    masks: Tensor
    labels: Tensor
    masked: Tensor


@dataclass(frozen=True)
class Listener:
    """Who hears of a run: say a line, write the log, keep the state, be told each epoch and what moves."""

    say: Callable[[str], None] = lambda _: None
    log: TrainingLog = field(default_factory=lambda: TrainingLog(None))
    state: TrainingState | None = None
    each_epoch: Callable[[int, Trained], None] = lambda _, __: None


def fit(trained: Trained, data: Batchable, config: TrainConfig, generator: torch.Generator, listener: Listener) -> None:
    """config.epochs epochs, or what an interrupted run of the same making left of them.

    Raises: EngineRefused where the loss is no longer a number; OutputNotWritten.
    """
    keep_freed_memory()
    run = _Run(trained, config, generator)
    done = run.resume(listener)
    listener.log.start(done)
    for epoch in tqdm(range(done, config.epochs), initial=done, total=config.epochs, desc="training", disable=None):
        start = time.perf_counter()
        loss = run.epoch(data, epoch + 1)
        if not math.isfinite(loss):
            raise EngineRefused("training", f"the loss of epoch {epoch + 1} is {loss}", "train in float32")
        listener.log.add(epoch + 1, loss, time.perf_counter() - start)
        listener.each_epoch(epoch + 1, trained)
        if listener.state is not None and epoch + 1 < config.epochs:
            listener.state.save(run.content(epoch + 1))
        if epoch == 0 or epoch + 1 == config.epochs:
            listener.say(f"epoch {epoch + 1}/{config.epochs}: mean loss {loss:.4f}")
    run.settle()


class _Run:
    """Everything that changes from step to step, so that all of it can be saved and taken up again."""

    def __init__(self, trained: Trained, config: TrainConfig, generator: torch.Generator) -> None:
        self._trained, self._config, self._generator = trained, config, generator
        self._place = Place(config.device, config.precision)
        parameters = trained.parameters()
        self._optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, betas=config.betas, fused=True)
        self._scaler = self._place.scaler()
        self._sums = [torch.zeros_like(parameter) for parameter in parameters]

    def epoch(self, data: Batchable, number: int) -> float:
        """One pass over the data in an order drawn anew; returns the mean loss. number: from 1."""
        order = torch.randperm(len(data.labels), generator=self._generator)
        losses = [self._step(data, indices) for indices in order.split(self._config.batch_size)]
        if number > self._config.epochs - self._config.averaged:
            torch._foreach_add_(self._sums, [p.detach() for p in self._trained.parameters()])
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def settle(self) -> None:
        """The parameters become their mean over the last epochs."""
        for parameter, total in zip(self._trained.parameters(), self._sums, strict=True):
            parameter.copy_(total / self._config.averaged)

    def _step(self, data: Batchable, indices: Tensor) -> Tensor:
        self._optimiser.zero_grad(set_to_none=True)
        loss = step_loss(self._trained, data, indices, self._place)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        return loss.detach()

    def content(self, epochs: int) -> dict[str, Any]:
        return {
            "epochs": epochs,
            "adapters": self._trained.adapters.state_dict(),
            "prompts": self._trained.prompts.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "sums": self._sums,
            "generator": self._generator.get_state(),
        }

    def resume(self, listener: Listener) -> int:
        """Epochs already done: 0, or what an interrupted run of the same making left."""
        content = None if listener.state is None else listener.state.load()
        if content is None:
            return 0
        self._trained.adapters.load_state_dict(content["adapters"])
        self._trained.prompts.load_state_dict(content["prompts"])
        self._optimiser.load_state_dict(content["optimiser"])
        self._scaler.load_state_dict(content["scaler"])
        self._sums = [total.to(self._place.torch_device) for total in content["sums"]]
        self._generator.set_state(content["generator"])
        listener.say(f"going on after epoch {content['epochs']} of an interrupted run")
        return int(content["epochs"])


def step_loss(trained: Trained, data: Batchable, indices: Tensor, place: Place = CPU) -> Tensor:
    """Sum over levels of Dice + Focal, of the images whose mask is known, and the image loss of all."""
    device = place.torch_device
    labels, masked = data.labels[indices].to(device), data.masked[indices]
    masks = data.masks[indices[masked]].to(device)
    taps = [tap.to(device) for tap in data.features.batch(indices)]
    with place.products():
        t_n, t_ab = trained.prompts()
        features = trained.adapters(taps)
    d_n, d_ab = directions(t_n.float(), t_ab.float(), subtraction=trained.method.subtraction)
    image_loss = {"siglip": siglip_loss, "softmax": softmax_loss}[trained.method.image_loss]
    total = labels.new_zeros(())
    for normal, abnormal in features:
        det, seg = class_scores(normal.float(), abnormal.float(), d_n, d_ab).unbind(dim=2)
        total = total + image_loss(det, labels)
        if len(masks):
            logit = abnormal_logit(seg if len(masks) == len(labels) else seg[masked.to(device)])
            grid = round(logit.shape[1] ** 0.5)
            total = total + segmentation_loss(logit.unflatten(1, (grid, grid)), masks)
    return total
