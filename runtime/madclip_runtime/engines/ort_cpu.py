"""ONNX Runtime on the CPU; the graph as the library has optimised it for this processor is kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madclip_runtime.engines import EngineInfo
from madclip_runtime.engines.ort import CPU, OrtEngine, import_ort, loaded, model_key, session_options

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.cache import Cache

__all__ = ["start"]

_MODEL, _WEIGHTS = "model.onnx", "model.onnx.data"
_WORTH_CACHING = 8 * 2**20
"""Bytes; a smaller graph is optimised in less time than the cache's hashes take."""


def start(bundle: Bundle, cache: Cache | None, tell: Callable[[str], None]) -> OrtEngine:
    """Raises: EngineRefused without onnxruntime; BundleRefused where the graph can't be loaded or isn't ours."""
    runtime = import_ort("cpu")
    session = _cached(runtime, bundle, cache, tell) if cache and _is_large(bundle) else _plain(runtime, bundle)
    info = EngineInfo(
        name="onnxruntime-cpu",
        library=f"onnxruntime {runtime.__version__}",
        device="CPU",
        precision=bundle.manifest.precision,
        threads=0,
    )
    # Dynamic int8 takes its ranges from all that it is given at once: alone, an image's answer is its own.
    alone = bundle.manifest.quantisation == "dynamic"
    return OrtEngine(bundle, session, info, provider=CPU, most=1 if alone else None)


def _is_large(bundle: Bundle) -> bool:
    return sum(e.bytes for n, e in bundle.manifest.files.items() if not n.startswith("golden/")) >= _WORTH_CACHING


def _plain(runtime: Any, bundle: Bundle) -> Any:
    path = bundle.model_path
    return loaded(lambda: runtime.InferenceSession(str(path), session_options(runtime), providers=[CPU]), path)


def _cached(runtime: Any, bundle: Bundle, cache: Cache, tell: Callable[[str], None]) -> Any:
    from madclip_runtime.machine import cpu_key

    made = []

    def build(folder: Path) -> None:
        options = session_options(runtime)
        options.optimized_model_filepath = str(folder / _MODEL)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        path = bundle.model_path
        made.append(loaded(lambda: runtime.InferenceSession(str(path), options, providers=[CPU]), path))

    key = {"model": model_key(bundle), "library": f"onnxruntime {runtime.__version__}", "cpu": cpu_key()}
    folder = cache.entry("ort-cpu", key, build, tell)
    if made:
        return made[0]
    options = session_options(runtime)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return runtime.InferenceSession(str(folder / _MODEL), options, providers=[CPU])
    except Exception as error:  # whole by its hash, and the library will still not have it: the bundle is the truth
        tell(f"the optimised graph in the cache does not load ({str(error)[:120]}); using the bundle's own")
        return _plain(runtime, bundle)
