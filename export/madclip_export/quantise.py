"""The fp32 graph → int8: weights a channel, activations on the fly, or by ranges seen on calibration images.

- dynamic: MatMulInteger, each product's input quantised by its own minimum and maximum. For CPUs.
- static: explicit QuantizeLinear/DequantizeLinear pairs, which TensorRT and GPUs want. Ranges come from images the user
  names, never test images.

Only products with a constant matrix are quantised. Layer norm, softmax, activations, the two unit norms, directions and
everything after them stay float32, and so does the patch embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from madclip_export.attention import fuse_attention
from madclip_export.onnx_file import WEIGHTS, quiet
from madclip_runtime.bundle import MODEL

__all__ = ["quantise_dynamic", "quantise_static"]

_LEAST_COLUMNS = 64
"""A product narrower than this (a direction has one column) is as quick in float32, and nearer to the score."""


def quantise_dynamic(source: Path, folder: Path, heads: int) -> None:
    """source: a folder with the fp32 graph. folder: gets the int8 graph and weights. heads: of the tower's blocks."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            source / MODEL,
            folder / MODEL,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=_narrow_products(source / MODEL),
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True},
        )
    _tidy(folder / MODEL, source / MODEL)
    fuse_attention(folder / MODEL, heads)


def quantise_static(source: Path, folder: Path, images: Sequence[npt.NDArray[np.uint8]]) -> None:
    """The same with Q/DQ pairs. images: uint8 [S, S, 3] RGB each."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with quiet():
        quantize_static(
            source / MODEL,
            folder / MODEL,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=_narrow_products(source / MODEL),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
            use_external_data_format=True,
            extra_options={"MatMulConstBOnly": True, "ActivationSymmetric": True, "WeightSymmetric": True},
        )
    _tidy(folder / MODEL, source / MODEL)


class _Reader:
    """What ONNX Runtime's calibration asks for: one input at a time, then None."""

    def __init__(self, images: Sequence[npt.NDArray[np.uint8]]) -> None:
        self._left: Iterator[npt.NDArray[np.uint8]] = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._left, None)
        return None if image is None else {"image": image[None]}


def _narrow_products(path: Path) -> list[str]:
    model = onnx.load(path, load_external_data=False)
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    names = []
    for node in model.graph.node:
        shape = shapes.get(node.input[1], []) if node.op_type == "MatMul" else []
        if shape and (len(shape) != 2 or shape[1] < _LEAST_COLUMNS):
            names.append(node.name)
    return names


def _tidy(path: Path, source: Path) -> None:
    """The library leaves its own name, type notes and a weights file of its naming: back to the fp32 graph's."""
    model = onnx.load(path)
    original = onnx.load(source, load_external_data=False)
    model.producer_name, model.producer_version = original.producer_name, original.producer_version
    model.ir_version = original.ir_version
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    del model.graph.value_info[:]
    for file in path.parent.glob("*.data"):
        file.unlink()
    onnx.save(model, path, save_as_external_data=True, location=WEIGHTS, size_threshold=256)
    onnx.checker.check_model(str(path), full_check=True)
