"""What all ONNX Runtime engines share: the library, a session's face, and running it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.engines import Answer, Answers, EngineInfo, check_outputs
from madclip_runtime.errors import BundleRefused, EngineRefused
from madclip_runtime.manifest import output_names

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle

__all__ = [
    "CPU",
    "GPU_BATCH",
    "OrtEngine",
    "import_ort",
    "model_key",
    "profile_shapes",
    "require_provider",
    "session_options",
    "working_folder",
]

CPU = "CPUExecutionProvider"
GPU_BATCH = 8
"""Most images a call of the engines that build for a range of batch sizes; larger batches are cut."""
_ERRORS_ONLY = 3


class OrtEngine:
    """A bundle's graph in a session whose first provider has been proven to be the one asked for."""

    def __init__(
        self, bundle: Bundle, session: Any, info: EngineInfo, *, provider: str, most: int | None = None
    ) -> None:
        """provider: that must be active. most: images a call, None for no limit.

        Raises: EngineRefused where another provider is active; BundleRefused where the graph isn't ours.
        """
        active = list(session.get_providers())
        if active[:1] != [provider] or (provider == CPU and active != [CPU]):
            raise EngineRefused(info.name, f"ONNX Runtime activated {active}", "see madclip-run --doctor")
        self._session, self._info, self._most = session, info, most
        self._size = bundle.manifest.input.size
        self._outputs = output_names(bundle.manifest.heads)
        _check_contract(session, self._size, self._outputs.values(), str(bundle.model_path))

    @property
    def info(self) -> EngineInfo:
        """What really runs; threads 0 means ONNX Runtime's own choice, one a physical core."""
        return self._info

    def run(self, images: npt.NDArray[np.uint8], heads: Sequence[str] | None = None) -> Answers:
        """See Engine.run."""
        wanted = list(self._outputs) if heads is None else list(heads)
        names = [name for head in wanted for name in self._outputs[head]]
        parts = [self._call(names, part) for part in _parts(images, self._most)]
        values = parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        answers = {head: Answer(*values[2 * i : 2 * i + 2]) for i, head in enumerate(wanted)}
        for answer in answers.values():
            check_outputs(answer, len(images), self._size, self._info.name)
        return answers

    def _call(self, names: list[str], images: npt.NDArray[np.uint8]) -> Any:
        try:
            return self._session.run(names, {"image": images})
        except Exception as error:  # the library raises its own untyped errors
            raise EngineRefused(self._info.name, str(error)[:300], "run madclip-run again with fewer images") from None


def import_ort(name: str, extra: str = "cpu") -> Any:
    """The library. Raises: EngineRefused with the pip line."""
    try:
        import onnxruntime
    except ImportError:
        raise EngineRefused(name, "ONNX Runtime is not installed", f'pip install "madclip-runtime[{extra}]"') from None
    return onnxruntime


def require_provider(runtime: Any, name: str, provider: str, do: str) -> None:
    """Raises: EngineRefused where this build of ONNX Runtime lacks the provider."""
    there = runtime.get_available_providers()
    if provider not in there:
        raise EngineRefused(name, f"this ONNX Runtime has no {provider}, only {', '.join(there)}", do)


def session_options(runtime: Any) -> Any:
    """Quiet but for errors."""
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    return options


def model_key(bundle: Bundle) -> str:
    """The hashes of all that the graph is made of; golden files don't count."""
    files = bundle.manifest.files
    return " ".join(entry.sha256 for name, entry in sorted(files.items()) if not name.startswith("golden/"))


def profile_shapes(size: int) -> dict[str, str]:
    """ "min", "opt", "max" → the shapes an engine is built for, as the providers' options spell them."""
    return {end: f"image:{count}x{size}x{size}x3" for end, count in (("min", 1), ("opt", 1), ("max", GPU_BATCH))}


def loaded(open_session: Any, path: Path) -> Any:
    """Open a session. Raises: BundleRefused where the library will not have the graph."""
    try:
        return open_session()
    except Exception as error:  # the library raises its own untyped errors
        raise BundleRefused(str(path), f"ONNX Runtime: {str(error)[:300]}", "export it again") from None


def working_folder() -> Path:
    """A new folder that a session may read from and write to for as long as this process lives; it goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="madclip-engine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _parts(images: npt.NDArray[np.uint8], most: int | None) -> Iterator[npt.NDArray[np.uint8]]:
    if most is None or len(images) <= most:
        yield images
        return
    for start in range(0, len(images), most):
        yield images[start : start + most]


def _check_contract(session: Any, size: int, outputs: Iterable[tuple[str, str]], label: str) -> None:
    """The graph's face must be the format's: image uint8 [N, S, S, 3] → a score [N] and a map [N, S, S] a head."""
    wanted: dict[str, tuple[str, list[int]]] = {"image": ("tensor(uint8)", [size, size, 3])}
    for score, heat in outputs:
        wanted |= {score: ("tensor(float)", []), heat: ("tensor(float)", [size, size])}
    ends = [*session.get_inputs(), *session.get_outputs()]
    found = {end.name: (end.type, list(end.shape)[1:]) for end in ends}
    if found != wanted:
        raise BundleRefused(label, f"its inputs and outputs are {found}, not {wanted}", "export it again")
