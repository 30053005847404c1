"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.engines import Answer, Answers, EngineInfo, check_outputs
from madclip_runtime.errors import BundleRefused, EngineRefused
from madclip_runtime.manifest import output_names

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
        self._outputs = output_names(bundle.manifest.heads)
        _check_contract(self._session, self._size, self._outputs.values(), str(bundle.model_path))
        self._only_wanted = runtime.RunOptions()
        self._only_wanted.only_execute_path_to_fetches = True
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

    def run(self, images: npt.NDArray[np.uint8], heads: Sequence[str] | None = None) -> Answers:
        """See Engine.run."""
        wanted = list(self._outputs) if heads is None else list(heads)
        names = [name for head in wanted for name in self._outputs[head]]
        try:
            values = self._session.run(names, {"image": images}, self._only_wanted)
        except Exception as error:  # the library raises its own untyped errors
            raise EngineRefused(self._info.name, str(error)[:300], "run madclip-run again with fewer images") from None
        answers = {head: Answer(*values[2 * i : 2 * i + 2]) for i, head in enumerate(wanted)}
        for answer in answers.values():
            check_outputs(answer, len(images), self._size, self._info.name)
        return answers


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise EngineRefused("cpu", "ONNX Runtime is not installed", 'pip install "madclip-runtime[cpu]"') from None
    return onnxruntime


def _check_contract(session: Any, size: int, outputs: Iterable[tuple[str, str]], label: str) -> None:
    """The graph's face must be the format's: image uint8 [N, S, S, 3] → a score [N] and a map [N, S, S] a head."""
    wanted: dict[str, tuple[str, list[int]]] = {"image": ("tensor(uint8)", [size, size, 3])}
    for score, heat in outputs:
        wanted |= {score: ("tensor(float)", []), heat: ("tensor(float)", [size, size])}
    ends = [*session.get_inputs(), *session.get_outputs()]
    found = {end.name: (end.type, list(end.shape)[1:]) for end in ends}
    if found != wanted:
        raise BundleRefused(label, f"its inputs and outputs are {found}, not {wanted}", "export it again")
