"""`--engine auto`: CUDA where it really comes up, else the CPU; it says which and why.

TensorRT and its relatives are not taken by themselves: they build for minutes, which somebody should have asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from madclip_runtime.engines import load_engine
from madclip_runtime.engines.ort import import_ort
from madclip_runtime.engines.ort_cuda import CUDA
from madclip_runtime.engines.ort_tensorrt import TENSORRT
from madclip_runtime.errors import EngineRefused

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.cache import Cache
    from madclip_runtime.engines import Engine

__all__ = ["start"]


def start(bundle: Bundle, cache: Cache | None, tell: Callable[[str], None]) -> Engine:
    """Raises: EngineRefused where not even the CPU's library is there; BundleRefused."""
    runtime = import_ort("auto")
    there = runtime.get_available_providers()
    more = " (TensorRT is there too: --engine tensorrt builds for minutes, then is faster)" if TENSORRT in there else ""
    try:
        if CUDA not in there:
            raise EngineRefused("cuda", "this ONNX Runtime has no CUDA provider")
        engine = load_engine(bundle, "cuda", cache=cache, tell=tell)
        tell(f"engine auto: cuda, since ONNX Runtime's provider is active{more}")
    except EngineRefused as error:
        engine = load_engine(bundle, "cpu", cache=cache, tell=tell)
        tell(f"engine auto: cpu, since cuda did not come up: {error.why}")
    return engine
