"""Where PyTorch computes, and in which precision: chosen by name, refused where it isn't there, never swapped.

Adapters' and text tower's matrix products may run in half precision ("mixed precision"); weights, losses and everything
that is saved stay float32. bfloat16 where the device has it, else float16 with a scaled loss.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import torch

from madclip_runtime.errors import EngineRefused, UsageError

__all__ = ["CPU", "DEVICES", "Place", "choose_place"]

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Place:
    """device: "cpu" or "cuda". precision: of the matrix products, "fp32", "bf16" or "fp16"."""

    device: str = "cpu"
    precision: str = "fp32"

    @property
    def torch_device(self) -> torch.device:
        """As torch names it."""
        return torch.device(self.device)

    def products(self) -> contextlib.AbstractContextManager[None]:
        """A context in which matrix products run in this precision."""
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=kinds[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps float16 gradients from vanishing; does nothing for the others."""
        return torch.amp.GradScaler(self.device, enabled=self.precision == "fp16")

    def words(self) -> str:
        """For a person."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else "the CPU"
        kinds = {"fp32": "float32", "bf16": "bfloat16 products", "fp16": "float16 products"}
        return f"{name}, {kinds[self.precision]}"


CPU = Place()


def choose_place(device: str, *, mixed: bool = False) -> Place:
    """device: "auto" (CUDA where there is one), "cpu" or "cuda". mixed: half-precision products.

    Raises: UsageError for another name; EngineRefused where CUDA was asked for and isn't there.
    """
    if device not in DEVICES:
        raise UsageError(f"--device {device}", f"must be one of {', '.join(DEVICES)}")
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        built = f"this torch ({torch.__version__}) " + ("finds no CUDA device" if torch.version.cuda else "has no CUDA")
        raise EngineRefused("--device cuda", built, "install a CUDA build of torch, or say --device cpu")
    kind = "cuda" if there and device != "cpu" else "cpu"
    if kind == "cuda":
        _make_repeatable()
    return Place(kind, _half(kind) if mixed else "fp32")


def _half(kind: str) -> str:
    """bfloat16 needs no scaling; cards before Ampere only emulate it."""
    return "fp16" if kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False) else "bf16"


def _make_repeatable() -> None:
    """The same seed must give the same checkpoint, and float32 must mean float32 (no TF32 in the patch embedding)."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must stand before CUDA's first product
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
