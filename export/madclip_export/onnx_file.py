"""The fused module → model.onnx and model.onnx.data, checked, named, and free of anything about the machine.

Every stage of the graph keeps a name (`stage.block.03.attention`), for people in a viewer and for the gate, which reads
the stages back when it must say where a graph departs from the checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from madclip_export.graph import FusedDetector
from madclip_runtime.bundle import MODEL

__all__ = ["OPSET", "STAGE", "WEIGHTS", "quiet", "write_onnx"]

OPSET = 18
STAGE = "stage."
WEIGHTS = MODEL + ".data"
_IR_VERSION = 9  # what ONNX Runtime 1.18 (JetPack 6) reads


def write_onnx(module: FusedDetector, folder: Path, *, outputs: Sequence[str], metadata: dict[str, str]) -> None:
    """Trace with a free batch axis, write graph and weights into `folder`, run the full checker.

    outputs: names, in the module's order. The example batch is 2: with 1 the batch axis would silently be specialised.
    """
    example = torch.zeros(2, module.size, module.size, 3, dtype=torch.uint8)
    probed = _Probed(module)
    with quiet():
        with FakeTensorMode(allow_non_fake_inputs=True):
            probed(example)  # for the stages' names; nothing is computed (float16 on a CPU would take minutes)
        program = torch.onnx.export(
            probed,
            (example,),
            input_names=["image"],
            output_names=[*outputs, *(STAGE + name for name in probed.names)],
            dynamic_shapes=({0: torch.export.Dim("N", min=1, max=256)},),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
        )
    assert program is not None
    _hide_stages(program.model, len(outputs))
    _scrub(program.model, metadata)
    path = folder / MODEL
    program.save(str(path), external_data=True)
    onnx.checker.check_model(str(path), full_check=True)


class _Probed(nn.Module):
    """The detector with every stage's value among its outputs."""

    def __init__(self, module: FusedDetector) -> None:
        super().__init__()
        self.module = module
        self.names: tuple[str, ...] = ()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        stages: dict[str, Tensor] = {}

        def mark(name: str, value: Tensor) -> Tensor:
            stages[name] = value
            return value

        outputs = self.module(image, mark)
        self.names = tuple(stages)
        return (*outputs, *stages.values())


def _hide_stages(model: Any, outputs: int) -> None:
    """Named values inside the graph, no longer outputs of it."""
    del model.graph.outputs[outputs:]


def _scrub(model: Any, metadata: dict[str, str]) -> None:
    """The exporter notes source lines and stack traces on every node: paths of this machine, and no use to a reader."""
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "madclip", metadata["madclip"], None
    model.metadata_props.clear()
    model.metadata_props.update({f"madclip.{key}": value for key, value in sorted(metadata.items())})
    graph = model.graph
    graph.name, graph.doc_string = "madclip", None
    graph.metadata_props.clear()
    for node in graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*graph.inputs, *graph.initializers.values()]:
        value.metadata_props.clear()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporter and quantiser print on stdout, which is ours for data, and advise at length what we have no need of."""
    loggers = [logging.getLogger("torch.onnx"), logging.getLogger()]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
