"""A whole bundle in a few kilobytes: its graph measures brightness, so that every right answer is known by hand.

map = mean of R, G, B over 255, a pixel; score = maximum of the map. It has learned nothing, and its manifest says so.
Through the runtime it takes the same road as a real one: hashes, golden files, engine, decision.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.bundle import GOLDEN_IMAGES, MANIFEST, MODEL, golden_files
from madclip_runtime.files import sha256_of
from madclip_runtime.manifest import (
    NOTICE,
    Calibration,
    DataCard,
    EncoderCard,
    FileEntry,
    Head,
    InputContract,
    Manifest,
    OperatingPoint,
    Proportion,
)

OPSET, IR_VERSION = 17, 9
"""What ONNX Runtime 1.18 and everything later accepts."""
HEAD = "brightness"
_NO_DATA = DataCard("none", "none", True, normal_shots=0, abnormal_shots=0, masks=False, epochs=0, seed=0)


def write_tiny_bundle(folder: Path, *, size: int = 32, threshold: float | None = 0.5) -> Path:
    """Write the bundle into `folder` (made if absent) and return it.

    size: S, pixels a side of the graph's input. threshold: its operating point; None makes it uncalibrated.
    """
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    files = {MODEL: _graph(size), **_golden(size)}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    entries = {name: FileEntry(sha256_of(folder / name), len(data)) for name, data in files.items()}
    (folder / MANIFEST).write_bytes(_manifest(size, threshold, entries).to_json())
    return folder


def brightness(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The graph's arithmetic in numpy: uint8 [N, S, S, 3] → score float32 [N], map float32 [N, S, S]."""
    maps = (images.astype(np.float32) / np.float32(255)).mean(axis=3, dtype=np.float32)
    return maps.max(axis=(1, 2)), maps


def _graph(size: int) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    def value(name: str, kind: int, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, kind, ["N", *shape])

    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "white"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["map"], axes=[3], keepdims=0),
        helper.make_node("ReduceMax", ["map"], ["score"], axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [value("image", TensorProto.UINT8, size, size, 3)],
        [value("score", TensorProto.FLOAT), value("map", TensorProto.FLOAT, size, size)],
        [numpy_helper.from_array(np.array(255, np.float32), "white")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _golden(size: int) -> dict[str, bytes]:
    """Black, white, and two images of seeded noise."""
    noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    black = np.zeros((1, size, size, 3), np.uint8)
    images = np.concatenate([black, black + 255, noise])
    names = (GOLDEN_IMAGES, *golden_files([HEAD])[HEAD])
    return {name: _npy(array) for name, array in zip(names, (images, *brightness(images)), strict=True)}


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _manifest(size: int, threshold: float | None, files: dict[str, FileEntry]) -> Manifest:
    return Manifest(
        model_id="tiny-brightness",
        precision="fp32",
        input=InputContract(size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        encoder=EncoderCard("brightness", "none: four ONNX nodes", "0" * 64, random=True, taps=()),
        heads={HEAD: Head("map_max", _calibration(threshold), _NO_DATA, "0" * 64)},
        gates=(),
        versions={},
        files=files,
        notices=(NOTICE, "a test graph that measures brightness"),
    )


def _calibration(threshold: float | None) -> Calibration:
    if threshold is None:
        return Calibration("a test bundle without a threshold")
    unmeasured = Proportion(k=1, n=1, value=1.0, low=0.025, high=1.0)
    return Calibration("a test threshold", {"test": OperatingPoint(threshold, unmeasured, unmeasured)}, "test")
