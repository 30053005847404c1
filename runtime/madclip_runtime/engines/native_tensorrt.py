"""A native plan through the Python package of NVIDIA TensorRT. Never yet run on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from madclip_runtime.engines.cudart import load_cuda
from madclip_runtime.engines.native import NativeEngine, start_native
from madclip_runtime.errors import EngineRefused

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.cache import Cache

__all__ = ["start"]

_NAME = "tensorrt-native"
_GET_IT = "install TensorRT with its Python package; on a Jetson it comes with JetPack"


def start(bundle: Bundle, cache: Cache | None, tell: Callable[[str], None]) -> NativeEngine:
    """Raises: EngineRefused where the library, a driver or a GPU is missing, or the plan can't be built."""
    try:
        import tensorrt as library
    except ImportError:
        raise EngineRefused(_NAME, "tensorrt is not installed", _GET_IT) from None
    return start_native(_NAME, library, load_cuda(_NAME), bundle, cache, tell)
