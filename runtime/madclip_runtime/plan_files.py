"""Plans that travel in a bundle, and the sidecar that says where each may run.

`engines/tensorrt-rtx.plan` is exactly what the library wrote; `engines/tensorrt-rtx.json` is its key. Both are listed
in the manifest, so a plan is only ever looked at after its hash; it is a program, and comes from whom the bundle does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from madclip_runtime.errors import BundleRefused
from madclip_runtime.schema import SchemaError, decode, encode

if TYPE_CHECKING:
    from pathlib import Path

    from madclip_runtime.bundle import Bundle

__all__ = ["FOLDER", "PlanKey", "find_plan", "graph_key"]

FOLDER = "engines"
_FORMAT = "madclip-plan/1"


@dataclass(frozen=True)
class PlanKey:
    """All that decides where a plan may run.

    kind: "tensorrt" or "tensorrt-rtx". library: name and version that wrote it. targets: compute capabilities ("sm89")
    or the GPU it was built on. driver: of the machine that built it, "" where none was needed. model: graph_key of the
    bundle. batch: least, best and most images a call. sha256: of the plan.
    """

    kind: str
    library: str
    targets: tuple[str, ...]
    driver: str
    model: str
    precision: str
    batch: tuple[int, int, int]
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The sidecar."""
        fields: dict[str, Any] = encode(self)
        return {"format": _FORMAT, **fields}

    def unfit(self, library: str, model: str, capability: str) -> str:
        """Why this plan is not for here, "" where it is. capability: of this machine's GPU, e.g. "sm89"."""
        if self.model != model:
            return "it was built from another graph"
        if self.library != library:
            return f"it was written by {self.library}, here is {library}"
        if capability not in self.targets:
            return f"it is for {', '.join(self.targets)}, here is {capability or 'an unknown GPU'}"
        return ""


def graph_key(bundle: Bundle) -> str:
    """SHA-256 over the hashes of all files that the graph is made of."""
    files = bundle.manifest.files
    names = sorted(name for name in files if "/" not in name and name.startswith("model.onnx"))
    return hashlib.sha256(" ".join(files[name].sha256 for name in names).encode()).hexdigest()


def find_plan(bundle: Bundle, kind: str) -> tuple[Path, PlanKey] | None:
    """The bundle's plan of this kind and its key; None where it has none. Raises: BundleRefused for a bad sidecar."""
    plan, sidecar = f"{FOLDER}/{kind}.plan", f"{FOLDER}/{kind}.json"
    if not {plan, sidecar} <= set(bundle.manifest.files):
        return None
    bundle.check()
    path = bundle.path / sidecar
    try:
        key = decode(PlanKey, json.loads(path.read_bytes()))
    except (OSError, ValueError, SchemaError) as error:
        raise BundleRefused(str(path), str(error), "export it again") from None
    if key.sha256 != bundle.manifest.files[plan].sha256:
        raise BundleRefused(str(path), "it belongs to another plan", "export it again")
    return bundle.path / plan, key
