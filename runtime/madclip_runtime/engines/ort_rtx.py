"""ONNX Runtime's TensorRT-RTX provider, a plug-in of its own. x86-64 and RTX GPUs only. Never yet run on a GPU."""

from __future__ import annotations

import shutil
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
    session_options,
    working_folder,
)
from madclip_runtime.errors import EngineRefused
from madclip_runtime.machine import gpus

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.cache import Cache

__all__ = ["start"]

_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_PIP = "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13"
_REGISTERED = "madclip-rtx"


def start(bundle: Bundle, cache: Cache | None, tell: Callable[[str], None]) -> OrtEngine:
    """Raises: EngineRefused where the plug-in or a GPU for it is missing, or it isn't active."""
    runtime = import_ort("rtx")
    plugin = _plugin()
    devices = _devices(runtime, plugin)
    if cache is None:
        return _engine(runtime, bundle, plugin, devices, working_folder())

    def build(folder: Path) -> None:
        engine = _engine(runtime, bundle, plugin, devices, folder)
        size = bundle.manifest.input.size
        engine.run(np.zeros((1, size, size, 3), dtype=np.uint8))
        del engine  # the library writes its cache when the session goes

    key = {
        "model": model_key(bundle),
        "library": f"onnxruntime {runtime.__version__}",
        "plugin": str(getattr(plugin, "__version__", "unknown")),
        "gpu and driver": "; ".join(gpus()) or "unknown",
    }
    folder = cache.entry("ort-rtx", key, build, tell)
    # A copy to work in: the library may add to its cache, and an entry must stay as it was hashed.
    working = working_folder()
    shutil.copytree(folder, working, dirs_exist_ok=True)
    return _engine(runtime, bundle, plugin, devices, working)


def _plugin() -> Any:
    try:
        import onnxruntime_ep_nv_tensorrt_rtx
    except ImportError:
        raise EngineRefused("rtx", "the TensorRT-RTX plug-in is not installed", _PIP) from None
    return onnxruntime_ep_nv_tensorrt_rtx


def _devices(runtime: Any, plugin: Any) -> list[Any]:
    if not hasattr(runtime, "register_execution_provider_library"):
        raise EngineRefused("rtx", f"onnxruntime {runtime.__version__} takes no plug-ins", "upgrade onnxruntime")
    try:
        runtime.register_execution_provider_library(_REGISTERED, plugin.get_library_path())
    except Exception as error:  # a second registration is fine, everything else is not
        if "already" not in str(error).lower():
            raise EngineRefused("rtx", f"the plug-in does not load: {str(error)[:300]}", "see --doctor") from None
    name = plugin.get_ep_name()
    devices = [device for device in runtime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise EngineRefused("rtx", "the plug-in finds no GPU that it can run on", "it needs an RTX GPU and its driver")
    return devices


def _engine(runtime: Any, bundle: Bundle, plugin: Any, devices: list[Any], folder: Path) -> OrtEngine:
    options = session_options(runtime)
    shapes = profile_shapes(bundle.manifest.input.size)
    settings = {f"nv_profile_{end}_shapes": shape for end, shape in shapes.items()}
    settings["nv_runtime_cache_path"] = str(folder)
    try:
        options.add_provider_for_devices(devices[:1], settings)
        session = runtime.InferenceSession(str(bundle.model_path), sess_options=options)
    except Exception as error:  # the library raises its own untyped errors
        raise EngineRefused("rtx", str(error)[:300], "see madclip-run --doctor") from None
    info = EngineInfo(
        name="onnxruntime-rtx",
        library=f"onnxruntime {runtime.__version__}, plug-in {getattr(plugin, '__version__', 'unknown')}",
        device=", ".join(gpus()[:1]) or "GPU",
        precision=bundle.manifest.precision,
        threads=0,
    )
    return OrtEngine(bundle, session, info, provider=plugin.get_ep_name(), most=GPU_BATCH)
