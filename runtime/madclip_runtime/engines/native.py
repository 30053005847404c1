"""What both native engines share: a plan built from the bundle's graph on this box, and run without ONNX Runtime.

A bundle may bring a plan compiled ahead of time: it is used where its sidecar says that it is for this graph, library
and GPU, after its hash was checked against the manifest. Else one is built here and kept in the cache as the library
wrote it. A plan is a program: it comes from this machine, or from whom the bundle comes. Never yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.engines import Answer, Answers, EngineInfo, check_outputs
from madclip_runtime.engines.cudart import Cuda
from madclip_runtime.engines.ort import GPU_BATCH, model_key
from madclip_runtime.errors import EngineRefused
from madclip_runtime.machine import gpus
from madclip_runtime.manifest import output_names
from madclip_runtime.plan_files import find_plan, graph_key

if TYPE_CHECKING:
    from madclip_runtime.bundle import Bundle
    from madclip_runtime.cache import Cache

__all__ = ["NativeEngine", "build_plan", "start_native"]

_PLAN = "model.plan"


class NativeEngine:
    """A deserialised plan with its buffers."""

    def __init__(self, bundle: Bundle, library: Any, plan: bytes | memoryview, cuda: Cuda, info: EngineInfo) -> None:
        """Raises: EngineRefused where this machine will not have the plan, or its ends are not the bundle's."""
        self._info, self._cuda = info, cuda
        self._size = bundle.manifest.input.size
        self._outputs = output_names(bundle.manifest.heads)
        # Kept: the engine lives only as long as the runtime and its logger do.
        self._keep = library.Logger(library.Logger.ERROR)
        self._runtime = library.Runtime(self._keep)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineRefused(info.name, "this machine does not take the plan", "see madclip-run --doctor")
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        wanted = {"image", *(name for pair in self._outputs.values() for name in pair)}
        if names != wanted:
            raise EngineRefused(info.name, f"the plan's ends are {sorted(names)}, not {sorted(wanted)}", "")
        self._engine, self._context = engine, engine.create_execution_context()
        self._buffers = {name: cuda.allocate(GPU_BATCH * self._bytes(name)) for name in sorted(wanted)}
        for name, address in self._buffers.items():
            self._context.set_tensor_address(name, address)

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        return self._info

    def run(self, images: npt.NDArray[np.uint8], heads: Sequence[str] | None = None) -> Answers:
        """See Engine.run; every head is computed, whichever are wanted."""
        wanted = list(self._outputs) if heads is None else list(heads)
        parts = [self._call(images[at : at + GPU_BATCH], wanted) for at in range(0, len(images), GPU_BATCH)]
        answers = {
            head: Answer(*(np.concatenate(arrays) for arrays in zip(*(part[head] for part in parts), strict=True)))
            for head in wanted
        }
        for answer in answers.values():
            check_outputs(answer, len(images), self._size, self._info.name)
        return answers

    def _call(self, images: npt.NDArray[np.uint8], wanted: list[str]) -> Answers:
        size, count = self._size, len(images)
        if images.dtype != np.uint8 or images.shape != (count, size, size, 3):
            raise EngineRefused(self._info.name, f"images are {images.dtype} {images.shape}", "")
        images = np.ascontiguousarray(images)
        self._context.set_input_shape("image", images.shape)
        self._cuda.upload(self._buffers["image"], images)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise EngineRefused(self._info.name, "the plan failed to run", "see madclip-run --doctor")
        answers = {}
        for head in wanted:
            score, heat = self._outputs[head]
            answers[head] = Answer(np.empty(count, np.float32), np.empty((count, size, size), np.float32))
            self._cuda.download(self._buffers[score], answers[head].scores)
            self._cuda.download(self._buffers[heat], answers[head].maps)
        self._cuda.wait()
        return answers

    def _bytes(self, name: str) -> int:
        area = self._size * self._size
        scores = {score for score, _ in self._outputs.values()}
        return 3 * area if name == "image" else 4 if name in scores else 4 * area


def start_native(
    name: str, library: Any, cuda: Cuda, bundle: Bundle, cache: Cache | None, tell: Callable[[str], None]
) -> NativeEngine:
    """Build or find the plan, and load it. Raises: EngineRefused."""
    info = EngineInfo(
        name=name,
        library=f"{library.__name__} {library.__version__}",
        device=", ".join(gpus()[:1]) or "GPU",
        precision=bundle.manifest.precision,
        threads=0,
    )
    brought = _brought(name, library, cuda, bundle, info, tell)
    if brought is not None:
        return brought
    if cache is None:
        tell("building the plan, which is not kept (--no-cache); this takes minutes")
        return NativeEngine(bundle, library, build_plan(name, library, bundle), cuda, info)
    key = {"model": model_key(bundle), "library": info.library, "gpu and driver": "; ".join(gpus()) or "unknown"}

    def build(folder: Path) -> None:
        (folder / _PLAN).write_bytes(build_plan(name, library, bundle))

    plan = cache.entry(name, key, build, tell) / _PLAN
    return NativeEngine(bundle, library, plan.read_bytes(), cuda, info)


def _brought(
    name: str, library: Any, cuda: Cuda, bundle: Bundle, info: EngineInfo, tell: Callable[[str], None]
) -> NativeEngine | None:
    """The engine from the bundle's own plan; None, and why, where it has none for here. Raises: BundleRefused."""
    kind = "tensorrt-rtx" if name == "rtx-native" else "tensorrt"
    found = find_plan(bundle, kind)
    if found is None:
        return None
    path, key = found
    here = cuda.capability() if kind == "tensorrt-rtx" else ", ".join(gpus()[:1])
    why = key.unfit(info.library, graph_key(bundle), here)
    if not why:
        try:
            engine = NativeEngine(bundle, library, path.read_bytes(), cuda, info)
            tell(f"using the plan that the bundle brings, for {here}")
            return engine
        except EngineRefused as error:
            why = error.why
    tell(f"the bundle's own plan is not used: {why}")
    return None


def build_plan(name: str, library: Any, bundle: Bundle) -> memoryview:
    """The graph as a plan for this machine, batches of 1 to GPU_BATCH. Raises: EngineRefused."""
    logger = library.Logger(library.Logger.ERROR)
    builder = library.Builder(logger)
    network = builder.create_network(_strongly_typed(library))
    parser = library.OnnxParser(network, logger)
    if not parser.parse_from_file(str(bundle.model_path)):
        told = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineRefused(name, f"the graph does not parse: {told[:300]}", "use another engine")
    config = builder.create_builder_config()
    _set_precision(library, config, bundle.manifest.precision)
    size = bundle.manifest.input.size
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((count, size, size, 3) for count in (1, 1, GPU_BATCH)))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineRefused(name, "no plan could be built", "see madclip-run --doctor")
    return memoryview(plan)  # the library's own memory: a plan may be as large as the box has left


def _strongly_typed(library: Any) -> int:
    """From TensorRT 10 on a network can be held to the types the graph states; 11 and RTX know nothing else."""
    flags = library.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _set_precision(library: Any, config: Any, precision: str) -> None:
    flags: Any = getattr(library, "BuilderFlag", None)
    if hasattr(flags, "TF32"):  # on by default, and it rounds float32 products to 10 bits
        config.clear_flag(flags.TF32)
    if not _strongly_typed(library) and precision == "fp16":
        config.set_flag(flags.FP16)
