"""ONNX Runtime's CUDA provider. Never yet run on a GPU: see docs/engine.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from madclip_runtime.engines import EngineInfo
from madclip_runtime.engines.ort import OrtEngine, import_ort, require_provider, session_options
from madclip_runtime.errors import EngineRefused
from madclip_runtime.machine import gpus

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.cache import Cache

__all__ = ["CUDA", "start"]

CUDA = "CUDAExecutionProvider"
_OPTIONS = {
    "use_tf32": "0",  # else float32 products are rounded to 10 bits on Ampere and later, and nobody is told
    "cudnn_conv_algo_search": "HEURISTIC",  # the same choice at every start
}


def start(bundle: Bundle, cache: Cache | None, tell: Callable[[str], None]) -> OrtEngine:
    """Raises: EngineRefused where there is no such provider, or it isn't active."""
    runtime = import_ort("cuda", "gpu")
    require_provider(runtime, "cuda", CUDA, 'pip uninstall onnxruntime; pip install "madclip-runtime[gpu]"')
    if hasattr(runtime, "preload_dlls"):  # finds CUDA and cuDNN where pip has put them
        runtime.preload_dlls()
    path = str(bundle.model_path)
    try:
        session = runtime.InferenceSession(path, session_options(runtime), providers=[(CUDA, _OPTIONS)])
    except Exception as error:  # the library raises its own untyped errors
        raise EngineRefused("cuda", str(error)[:300], "see madclip-run --doctor") from None
    info = EngineInfo(
        name="onnxruntime-cuda",
        library=f"onnxruntime {runtime.__version__}",
        device=", ".join(gpus()[:1]) or "GPU",
        precision=bundle.manifest.precision,
        threads=0,
    )
    return OrtEngine(bundle, session, info, provider=CUDA)
