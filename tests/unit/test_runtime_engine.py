"""The engine: what it promises about its outputs, and what it refuses instead of guessing."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bundle_edits import replace_file
from image_files import noise

from madclip_runtime.bundle import MODEL, Bundle
from madclip_runtime.cache import Cache
from madclip_runtime.engines import Answer, check_outputs, load_engine
from madclip_runtime.errors import BundleRefused, EngineRefused, UsageError


def answers(count: int = 2, size: int = 4) -> Answer:
    return Answer(np.full(count, 0.5, np.float32), np.full((count, size, size), 0.5, np.float32))


def test_outputs_in_range_pass_with_a_hair_of_rounding() -> None:
    scores, maps = answers()
    scores[0], maps[1, 2, 3] = 1.0005, -0.0005
    check_outputs(Answer(scores, maps), 2, 4, "test")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1.01, -0.01, 255.0])
@pytest.mark.parametrize("where", ["score", "map"])
def test_an_impossible_number_anywhere_is_refused(where: str, value: float) -> None:
    scores, maps = answers()
    target = scores if where == "score" else maps
    target.flat[-1] = value
    with pytest.raises(EngineRefused, match="instead of 0–1"):
        check_outputs(Answer(scores, maps), 2, 4, "test")


@pytest.mark.parametrize(("count", "size"), [(3, 4), (1, 4), (2, 5)])
def test_another_shape_is_refused(count: int, size: int) -> None:
    with pytest.raises(EngineRefused, match="outputs of shape"):
        check_outputs(answers(count, size), 2, 4, "test")


def test_a_score_per_image_and_not_a_column() -> None:
    scores, maps = answers()
    with pytest.raises(EngineRefused):
        check_outputs(Answer(scores[:, None], maps), 2, 4, "test")


def test_what_runs_is_said(tiny_bundle: Path) -> None:
    import onnxruntime

    info = load_engine(Bundle.load(tiny_bundle)).info
    assert (info.name, info.device, info.precision) == ("onnxruntime-cpu", "CPU", "fp32")
    assert info.library == f"onnxruntime {onnxruntime.__version__}"


def test_an_unknown_engine_is_a_usage_error(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="choose from: auto, cpu, cuda"):
        load_engine(Bundle.load(tiny_bundle), "openvino")


def test_a_missing_library_names_the_pip_line(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineRefused) as caught:
        load_engine(Bundle.load(tiny_bundle))
    assert caught.value.do == 'pip install "madclip-runtime[cpu]"'


def test_a_batch_gives_what_singles_give(tiny_bundle: Path) -> None:
    engine = load_engine(Bundle.load(tiny_bundle))
    images = np.stack([noise(32, 32, seed=seed) for seed in range(7)])
    scores, maps = engine.run(images)["brightness"]
    for index in range(7):
        score, heat = engine.run(images[index : index + 1], ["brightness"])["brightness"]
        assert score[0] == scores[index]
        np.testing.assert_array_equal(heat[0], maps[index])


def test_two_hundred_repeats_give_one_answer_bit_for_bit(tiny_bundle: Path) -> None:
    engine = load_engine(Bundle.load(tiny_bundle))
    images = noise(32, 32)[None]
    answers = [b"".join(array.tobytes() for array in engine.run(images)["brightness"]) for _ in range(200)]
    assert len(set(answers)) == 1


def test_images_of_another_size_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(EngineRefused, match="onnxruntime-cpu"):
        load_engine(Bundle.load(tiny_bundle)).run(noise(16, 16)[None])


def _change_graph(bundle: Path, change: Callable[[Any], object]) -> Bundle:
    import onnx

    model = onnx.load(bundle / MODEL)
    change(model.graph)
    replace_file(bundle, MODEL, model.SerializeToString())
    return Bundle.load(bundle)


def _rename_output(graph: Any) -> None:
    graph.output[0].name = graph.node[3].output[0] = "probability"


def _rename_input(graph: Any) -> None:
    graph.input[0].name = graph.node[0].input[0] = "pixel_values"


def _drop_map(graph: Any) -> None:
    del graph.output[1]


def _float_input(graph: Any) -> None:
    graph.input[0].type.tensor_type.elem_type = 1


def _other_size(graph: Any) -> None:
    for value in (graph.input[0], graph.output[1]):
        for index in (1, 2):
            value.type.tensor_type.shape.dim[index].dim_value = 48


@pytest.mark.parametrize("change", [_rename_output, _rename_input, _drop_map, _float_input, _other_size])
def test_a_graph_with_another_face_is_refused(tiny_bundle: Path, change: Callable[[Any], object]) -> None:
    with pytest.raises(BundleRefused, match="its inputs and outputs are"):
        load_engine(_change_graph(tiny_bundle, change))


@pytest.mark.parametrize("data", [b"", b"not an ONNX file", bytes(5000)])
def test_what_is_no_graph_is_refused(tiny_bundle: Path, data: bytes) -> None:
    replace_file(tiny_bundle, MODEL, data)
    with pytest.raises(BundleRefused) as caught:
        load_engine(Bundle.load(tiny_bundle))
    assert caught.value.line().isprintable()


def test_a_graph_that_answers_outside_0_to_1_is_refused(tiny_bundle: Path) -> None:
    """The same graph dividing by 1 instead of 255: brightness in levels."""

    def divide_by_one(graph: Any) -> None:
        graph.initializer[0].raw_data = np.float32(1).tobytes()

    engine = load_engine(_change_graph(tiny_bundle, divide_by_one))
    engine.run(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(EngineRefused, match=r"to 9\.0 instead of 0–1"):
        engine.run(np.full((1, 32, 32, 3), 9, np.uint8))


def test_a_graph_that_answers_nan_is_refused(tiny_bundle: Path) -> None:
    def divide_by_zero(graph: Any) -> None:
        graph.initializer[0].raw_data = np.float32(0).tobytes()

    engine = load_engine(_change_graph(tiny_bundle, divide_by_zero))
    with pytest.raises(EngineRefused, match="instead of 0–1"):
        engine.run(np.zeros((1, 32, 32, 3), np.uint8))  # 0 / 0


def _fake_library(providers: list[str], run: Callable[..., object]) -> ModuleType:
    """An onnxruntime that lies: another provider became active, or running fails."""

    def end(name: str, kind: str, *shape: int) -> SimpleNamespace:
        return SimpleNamespace(name=name, type=f"tensor({kind})", shape=["N", *shape])

    session = SimpleNamespace(
        get_providers=lambda: providers,
        get_inputs=lambda: [end("image", "uint8", 32, 32, 3)],
        get_outputs=lambda: [end("score", "float"), end("map", "float", 32, 32)],
        run=run,
    )
    library = ModuleType("onnxruntime")
    vars(library).update(
        __version__="0.0-fake",
        SessionOptions=lambda: SimpleNamespace(intra_op_num_threads=0),
        RunOptions=SimpleNamespace,
        InferenceSession=lambda *_, **__: session,
    )
    return library


def test_another_provider_than_asked_for_is_refused(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _fake_library(["AzureExecutionProvider", "CPUExecutionProvider"], lambda *_: answers())
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    with pytest.raises(EngineRefused, match=r"activated .*Azure"):
        load_engine(Bundle.load(tiny_bundle))


def test_a_library_that_fails_or_lies_while_running_is_refused(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory\nsecond line")

    for run, word in ((fail, "out of memory"), (lambda *_: answers(1, 4), "outputs of shape")):
        monkeypatch.setitem(sys.modules, "onnxruntime", _fake_library(["CPUExecutionProvider"], run))
        with pytest.raises(EngineRefused, match=word) as caught:
            load_engine(Bundle.load(tiny_bundle)).run(np.zeros((1, 32, 32, 3), np.uint8))
        assert caught.value.line().isprintable()


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cache:
    """A cache that small graphs go into as well."""
    monkeypatch.setattr("madclip_runtime.engines.ort_cpu._WORTH_CACHING", 0)
    (tmp_path / "cache").mkdir()
    return Cache(tmp_path / "cache", 10**9)


def test_the_optimised_graph_answers_bit_for_bit_as_the_bundles_own(tiny_bundle: Path, cached: Cache) -> None:
    images = np.stack([noise(32, 32, seed=seed) for seed in range(3)])
    bundle, said = Bundle.load(tiny_bundle), []
    own = load_engine(bundle).run(images)["brightness"]
    for _ in range(3):  # built, then twice from the cache
        answer = load_engine(bundle, cache=cached, tell=said.append).run(images)["brightness"]
        assert answer.scores.tobytes() == own.scores.tobytes() and answer.maps.tobytes() == own.maps.tobytes()
    assert said == ["building ort-cpu for this machine, once: this model has not run here before"]
    (entry,) = cached.entries()
    assert (entry / "model.onnx").is_file()


def test_a_damaged_optimised_graph_is_built_again(tiny_bundle: Path, cached: Cache) -> None:
    bundle, said = Bundle.load(tiny_bundle), []
    load_engine(bundle, cache=cached)
    (entry,) = cached.entries()
    data = bytearray((entry / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (entry / "model.onnx").write_bytes(data)
    load_engine(bundle, cache=cached, tell=said.append)
    assert len(said) == 1 and "is damaged (model.onnx)" in said[0]


def test_an_optimised_graph_the_library_will_not_have_is_left_and_that_is_said(
    tiny_bundle: Path, cached: Cache
) -> None:
    import hashlib
    import json

    bundle, said = Bundle.load(tiny_bundle), []
    load_engine(bundle, cache=cached)
    (entry,) = cached.entries()
    (entry / "model.onnx").write_bytes(b"no graph")
    told = json.loads((entry / "entry.json").read_text())
    told["files"]["model.onnx"] = {"sha256": hashlib.sha256(b"no graph").hexdigest(), "bytes": 8}
    (entry / "entry.json").write_text(json.dumps(told))
    images = noise(32, 32)[None]
    answer = load_engine(bundle, cache=cached, tell=said.append).run(images)["brightness"]
    assert answer.scores[0] == load_engine(bundle).run(images)["brightness"].scores[0]
    assert len(said) == 1 and "does not load" in said[0] and "using the bundle's own" in said[0]


def test_an_engine_from_the_cache_does_not_hide_a_damaged_bundle(tiny_bundle: Path, cached: Cache) -> None:
    from madclip_runtime import Detector

    Detector.load(tiny_bundle, cache=cached)
    data = bytearray((tiny_bundle / MODEL).read_bytes())
    data[50] ^= 1
    (tiny_bundle / MODEL).write_bytes(data)
    with pytest.raises(BundleRefused, match="SHA-256"):
        Detector.load(tiny_bundle, cache=cached)
