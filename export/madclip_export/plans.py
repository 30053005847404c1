"""Plans for NVIDIA's libraries beside the ONNX graph: parsed, checked, built, and left as the library wrote them.

tensorrt: built for the GPU of this machine. tensorrt-rtx: compiled ahead of time for GPUs that need not be here;
without a driver neither its plan can be loaded nor its header judged, so what is checked is the parsed network: names,
shapes and types of its ends. Beside each plan stands a sidecar with the key that decides where it may run; nothing is
put into the plan itself, so that trtexec and others open it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madclip_runtime.bundle import Bundle
from madclip_runtime.errors import BundleRefused, EngineRefused, UsageError
from madclip_runtime.files import sha256_of
from madclip_runtime.machine import gpus
from madclip_runtime.manifest import output_names
from madclip_runtime.plan_files import FOLDER, PlanKey, graph_key

__all__ = ["FORMATS", "PlanOptions", "build_plans"]

FORMATS = ("onnx", "tensorrt", "tensorrt-rtx")
_TYPED_FROM = (10, 12)
_NOT_BY_DEFAULT = ("SM75",)
"""Turing: TensorRT-RTX 1.7 has no float32 products for it (seen: "FP32 GEMM is not supported")."""
_IMAGE = "image"

Say = Callable[[str], None]


@dataclass(frozen=True)
class PlanOptions:
    """formats: besides onnx, which is always there. targets: compute capabilities for tensorrt-rtx, e.g. "sm89", none
    for Ampere and all later ones its library knows. most: largest batch of the profile (least and best are 1).
    timing_cache: a file that is read and written. workspace_mb: most scratch memory, 0 for the library's own choice.
    """

    formats: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    most: int = 8
    timing_cache: Path | None = None
    workspace_mb: int = 0

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise UsageError(f"--format {name}", f"must be one of {', '.join(FORMATS)}")
        if not 1 <= self.most <= 256:
            raise UsageError(f"--max-batch {self.most}", "must be 1 to 256")


def build_plans(folder: Path, options: PlanOptions, say: Say) -> None:
    """Put the wanted plans into the staged bundle at `folder`. Raises: EngineRefused, BundleRefused, UsageError."""
    bundle = Bundle.load(folder)
    for name in options.formats:
        if name == "onnx":
            continue
        if bundle.manifest.quantisation == "dynamic":
            why = "these libraries need int8 as Q/DQ pairs with ranges"
            raise UsageError(f"--format {name} --int8", why, "add --calibration DIR")
        _build(bundle, name, options, say)


def _build(bundle: Bundle, kind: str, options: PlanOptions, say: Say) -> None:
    library = _library(kind)
    told: list[str] = []
    logger = _logger(library, told)
    builder = _builder(kind, library, logger, told)
    typed = _is_strongly_typed(library)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if typed else 0)
    parser = library.OnnxParser(network, logger)
    if not parser.parse_from_file(str(bundle.model_path)):
        why = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise BundleRefused(f"--format {kind}", f"its parser refuses the graph: {why[:300]}", "export without it")
    _check_ends(bundle, kind, library, network)
    config = builder.create_builder_config()
    targets = _set_targets(kind, library, config, options)
    _set_precision(library, config, bundle.manifest.precision, typed=typed)
    _set_profile(bundle, builder, config, options.most)
    if options.workspace_mb:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_mb * 2**20)
    _with_progress(library, config, kind)
    timings = _timing_cache(config, options.timing_cache)
    say(f"building {kind} {library.__version__} for {', '.join(targets)}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineRefused(f"--format {kind}", f"no plan could be built: {'; '.join(told)[:400]}", "other --target?")
    if timings is not None and options.timing_cache is not None:
        options.timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    _write(bundle, kind, library, targets, options, memoryview(plan))


def _library(kind: str) -> Any:
    """Raises: EngineRefused with what is missing, in a sentence."""
    try:
        if kind == "tensorrt":
            import tensorrt

            return tensorrt
        try:
            import tensorrt_rtx

            return tensorrt_rtx
        except ImportError:  # the same library without its Python face
            import tensorrt_rtx_bindings

            return tensorrt_rtx_bindings
    except ImportError:
        missing = {
            "tensorrt": ("the tensorrt package is not installed; it builds plans only on the GPU they are for", ""),
            "tensorrt-rtx": ("TensorRT-RTX is not installed", 'pip install "madclip-export[rtx]" (x86-64 only)'),
        }
        raise EngineRefused(f"--format {kind}", *missing[kind]) from None


def _logger(library: Any, told: list[str]) -> Any:
    """Keeps the library's errors for the refusal, instead of printing them between our lines."""

    class Log(library.ILogger):
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                told.append(message)

    return Log()


def _builder(kind: str, library: Any, logger: Any, told: list[str]) -> Any:
    """TensorRT makes no builder without a driver and a GPU; RTX does. Raises: EngineRefused."""
    try:
        builder = library.Builder(logger)
    except Exception as error:  # pybind raises its own kinds
        raise EngineRefused(
            f"--format {kind}", f"no builder: {str(error)[:160]}", "run it on the GPU machine"
        ) from None
    if builder is None:
        why = f"no builder, it needs an NVIDIA driver and GPU: {'; '.join(told)[:200]}"
        raise EngineRefused(f"--format {kind}", why, "run it on the GPU machine")
    return builder


def _is_strongly_typed(library: Any) -> bool:
    """Types are the graph's own. TensorRT before 10.12 is asked by flags instead; RTX and 11 know nothing else."""
    if library.__name__.startswith("tensorrt_rtx"):
        return True
    version = tuple(int(part) for part in library.__version__.split(".")[:2])
    return version >= _TYPED_FROM or not hasattr(library.BuilderFlag, "FP16")


def _check_ends(bundle: Bundle, kind: str, library: Any, network: Any) -> None:
    """The parsed network's face must be the bundle's: names, shapes behind the batch, and types."""
    size = bundle.manifest.input.size
    wanted: dict[str, tuple[tuple[int, ...], str]] = {_IMAGE: ((size, size, 3), "UINT8")}
    for score, heat in output_names(bundle.manifest.heads).values():
        wanted |= {score: ((), "FLOAT"), heat: ((size, size), "FLOAT")}
    ends = [network.get_input(i) for i in range(network.num_inputs)]
    ends += [network.get_output(i) for i in range(network.num_outputs)]
    found = {end.name: (tuple(end.shape)[1:], end.dtype.name) for end in ends}
    if found != wanted or any(tuple(end.shape)[:1] != (-1,) for end in ends):
        raise BundleRefused(f"--format {kind}", f"the parsed network's ends are {found}, not {wanted}", "")


def _set_targets(kind: str, library: Any, config: Any, options: PlanOptions) -> list[str]:
    """For whom the plan is: this machine's GPU, or compute capabilities. Raises: UsageError."""
    if kind == "tensorrt":
        return list(gpus()[:1]) or ["the GPU of this machine"]
    known = [name for name in library.ComputeCapability.__members__ if name.startswith("SM")]
    wanted = [target.upper().replace("_", "") for target in options.targets]
    wanted = wanted or [name for name in known if name not in _NOT_BY_DEFAULT]
    wrong = [target for target in wanted if target not in known]
    if wrong:
        raise UsageError(f"--target {wrong[0].lower()}", f"must be one of {', '.join(known).lower()}")
    config.num_compute_capabilities = len(wanted)
    for index, target in enumerate(wanted):
        config.set_compute_capability(getattr(library.ComputeCapability, target), index)
    return [target.lower() for target in wanted]


def _set_precision(library: Any, config: Any, precision: str, *, typed: bool) -> None:
    flags = library.BuilderFlag
    if hasattr(flags, "TF32"):  # on by default, and it rounds float32 products to 10 bits
        config.clear_flag(flags.TF32)
    if not typed and precision in ("fp16", "int8"):
        config.set_flag(flags.FP16 if precision == "fp16" else flags.INT8)


def _set_profile(bundle: Bundle, builder: Any, config: Any, most: int) -> None:
    size = bundle.manifest.input.size
    profile = builder.create_optimization_profile()
    profile.set_shape(_IMAGE, *((count, size, size, 3) for count in (1, 1, most)))
    config.add_optimization_profile(profile)


def _timing_cache(config: Any, path: Path | None) -> Any:
    if path is None:
        return None
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known)
    if not config.set_timing_cache(cache, False):
        raise EngineRefused(f"--timing-cache {path}", "it is of another library or GPU", "name another file")
    return cache


def _with_progress(library: Any, config: Any, kind: str) -> None:
    """A bar on stderr where that is a terminal; older libraries have no monitor."""
    if not hasattr(library, "IProgressMonitor"):
        return
    from tqdm import tqdm

    class Monitor(library.IProgressMonitor):
        def __init__(self) -> None:
            super().__init__()
            self.bars: dict[str, Any] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.bars[name] = tqdm(total=steps, desc=f"{kind}: {name}"[:60], disable=None, leave=False)

        def step_complete(self, name: str, step: int) -> bool:
            self.bars[name].update(1)
            return True

        def phase_finish(self, name: str) -> None:
            self.bars.pop(name).close()

    config.progress_monitor = Monitor()


def _write(
    bundle: Bundle, kind: str, library: Any, targets: Sequence[str], options: PlanOptions, plan: memoryview
) -> None:
    folder = bundle.path / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{kind}.plan"
    path.write_bytes(plan)
    key = PlanKey(
        kind=kind,
        library=f"{library.__name__.removesuffix('_bindings')} {library.__version__}",
        targets=tuple(targets),
        driver="" if kind == "tensorrt-rtx" else "; ".join(gpus()),
        model=graph_key(bundle),
        precision=bundle.manifest.precision,
        batch=(1, 1, options.most),
        sha256=sha256_of(path),
    )
    path.with_suffix(".json").write_text(json.dumps(key.to_json(), indent=2, sort_keys=True) + "\n")
