"""madclip's runtime: bundle + image → result, or one named refusal. It never imports torch.

Research use, not a medical device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Bundle", "Detector", "MadclipError", "Result", "__version__"]

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.detector import Detector
    from madclip_runtime.errors import MadclipError
    from madclip_runtime.result import Result

_HOMES = {"Bundle": "bundle", "Detector": "detector", "MadclipError": "errors", "Result": "result"}


def __getattr__(name: str) -> Any:
    """Names are imported on first use, so that `madclip-run --help` loads neither numpy nor Pillow."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
