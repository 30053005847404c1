"""Changes to a bundle that keep its manifest true: how an attacker, or a faulty exporter, would make them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.bundle import MANIFEST


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Let `change` alter the parsed manifest, and write it back."""
    path = bundle / MANIFEST
    parsed = json.loads(path.read_bytes())
    change(parsed)
    path.write_text(json.dumps(parsed))


def replace_file(bundle: Path, name: str, data: bytes) -> None:
    """Put `data` in place of a file and let the manifest list its true size and hash."""
    (bundle / name).write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_manifest(bundle, lambda manifest: manifest["files"].update({name: entry}))


def npy(array: npt.NDArray[Any]) -> bytes:
    """The array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def two_heads(bundle: Path) -> None:
    """The same graph under two heads' names: chest as it was, brain with a score that has no regions."""
    import onnx

    model = onnx.load(bundle / "model.onnx")
    graph = model.graph
    for name in ("score", "map"):
        for head in ("chest", "brain"):
            graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name}_{head}"]))
    outputs = [
        onnx.helper.make_tensor_value_info(f"{end.name}_{head}", 1, ["N", *([32, 32] if end.name == "map" else [])])
        for head in ("chest", "brain")
        for end in graph.output
    ]
    del graph.output[:]
    graph.output.extend(outputs)
    replace_file(bundle, "model.onnx", model.SerializeToString())
    for head in ("chest", "brain"):
        for name in ("score", "map"):
            replace_file(bundle, f"golden/{name}_{head}.npy", (bundle / f"golden/{name}.npy").read_bytes())

    def rename(manifest: dict[str, Any]) -> None:
        card = manifest["heads"].pop("brightness")
        manifest["heads"] = {"chest": card, "brain": {**card, "image_score": "det"}}

    edit_manifest(bundle, rename)
