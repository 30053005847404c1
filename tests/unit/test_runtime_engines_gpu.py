"""The edges of engines that need hardware this project has not met, against fakes: what they ask for, and refuse."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bundle_edits import replace_file

from madclip_runtime.bundle import Bundle
from madclip_runtime.cache import Cache
from madclip_runtime.engines import load_engine
from madclip_runtime.engines.cudart import Cuda
from madclip_runtime.engines.native import NativeEngine, build_plan, start_native
from madclip_runtime.engines.ort import GPU_BATCH
from madclip_runtime.errors import BundleRefused, EngineRefused
from madclip_runtime.plan_files import PlanKey, graph_key

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
RTX = "NvTensorRTRTXExecutionProvider"


class Library(ModuleType):
    """An onnxruntime with any providers. active: what a session answers. calls: batch sizes it was run with."""

    def __init__(self, there: list[str], active: list[str] | Exception, brightness: Callable[..., Any]) -> None:
        super().__init__("onnxruntime")
        self.__version__ = "9.9"
        self.there, self.active, self.brightness = there, active, brightness
        self.sessions: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self.writes: Callable[[dict[str, Any]], None] = lambda _: None
        self.GraphOptimizationLevel = SimpleNamespace(ORT_DISABLE_ALL=0)

    def get_available_providers(self) -> list[str]:
        return self.there

    def SessionOptions(self) -> SimpleNamespace:  # noqa: N802 (the library's own name)
        options = SimpleNamespace(intra_op_num_threads=0, entries={}, added=[])
        options.add_session_config_entry = options.entries.__setitem__
        options.add_provider_for_devices = lambda devices, settings: options.added.append((devices, settings))
        return options

    def InferenceSession(  # noqa: N802
        self, path: str, options: Any = None, providers: list[Any] | None = None, sess_options: Any = None
    ) -> SimpleNamespace:
        asked = providers or sess_options.added
        names = [item if isinstance(item, str) else item[0] for item in asked]
        active = [CPU] if names == [CPU] else self.active
        if isinstance(active, Exception):
            raise active
        self.sessions.append({"path": path, "asked": asked})

        def end(name: str, kind: str, *shape: int) -> SimpleNamespace:
            return SimpleNamespace(name=name, type=f"tensor({kind})", shape=["N", *shape])

        def run(wanted: list[str], feed: dict[str, Any]) -> list[Any]:
            self.calls.append(len(feed["image"]))
            self.writes(self.sessions[-1])
            answers = dict(zip(("score", "map"), self.brightness(feed["image"]), strict=True))
            return [answers[name] for name in wanted]

        return SimpleNamespace(
            get_providers=lambda: active,
            get_inputs=lambda: [end("image", "uint8", 32, 32, 3)],
            get_outputs=lambda: [end("score", "float"), end("map", "float", 32, 32)],
            run=run,
        )


@pytest.fixture
def fake(tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Library]:
    def install(there: list[str], active: list[str] | Exception) -> Library:
        library = Library(there, active, tiny.brightness)
        monkeypatch.setitem(sys.modules, "onnxruntime", library)
        return library

    monkeypatch.setattr("madclip_runtime.machine._ask", lambda *_: "Fake GPU, 999.1, 8192 MiB\n")
    return install


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.load(tiny_bundle)


IMAGES = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_build_without_the_provider_is_refused_with_what_to_do(fake: Any, bundle: Bundle, name: str) -> None:
    fake([CPU], [CPU])
    with pytest.raises(EngineRefused, match=f"{name}: this ONNX Runtime has no") as caught:
        load_engine(bundle, name)
    assert caught.value.do and caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("name", "active"), [("cuda", [CPU]), ("tensorrt", [CPU]), ("tensorrt", [CUDA, CPU]), ("cuda", [TENSORRT, CPU])]
)
def test_another_provider_in_its_place_is_refused(fake: Any, bundle: Bundle, name: str, active: list[str]) -> None:
    fake([TENSORRT, CUDA, CPU], active)
    with pytest.raises(EngineRefused, match="ONNX Runtime activated"):
        load_engine(bundle, name)


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_session_that_does_not_come_up_is_refused(fake: Any, bundle: Bundle, name: str) -> None:
    fake([TENSORRT, CUDA, CPU], RuntimeError("CUDA failure 35: driver too old\nmore"))
    with pytest.raises(EngineRefused, match="driver too old") as caught:
        load_engine(bundle, name)
    assert caught.value.line().isprintable()


def test_cuda_runs_in_full_float32_and_says_what_ran(fake: Any, bundle: Bundle, tiny: ModuleType) -> None:
    library = fake([CUDA, CPU], [CUDA, CPU])
    engine = load_engine(bundle, "cuda")
    ((name, settings),) = library.sessions[0]["asked"]
    assert name == CUDA and settings["use_tf32"] == "0"
    assert (engine.info.name, engine.info.device) == ("onnxruntime-cuda", "Fake GPU, 999.1, 8192 MiB")
    np.testing.assert_array_equal(engine.run(IMAGES)["brightness"].scores, tiny.brightness(IMAGES)[0])


def test_auto_takes_cuda_where_it_comes_up_and_says_so(fake: Any, bundle: Bundle) -> None:
    fake([TENSORRT, CUDA, CPU], [CUDA, CPU])
    said: list[str] = []
    assert load_engine(bundle, "auto", tell=said.append).info.name == "onnxruntime-cuda"
    assert "engine auto: cuda" in said[0] and "--engine tensorrt" in said[0]


def test_auto_takes_the_cpu_where_cuda_does_not_come_up_and_says_why(fake: Any, bundle: Bundle) -> None:
    fake([CUDA, CPU], RuntimeError("no driver"))
    said: list[str] = []
    assert load_engine(bundle, "auto", tell=said.append).info.name == "onnxruntime-cpu"
    assert said == ["engine auto: cpu, since cuda did not come up: no driver"]


def writes_engine(session: dict[str, Any]) -> None:
    """As the library does: only where there is none yet."""
    path = Path(session["asked"][0][1]["trt_engine_cache_path"]) / "graph_0.engine"
    if not path.exists():
        path.write_bytes(b"engine")


def test_tensorrt_builds_once_for_a_range_of_batches_and_keeps_it(
    fake: Any, bundle: Bundle, tmp_path: Path, tiny: ModuleType
) -> None:
    library = fake([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU])
    library.writes = writes_engine
    cache, said = Cache(tmp_path, 10**9), []
    engine = load_engine(bundle, "tensorrt", cache=cache, tell=said.append)
    settings = library.sessions[0]["asked"][0][1]
    assert settings["trt_profile_max_shapes"] == f"image:{GPU_BATCH}x32x32x3"
    assert settings["trt_fp16_enable"] == "0" and settings["trt_timing_cache_enable"] == "1"
    assert said[0].startswith("building ort-tensorrt")
    np.testing.assert_array_equal(engine.run(IMAGES)["brightness"].scores, tiny.brightness(IMAGES)[0])
    assert library.calls == [1, GPU_BATCH, 11 - GPU_BATCH]
    again = load_engine(bundle, "tensorrt", cache=cache, tell=said.append)
    assert again.info.name == "onnxruntime-tensorrt" and len(said) == 1
    kept = Path(library.sessions[-1]["asked"][0][1]["trt_engine_cache_path"])
    assert (kept / "graph_0.engine").read_bytes() == b"engine" and kept.parent == tmp_path


def test_another_driver_rebuilds_and_says_so(
    fake: Any, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]).writes = writes_engine
    cache, said = Cache(tmp_path, 10**9), []
    load_engine(bundle, "tensorrt", cache=cache, tell=said.append)
    monkeypatch.setattr("madclip_runtime.machine._ask", lambda *_: "Fake GPU, 999.2, 8192 MiB\n")
    load_engine(bundle, "tensorrt", cache=cache, tell=said.append)
    assert "gpu and driver was Fake GPU, 999.1, 8192 MiB, is Fake GPU, 999.2, 8192 MiB" in said[1]


def test_tensorrt_that_took_no_part_of_the_graph_is_refused(fake: Any, bundle: Bundle, tmp_path: Path) -> None:
    fake([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU])
    with pytest.raises(EngineRefused, match="took no part"):
        load_engine(bundle, "tensorrt", cache=Cache(tmp_path, 10**9))
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith("ort-")]


def plugin(monkeypatch: pytest.MonkeyPatch, library: Library, devices: list[str]) -> None:
    made = ModuleType("onnxruntime_ep_nv_tensorrt_rtx")
    vars(made).update(__version__="0.5", get_library_path=lambda: "/lib/rtx.so", get_ep_name=lambda: RTX)
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", made)
    library.registered = []
    library.register_execution_provider_library = lambda *call: library.registered.append(call)
    library.get_ep_devices = lambda: [SimpleNamespace(ep_name=name) for name in devices]


def test_rtx_goes_through_its_plug_in(
    fake: Any, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = fake([CPU], [RTX, CPU])
    plugin(monkeypatch, library, [CPU, RTX])
    for _ in range(2):
        engine = load_engine(bundle, "rtx", cache=Cache(tmp_path, 10**9))
    assert library.registered[0] == ("madclip-rtx", "/lib/rtx.so")
    ((devices, settings),) = library.sessions[-1]["asked"]
    assert [device.ep_name for device in devices] == [RTX]
    assert settings["nv_profile_max_shapes"] == f"image:{GPU_BATCH}x32x32x3"
    assert not Path(settings["nv_runtime_cache_path"]).is_relative_to(tmp_path)  # a copy: the entry stays as hashed
    assert engine.info.name == "onnxruntime-rtx" and "plug-in 0.5" in engine.info.library
    engine.run(IMAGES)


def test_rtx_without_plug_in_gpu_or_activity_is_refused(
    fake: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = fake([CPU], [CPU])
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(EngineRefused, match="plug-in is not installed"):
        load_engine(bundle, "rtx")
    plugin(monkeypatch, library, [CPU])
    with pytest.raises(EngineRefused, match="no GPU that it can run on"):
        load_engine(bundle, "rtx")
    plugin(monkeypatch, library, [RTX])
    with pytest.raises(EngineRefused, match="ONNX Runtime activated"):
        load_engine(bundle, "rtx")


@pytest.mark.parametrize(("name", "module"), [("tensorrt-native", "tensorrt"), ("rtx-native", "tensorrt_rtx")])
def test_a_native_engine_without_its_library_is_refused(
    bundle: Bundle, name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineRefused, match=f"{name}: {module} is not installed"):
        load_engine(bundle, name)


class Device:
    """A pretended CUDA: buffers are bytearrays, and running the plan computes brightness."""

    stream = 7

    def capability(self) -> str:
        return "sm89"

    def __init__(self) -> None:
        self.buffers: list[bytearray] = []

    def allocate(self, count: int) -> int:
        self.buffers.append(bytearray(count))
        return len(self.buffers) - 1

    def upload(self, address: int, array: np.ndarray) -> None:
        self.buffers[address][: array.nbytes] = array.tobytes()

    def download(self, address: int, array: np.ndarray) -> None:
        array[...] = np.frombuffer(self.buffers[address], array.dtype, array.size).reshape(array.shape)

    def wait(self) -> None:
        pass


def tensorrt_library(device: Device, tiny: ModuleType, *, parses: bool = True, typed: bool = True) -> Any:
    """As much of TensorRT's Python face as the native engines use; `asked` records what they asked for."""
    asked: dict[str, Any] = {"flags": []}
    addresses: dict[str, int] = {}
    shape: list[tuple[int, ...]] = []

    def execute(stream: int) -> bool:
        assert stream == device.stream
        images = np.frombuffer(device.buffers[addresses["image"]], np.uint8, int(np.prod(shape[-1]))).reshape(shape[-1])
        for name, values in zip(("score", "map"), tiny.brightness(images), strict=True):
            device.upload(addresses[name], values)
        return True

    context = SimpleNamespace(
        set_tensor_address=addresses.__setitem__,
        set_input_shape=lambda _, s: shape.append(s),
        execute_async_v3=execute,
    )
    names = ["image", "score", "map"]
    engine = SimpleNamespace(
        num_io_tensors=3, get_tensor_name=names.__getitem__, create_execution_context=lambda: context
    )
    parser = SimpleNamespace(
        parse_from_file=lambda path: asked.update(path=path) or parses, num_errors=1, get_error=lambda _: "node 3: no"
    )
    profile = SimpleNamespace(set_shape=lambda *shapes: asked.update(shapes=shapes))
    config = SimpleNamespace(
        add_optimization_profile=lambda _: None,
        set_flag=lambda flag: asked["flags"].append(f"+{flag}"),
        clear_flag=lambda flag: asked["flags"].append(f"-{flag}"),
    )
    builder = SimpleNamespace(
        create_network=lambda flags: asked.update(network=flags),
        create_builder_config=lambda: config,
        create_optimization_profile=lambda: profile,
        build_serialized_network=lambda *_: b"the plan as it is",
    )
    library = ModuleType("tensorrt")
    logger = SimpleNamespace(ERROR=1)
    vars(library).update(
        __version__="10.3",
        asked=asked,
        Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, _: None}),
        Builder=lambda _: builder,
        OnnxParser=lambda *_: parser,
        Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=lambda plan: asked.update(plan=plan) or engine),
        NetworkDefinitionCreationFlag=SimpleNamespace(**({"STRONGLY_TYPED": 1} if typed else {})),
        BuilderFlag=SimpleNamespace(TF32="TF32", FP16="FP16"),
        logger=logger,
    )
    return library


def test_a_native_plan_is_built_once_kept_as_it_is_and_run(bundle: Bundle, tmp_path: Path, tiny: ModuleType) -> None:
    device = Device()
    library, cache, said = tensorrt_library(device, tiny), Cache(tmp_path, 10**9), []
    for _ in range(2):
        engine = start_native("tensorrt-native", library, device, bundle, cache, said.append)  # type: ignore[arg-type]
    assert len(said) == 1 and "building tensorrt-native" in said[0]
    (plan,) = tmp_path.glob("tensorrt-native-*/model.plan")
    assert plan.read_bytes() == b"the plan as it is" == library.asked["plan"]
    assert library.asked["shapes"] == ("image", *((n, 32, 32, 3) for n in (1, 1, GPU_BATCH)))
    assert library.asked["flags"] == ["-TF32"] and library.asked["network"] == 2
    answer = engine.run(IMAGES)["brightness"]
    np.testing.assert_array_equal(answer.scores, tiny.brightness(IMAGES)[0])
    np.testing.assert_array_equal(answer.maps, tiny.brightness(IMAGES)[1])
    assert engine.info.name == "tensorrt-native" and engine.info.library == "tensorrt 10.3"


def _with_plan(folder: Path, **change: Any) -> Bundle:
    """The bundle with a plan and its sidecar, listed in the manifest as an export would."""
    bundle = Bundle.load(folder)
    digest = hashlib.sha256(b"a plan from afar").hexdigest()
    key = PlanKey("tensorrt-rtx", "tensorrt_rtx 1.2", ("sm89",), "", graph_key(bundle), "fp32", (1, 1, 8), digest)
    (folder / "engines").mkdir()
    replace_file(folder, "engines/tensorrt-rtx.plan", b"a plan from afar")
    replace_file(folder, "engines/tensorrt-rtx.json", json.dumps(replace(key, **change).to_json()).encode())
    return Bundle.load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "using the plan that the bundle brings, for sm89"),
        ({"targets": ("sm80", "sm86")}, "it is for sm80, sm86, here is sm89"),
        ({"library": "tensorrt_rtx 1.1"}, "it was written by tensorrt_rtx 1.1, here is tensorrt_rtx 1.2"),
        ({"model": "0" * 64}, "it was built from another graph"),
    ],
)
def test_a_plan_that_the_bundle_brings_is_used_only_where_its_key_fits(
    tiny_bundle: Path, tiny: ModuleType, change: dict[str, Any], said: str
) -> None:
    bundle, device, heard = _with_plan(tiny_bundle, **change), Device(), []
    library = tensorrt_library(device, tiny)
    vars(library).update(__name__="tensorrt_rtx", __version__="1.2")
    start_native("rtx-native", library, device, bundle, None, heard.append)  # type: ignore[arg-type]
    assert any(said in line for line in heard)
    assert library.asked["plan"] == (b"the plan as it is" if change else b"a plan from afar")


def test_a_sidecar_of_another_plan_or_no_json_is_refused(tiny_bundle: Path, tiny: ModuleType) -> None:
    bundle, device = _with_plan(tiny_bundle, sha256="0" * 64), Device()
    library = tensorrt_library(device, tiny)
    with pytest.raises(BundleRefused, match="another plan"):
        start_native("rtx-native", library, device, bundle, None, lambda _: None)  # type: ignore[arg-type]
    replace_file(tiny_bundle, "engines/tensorrt-rtx.json", b"{")
    with pytest.raises(BundleRefused, match=r"tensorrt-rtx\.json"):
        start_native("rtx-native", library, device, Bundle.load(tiny_bundle), None, lambda _: None)  # type: ignore[arg-type]


def test_native_refusals(bundle: Bundle, tiny: ModuleType) -> None:
    device = Device()
    with pytest.raises(EngineRefused, match="does not parse: node 3: no"):
        build_plan("tensorrt-native", tensorrt_library(device, tiny, parses=False), bundle)
    library = tensorrt_library(device, tiny)
    engine = start_native("tensorrt-native", library, device, bundle, None, lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(EngineRefused, match="images are uint8"):
        engine.run(np.zeros((1, 16, 16, 3), np.uint8))
    library.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: None)
    with pytest.raises(EngineRefused, match="does not take the plan"):
        NativeEngine(bundle, library, b"", device, engine.info)  # type: ignore[arg-type]


def test_an_old_tensorrt_gets_its_float16_flag_only_for_a_float16_bundle(bundle: Bundle, tiny: ModuleType) -> None:
    half = replace(bundle, manifest=replace(bundle.manifest, precision="fp16"))
    for given, flags in ((bundle, ["-TF32"]), (half, ["-TF32", "+FP16"])):
        library = tensorrt_library(Device(), tiny, typed=False)
        build_plan("tensorrt-native", library, given)
        assert library.asked["flags"] == flags and library.asked["network"] == 0


def test_cudas_own_words_are_in_the_refusal() -> None:
    class Call:
        restype = None

        def __init__(self, answer: object) -> None:
            self.answer = answer

        def __call__(self, *_: object) -> object:
            return self.answer

    library = SimpleNamespace(
        cudaGetErrorString=Call(b"CUDA driver version is insufficient"), cudaStreamCreate=Call(35)
    )
    with pytest.raises(EngineRefused, match="CUDA error 35: CUDA driver version is insufficient"):
        Cuda(library, "tensorrt-native")


def test_a_working_folder_goes_with_its_process() -> None:
    code = "from madclip_runtime.engines.ort import working_folder as w; f = w(); (f / 'x').touch(); print(f)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() and not Path(done.stdout.strip()).exists()
