"""Plans: TensorRT-RTX for real, on a machine without a GPU; TensorRT against a stand-in of its Python face."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from madclip.checkpoint import Checkpoint
from madclip_export.export import Sources, export_bundle, load_sources
from madclip_export.plans import PlanOptions, build_plans
from madclip_export.request import Request
from madclip_runtime import Bundle
from madclip_runtime.errors import BundleRefused, EngineRefused, UsageError
from madclip_runtime.files import sha256_of
from madclip_runtime.plan_files import find_plan, graph_key


@pytest.fixture(scope="module")
def sources(mini_checkpoint: Path) -> Sources:
    return load_sources({"brain": Checkpoint.load(mini_checkpoint)}, None)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_rtx_compiles_the_graph_here(sources: Sources, precision: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX's wheels: x86-64 only")
    request = Request(precision, plans=PlanOptions(("tensorrt-rtx",), targets=("sm86", "SM_89")))
    out = export_bundle(sources, tmp_path / "x.madclip", request, lambda _: None).out
    bundle = Bundle.load(out)
    found = find_plan(bundle, "tensorrt-rtx")
    assert found is not None
    path, key = found
    assert (
        path.stat().st_size > 100_000
        and key.sha256 == sha256_of(path) == bundle.manifest.files["engines/tensorrt-rtx.plan"].sha256
    )
    assert key.targets == ("sm86", "sm89") and key.model == graph_key(bundle) and key.precision == precision
    assert key.library.startswith("tensorrt_rtx 1.") and key.driver == "" and key.batch == (1, 1, 8)
    assert not path.read_bytes().startswith(b"{"), "the plan is the library's own bytes, nothing in front"


def test_a_target_that_the_library_does_not_know_is_refused(sources: Sources, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX's wheels: x86-64 only")
    request = Request("fp32", plans=PlanOptions(("tensorrt-rtx",), targets=("sm12",)))
    with pytest.raises(UsageError, match="--target sm12: must be one of"):
        export_bundle(sources, tmp_path / "x.madclip", request, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="--format openvino"):
        PlanOptions(("openvino",))
    with pytest.raises(UsageError, match="--max-batch 0"):
        PlanOptions(most=0)


def test_what_is_missing_is_said_in_a_sentence(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, modules, words in (
        ("tensorrt", ["tensorrt"], "builds plans only on the GPU they are for"),
        ("tensorrt-rtx", ["tensorrt_rtx", "tensorrt_rtx_bindings"], r"madclip-export\[rtx\]"),
    ):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(EngineRefused, match=words):
            build_plans(tiny_bundle, PlanOptions((kind,)), lambda _: None)


def _end(name: str, kind: str, *shape: int) -> SimpleNamespace:
    return SimpleNamespace(name=name, shape=(-1, *shape), dtype=SimpleNamespace(name=kind))


GOOD = [_end("image", "UINT8", 32, 32, 3), _end("score", "FLOAT"), _end("map", "FLOAT", 32, 32)]


class _Config:
    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any) -> Any:
            self.asked.setdefault(name, []).append(given)
            return SimpleNamespace(serialize=lambda: b"timings") if "timing_cache" in name else True

        return call

    progress_monitor: Any = None


def _tensorrt(version: str, ends: list[SimpleNamespace], *, plan: bytes | None = b"plan", gpu: bool = True) -> Any:
    """As much of TensorRT's Python face as building asks for; `asked` keeps the calls."""
    asked: dict[str, Any] = {}
    network = SimpleNamespace(
        num_inputs=1, num_outputs=len(ends) - 1, get_input=lambda i: ends[i], get_output=lambda i: ends[i + 1]
    )
    builder = SimpleNamespace(
        create_network=lambda flags: asked.update(network=flags) or network,
        create_builder_config=lambda: _Config(asked),
        create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *s: asked.update(shapes=s)),
        build_serialized_network=lambda *_: plan,
    )

    def make_builder(logger: Any) -> Any:
        if not gpu:
            logger.log("ERROR", "CUDA initialization failure with error: 35")
            return None
        return builder

    parser = SimpleNamespace(parse_from_file=lambda path: asked.update(path=path) or True)
    library = ModuleType("tensorrt")
    flags = {"TF32": "TF32"} | ({} if version.startswith("11") else {"FP16": "FP16", "INT8": "INT8"})
    vars(library).update(
        __version__=version,
        asked=asked,
        ILogger=type("ILogger", (), {"ERROR": "ERROR", "INTERNAL_ERROR": "INTERNAL_ERROR"}),
        Builder=make_builder,
        OnnxParser=lambda *_: parser,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        BuilderFlag=SimpleNamespace(**flags),
        MemoryPoolType=SimpleNamespace(WORKSPACE="WORKSPACE"),
    )
    return library


@pytest.mark.parametrize(
    ("version", "network", "flags"), [("10.3.0", 0, ["FP16"]), ("10.12.0", 2, []), ("11.0.1", 2, [])]
)
def test_tensorrt_is_asked_by_flags_before_10_12_and_by_types_from_then_on(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, version: str, network: int, flags: list[str]
) -> None:
    library = _tensorrt(version, GOOD)
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    monkeypatch.setattr("madclip_runtime.machine._ask", lambda *_: "Some GPU, 570.1, 8192 MiB\n")
    parsed = json.loads((tiny_bundle / "manifest.json").read_text())
    (tiny_bundle / "manifest.json").write_text(json.dumps({**parsed, "precision": "fp16"}))
    timings = tiny_bundle.parent / "timings"
    options = PlanOptions(("tensorrt",), timing_cache=timings, workspace_mb=256)
    build_plans(tiny_bundle, options, lambda _: None)
    assert library.asked["network"] == network
    assert [flag for (flag,) in library.asked.get("set_flag", [])] == flags
    assert library.asked["clear_flag"] == [("TF32",)]
    assert library.asked["shapes"] == ("image", *((n, 32, 32, 3) for n in (1, 1, 8)))
    assert library.asked["set_memory_pool_limit"] == [("WORKSPACE", 256 * 2**20)]
    assert timings.read_bytes() == b"timings"
    assert (tiny_bundle / "engines/tensorrt.plan").read_bytes() == b"plan"
    key = json.loads((tiny_bundle / "engines/tensorrt.json").read_text())
    assert key["targets"] == ["Some GPU, 570.1, 8192 MiB"] and key["library"] == f"tensorrt {version}"


def test_tensorrt_without_a_gpu_says_so(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", _tensorrt("10.12.0", GOOD, gpu=False))
    with pytest.raises(EngineRefused, match="needs an NVIDIA driver and GPU: CUDA initialization failure"):
        build_plans(tiny_bundle, PlanOptions(("tensorrt",)), lambda _: None)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_parsed_network_with_another_face_is_refused(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    ends = list(GOOD)
    ends[broken] = _end(ends[broken].name, "HALF", 7)
    monkeypatch.setitem(sys.modules, "tensorrt", _tensorrt("10.12.0", ends))
    with pytest.raises(BundleRefused, match="the parsed network's ends are"):
        build_plans(tiny_bundle, PlanOptions(("tensorrt",)), lambda _: None)


def test_dynamic_int8_is_not_for_these_libraries(tiny_bundle: Path) -> None:
    parsed = json.loads((tiny_bundle / "manifest.json").read_text())
    changed = {**parsed, "precision": "int8", "quantisation": "dynamic"}
    (tiny_bundle / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(UsageError, match="add --calibration DIR"):
        build_plans(tiny_bundle, PlanOptions(("tensorrt-rtx",)), lambda _: None)
