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
