"""ONNX Runtime's TensorRT provider, its engine and timing caches kept per machine. Never yet run on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madclip_runtime.engines import EngineInfo
from madclip_runtime.engines.ort import (
    GPU_BATCH,
    OrtEngine,
    import_ort,
    model_key,
    profile_shapes,
    require_provider,
    session_options,
    working_folder,
)
from madclip_runtime.engines.ort_cuda import CUDA
from madclip_runtime.errors import EngineRefused
from madclip_runtime.machine import gpus

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.cache import Cache

__all__ = ["TENSORRT", "start"]

TENSORRT = "TensorrtExecutionProvider"
_GET_IT = "install TensorRT beside onnxruntime-gpu; on a Jetson use JetPack's own ONNX Runtime (docs/install.md)"


def start(bundle: Bundle, cache: Cache | None, tell: Callable[[str], None]) -> OrtEngine:
    """Raises: EngineRefused where there is no such provider, it isn't active, or it took no part of the graph."""
    runtime = import_ort("tensorrt", "gpu")
    require_provider(runtime, "tensorrt", TENSORRT, _GET_IT)
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()

    def build(folder: Path) -> OrtEngine:
        engine = _engine(runtime, bundle, folder)
        size = bundle.manifest.input.size
        engine.run(np.zeros((1, size, size, 3), dtype=np.uint8))  # the provider builds at the first call
        if not list(folder.glob("*.engine")):
            raise EngineRefused("tensorrt", "TensorRT took no part of the graph", "use --engine cuda")
        return engine

    if cache is None:
        tell("building the TensorRT engine, which is not kept (--no-cache); this takes minutes")
        return build(working_folder())

    def build_and_let_go(folder: Path) -> None:
        build(folder)  # the library writes its timing cache when the session goes

    # Opened again from where it is kept: the session that built it knows only the folder it was built in.
    return _engine(runtime, bundle, cache.entry("ort-tensorrt", _key(runtime, bundle), build_and_let_go, tell))


def _engine(runtime: Any, bundle: Bundle, folder: Path) -> OrtEngine:
    providers = [(TENSORRT, _options(bundle, folder)), (CUDA, {"use_tf32": "0"})]
    try:
        session = runtime.InferenceSession(str(bundle.model_path), session_options(runtime), providers=providers)
    except Exception as error:  # the library raises its own untyped errors
        raise EngineRefused("tensorrt", str(error)[:300], "see madclip-run --doctor") from None
    info = EngineInfo(
        name="onnxruntime-tensorrt",
        library=f"onnxruntime {runtime.__version__}",
        device=", ".join(gpus()[:1]) or "GPU",
        precision=bundle.manifest.precision,
        threads=0,
    )
    return OrtEngine(bundle, session, info, provider=TENSORRT, most=GPU_BATCH)


def _options(bundle: Bundle, folder: Path) -> dict[str, str]:
    shapes = profile_shapes(bundle.manifest.input.size)
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        **{f"trt_profile_{end}_shapes": shape for end, shape in shapes.items()},
        # float16 kernels only for a bundle that was proven in float16, and its norms stay float32 as there
        "trt_fp16_enable": str(int(bundle.manifest.precision == "fp16")),
        "trt_layer_norm_fp32_fallback": "1",
    }


def _key(runtime: Any, bundle: Bundle) -> dict[str, str]:
    """All that an engine is bound to."""
    return {
        "model": model_key(bundle),
        "precision": bundle.manifest.precision,
        "library": f"onnxruntime {runtime.__version__}",
        "tensorrt": _tensorrt_version(),
        "gpu and driver": "; ".join(gpus()) or "unknown",
    }


def _tensorrt_version() -> str:
    """Of the library the provider loads, by the Python package or the system's; "unknown" where neither tells."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    import ctypes

    for library in ("libnvinfer.so.10", "libnvinfer.so.11", "libnvinfer.so"):
        try:
            return str(ctypes.CDLL(library).getInferLibVersion())
        except (OSError, AttributeError):
            continue
    return "unknown"
