"""A traced module → model.onnx and model.onnx.data, checked, and free of anything about the machine it was made on."""

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
from torch import nn

from madclip_runtime.bundle import MODEL

__all__ = ["OPSET", "write_onnx"]

OPSET = 18
_IR_VERSION = 9  # what ONNX Runtime 1.18 (JetPack 6) reads
_WEIGHTS = MODEL + ".data"


def write_onnx(
    module: nn.Module, folder: Path, *, size: int, outputs: Sequence[str], metadata: dict[str, str]
) -> tuple[Path, ...]:
    """Trace with a free batch axis, write graph and weights into `folder`, run the full checker.

    outputs: names, in the module's order. The example batch is 2: with 1 the batch axis would silently be specialised.
    Returns the files written.
    """
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            input_names=["image"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("N", min=1, max=256)},),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
        )
    assert program is not None
    _scrub(program.model, metadata)
    path = folder / MODEL
    program.save(str(path), external_data=True)
    onnx.checker.check_model(str(path), full_check=True)
    return path, folder / _WEIGHTS


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
def _quiet() -> Iterator[None]:
    """The exporter prints progress on stdout, which is ours for data, and warns of its own deprecations."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
