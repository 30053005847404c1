"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.engines import EngineInfo, check_outputs
from madclip_runtime.errors import BundleRefused, EngineRefused

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle

__all__ = ["OnnxRuntimeCpu"]

_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3


class OnnxRuntimeCpu:
    """The bundle's graph in an ONNX Runtime session whose only provider is the CPU's."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises: EngineRefused without onnxruntime; BundleRefused where the graph can't be loaded or isn't ours."""
        runtime = _import()
        options = runtime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = runtime.InferenceSession(str(bundle.model_path), options, providers=[_PROVIDER])
        except Exception as error:  # the library raises its own untyped errors
            raise BundleRefused(
                str(bundle.model_path), f"ONNX Runtime: {str(error)[:300]}", "export it again"
            ) from None
        active = self._session.get_providers()
        if active != [_PROVIDER]:
            raise EngineRefused("cpu", f"ONNX Runtime activated {active}", "reinstall onnxruntime")
        self._size = bundle.manifest.input.size
        _check_contract(self._session, self._size, str(bundle.model_path))
        self._info = EngineInfo(
            name="onnxruntime-cpu",
            library=f"onnxruntime {runtime.__version__}",
            device="CPU",
            precision=bundle.manifest.precision,
            threads=options.intra_op_num_threads,
        )

    @property
    def info(self) -> EngineInfo:
        """What really runs; threads 0 means ONNX Runtime's own choice, one a physical core."""
        return self._info

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See Engine.run."""
        try:
            scores, maps = self._session.run(["score", "map"], {"image": images})
        except Exception as error:  # the library raises its own untyped errors
            raise EngineRefused(self._info.name, str(error)[:300], "run madclip-run again with fewer images") from None
        check_outputs(scores, maps, len(images), self._size, self._info.name)
        return scores, maps


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise EngineRefused("cpu", "ONNX Runtime is not installed", 'pip install "madclip-runtime[cpu]"') from None
    return onnxruntime


def _check_contract(session: Any, size: int, label: str) -> None:
    """The graph's face must be the bundle format's: image uint8 [N, S, S, 3] → score [N], map [N, S, S]."""
    wanted = {
        "image": ("tensor(uint8)", [size, size, 3]),
        "score": ("tensor(float)", []),
        "map": ("tensor(float)", [size, size]),
    }
    ends = [*session.get_inputs(), *session.get_outputs()]
    found = {end.name: (end.type, list(end.shape)[1:]) for end in ends}
    if found != wanted:
        raise BundleRefused(label, f"its inputs and outputs are {found}, not {wanted}", "export it again")
