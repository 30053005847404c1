"""What leaves export computes what the checkpoint computes, through the runtime's own engine, or nothing leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from madclip.checkpoint import Checkpoint
from madclip_export import export as export_module
from madclip_export.export import Exported, export_bundle, load_sources
from madclip_export.gates import ParityMissed
from madclip_export.graph import FusedDetector, HeadSource
from madclip_export.head_graphs import write_head_graphs
from madclip_export.limits import NUMERIC as LIMITS
from madclip_export.onnx_file import write_onnx
from madclip_export.parity import measure_parity
from madclip_export.request import Request
from madclip_runtime import Bundle, Detector
from madclip_runtime.engines import load_engine
from madclip_runtime.errors import OutputNotWritten, UsageError
from madclip_runtime.manifest import IMAGE_SCORE_RULES


def _export(checkpoint: Checkpoint, out: Path, precision: str = "fp32", golden: tuple[Path, ...] = ()) -> Exported:
    return export_bundle(
        load_sources({"brain": checkpoint}, None), out, Request(precision, golden=golden), lambda _: None
    )


@pytest.fixture(scope="module")
def bundles(mini_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    checkpoint = Checkpoint.load(mini_checkpoint)
    return {p: _export(checkpoint, folder / f"x-{p}.madclip", p).out for p in ("fp32", "fp16")}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_scores_of_unseen_images_equal_pytorchs(
    bundles: dict[str, Path], mini_checkpoint: Path, precision: str, tmp_path: Path
) -> None:
    model = Checkpoint.load(mini_checkpoint).model()
    detector = Detector.load(bundles[precision])
    images = np.random.default_rng(8).integers(0, 256, (4, 240, 240, 3), dtype=np.uint8)
    images[0, 60:120, 60:160] = 255
    reference = model.reference(images)
    limits = LIMITS[precision]
    for image, det, heat in zip(images, reference.map_max, reference.maps, strict=True):
        path = tmp_path / "i.png"
        Image.fromarray(image).save(path)
        result = detector(path)
        assert abs(result.score - det) <= limits["score"]
        difference = np.abs(result.model_map - heat)
        assert difference.max() <= limits["map_max"] and difference.mean() <= limits["map_mean"]


def test_half_precision_is_half_the_size_and_really_half(bundles: dict[str, Path]) -> None:
    sizes = {p: (path / "model.onnx.data").stat().st_size for p, path in bundles.items()}
    assert sizes["fp16"] < 0.55 * sizes["fp32"]
    graph = onnx.load(bundles["fp16"] / "model.onnx", load_external_data=False).graph
    kinds = {t.data_type for t in graph.initializer if int(np.prod(t.dims)) > 500}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_the_det_rule_is_exported_and_its_heads_only_then(
    det_checkpoint: Checkpoint, bundles: dict[str, Path], tmp_path: Path
) -> None:
    done = _export(det_checkpoint, tmp_path / "det.madclip")
    images = np.random.default_rng(9).integers(0, 256, (3, 240, 240, 3), dtype=np.uint8)
    scores, maps = load_engine(Bundle.load(done.out)).run(images)["brain"]
    reference = det_checkpoint.model().reference(images)
    assert np.abs(scores - reference.det).max() <= LIMITS["fp32"]["score"]
    assert np.abs(scores - maps.max(axis=(1, 2))).max() > 1e-4, "not the map's maximum"
    with_det = (done.out / "model.onnx.data").stat().st_size
    assert with_det > (bundles["fp32"] / "model.onnx.data").stat().st_size


def test_the_manifest_says_what_was_measured(bundles: dict[str, Path], mini_checkpoint: Path) -> None:
    bundle = Bundle.load(bundles["fp16"])
    manifest = bundle.manifest
    gate, stages = manifest.gates
    assert stages.name == "stages" and stages.passed and 0 < stages.measured["worst"] <= stages.limits["worst"]
    assert gate.passed and gate.images == 8 and gate.limits == LIMITS["fp16"]
    assert 0 < gate.measured["map_max"] <= gate.limits["map_max"]
    again = measure_parity(load_engine(bundle), {"brain": bundle.golden()}, "fp16")["brain"].measured
    assert again == pytest.approx(gate.measured, abs=1e-6), "anyone can measure it again"
    head = manifest.heads["brain"]
    assert head.score_error == gate.measured["score"] and gate.head == "brain"
    assert head.checkpoint_sha256 == Checkpoint.load(mini_checkpoint).sha256
    assert manifest.encoder.random and any("random weights" in notice for notice in manifest.notices)
    assert head.data.synthetic and any("synthetic" in notice for notice in manifest.notices)
    assert head.calibration.default == "youden"


def test_no_path_of_the_machine_travels(bundles: dict[str, Path], mini_config: Path) -> None:
    for path in bundles.values():
        for file in path.rglob("*"):
            if file.is_file() and file.suffix != ".npy":
                content = file.read_bytes()
                for word in (
                    str(Path.home()).encode() + b"/",
                    b"site-packages",
                    str(mini_config.parent).encode(),
                    b".py",
                ):
                    assert word not in content, f"{file.name} holds {word!r}"


def test_the_graph_carries_its_contract(bundles: dict[str, Path]) -> None:
    model = onnx.load(bundles["fp32"] / "model.onnx", load_external_data=False)
    props = {p.key: p.value for p in model.metadata_props}
    assert props["madclip.precision"] == "fp32" and "not a medical device" in props["madclip.notice"]
    assert model.ir_version == 9 and model.opset_import[0].version == 18
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param == "N" and not batch.HasField("dim_value")
    assert not any("text" in t.name for t in model.graph.initializer), "the text tower is gone"
    kinds = {node.op_type for node in model.graph.node}
    assert "LayerNormalization" in kinds, "one node, not decomposed"


def test_the_same_checkpoint_gives_the_same_bytes(
    mini_checkpoint: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    again = _export(Checkpoint.load(mini_checkpoint), tmp_path / "again.madclip").out
    for file in sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file()):
        assert (again / file).read_bytes() == (bundles["fp32"] / file).read_bytes(), str(file)


def _flip_weight(module: FusedDetector) -> None:
    module.heads[0].levels[2].shared[3, 4] += 3.0  # type: ignore[index,operator]


def _flip_weight_in_the_tower(module: FusedDetector) -> None:
    module.tower.blocks[2].widen.weight[5, 7] *= -1000  # type: ignore[union-attr,index,operator]


def _change_epsilon(module: FusedDetector) -> None:
    """In the tower. In an adapter it would change nothing: no bias follows, and the L2 norm takes any scale out."""
    module.tower.blocks[1].ln_1.eps = 1e-3  # type: ignore[union-attr,index]


def _swap_adapters(module: FusedDetector) -> None:
    level = module.heads[0].levels[1]
    level.heads_normal, level.heads_abnormal = level.heads_abnormal, level.heads_normal


def _forget_normalisation(module: FusedDetector) -> None:
    module.scale.fill_(1 / 255)
    module.shift.zero_()


def _make_nan(module: FusedDetector) -> None:
    module.heads[0].levels[0].to_normal[0] = float("nan")  # type: ignore[index]


SABOTAGE = [
    (_flip_weight, r"brain\.level\.3"),
    (_flip_weight_in_the_tower, r"block\.03\.mlp"),
    (_change_epsilon, r"block\.02\.ln_1"),
    (_swap_adapters, r"brain\.level\.2"),
    (_forget_normalisation, "pixels"),
]


@pytest.mark.parametrize(("sabotage", "stage"), SABOTAGE)
def test_a_sabotaged_graph_is_refused_with_its_stage_and_nothing_is_left(
    sabotage: Callable[[FusedDetector], None],
    stage: str,
    mini_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Sabotaged(FusedDetector):
        def __init__(self, heads: Mapping[str, HeadSource], *, half: bool) -> None:
            super().__init__(heads, half=half)
            sabotage(self)

    monkeypatch.setattr(export_module, "FusedDetector", Sabotaged)
    with pytest.raises(ParityMissed, match=rf"first departs from the checkpoint at {stage}.*on golden image \d"):
        _export(Checkpoint.load(mini_checkpoint), tmp_path / "x.madclip")
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_that_is_not_what_was_traced_is_refused(
    mini_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One float of the weights file, changed after everything was written."""

    def write_and_spoil(module: FusedDetector, folder: Path, **rest: Any) -> None:
        write_onnx(module, folder, **rest)
        graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
        (place,) = [t.external_data for t in graph.initializer if "blocks.3.narrow.weight" in t.name]
        offset = int(next(entry.value for entry in place if entry.key == "offset"))
        with (folder / "model.onnx.data").open("r+b") as file:
            file.seek(offset)
            file.write(np.float32(9.0).tobytes())

    monkeypatch.setattr(export_module, "write_onnx", write_and_spoil)
    with pytest.raises(ParityMissed, match=r"block\.04\.mlp"):
        _export(Checkpoint.load(mini_checkpoint), tmp_path / "x.madclip")


def test_a_miss_is_accepted_only_in_words_that_stay_in_the_bundle(
    mini_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "fp32", dict.fromkeys(LIMITS["fp32"], 0.0))
    request = Request("fp32", degraded="a test of words", notices=("and one of its own",))
    sources = load_sources({"brain": Checkpoint.load(mini_checkpoint)}, None)
    done = export_bundle(sources, tmp_path / "x.madclip", request, lambda _: None)
    manifest = Bundle.load(done.out).manifest
    assert "a test of words" in manifest.degraded and not manifest.gates[0].passed
    result = Detector.load(done.out)(np.zeros((50, 50), np.uint8))
    assert any(notice.startswith("degraded: ") and "a test of words" in notice for notice in result.notices)
    assert "and one of its own" in result.notices


def test_nan_is_refused(mini_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poisoned(FusedDetector):
        def __init__(self, heads: Mapping[str, HeadSource], *, half: bool) -> None:
            super().__init__(heads, half=half)
            _make_nan(self)

    monkeypatch.setattr(export_module, "FusedDetector", Poisoned)
    from madclip_runtime.errors import EngineRefused

    with pytest.raises(EngineRefused, match="nan"):
        _export(Checkpoint.load(mini_checkpoint), tmp_path / "x.madclip")
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_survives_a_failed_export_and_is_replaced_by_a_good_one(
    mini_checkpoint: Path, det_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.madclip"
    first = _export(Checkpoint.load(mini_checkpoint), out).manifest.model_id
    with monkeypatch.context() as patch:
        patch.setitem(LIMITS, "fp32", dict.fromkeys(LIMITS["fp32"], 0.0))
        with pytest.raises(ParityMissed):
            _export(det_checkpoint, out)
    assert Bundle.load(out).manifest.model_id == first
    second = _export(det_checkpoint, out).manifest.model_id
    assert Bundle.load(out).manifest.model_id == second != first
    assert [p.name for p in tmp_path.iterdir()] == ["x.madclip"]


def test_a_folder_that_is_no_bundle_is_never_replaced(mini_checkpoint: Path, tmp_path: Path) -> None:
    precious = tmp_path / "results.madclip"
    precious.mkdir()
    (precious / "notes.txt").write_text("keep me")
    with pytest.raises(OutputNotWritten, match="not a bundle"):
        _export(Checkpoint.load(mini_checkpoint), precious)
    assert (precious / "notes.txt").read_text() == "keep me"


def test_named_images_travel_and_only_those(mini_checkpoint: Path, tmp_path: Path) -> None:
    image = tmp_path / "patient.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (240, 240, 3), dtype=np.uint8)).save(image)
    golden = Bundle.load(
        _export(Checkpoint.load(mini_checkpoint), tmp_path / "x.madclip", golden=(image,)).out
    ).golden()
    assert len(golden.images) == 9
    assert np.array_equal(golden.images[8], np.array(Image.open(image)))


def test_limits_hold_in_the_manifest_json(bundles: dict[str, Path]) -> None:
    parsed = json.loads((bundles["fp32"] / "manifest.json").read_text())
    assert parsed["gates"][0]["limits"] == LIMITS["fp32"]


def test_fused_module_equals_the_reference_in_torch(mini_checkpoint: Path, draw: torch.Generator) -> None:
    """Before any file is written: the two forms agree to rounding, in every image-score rule, smoothed or not."""
    checkpoint = Checkpoint.load(mini_checkpoint)
    images = torch.randint(0, 256, (3, 240, 240, 3), generator=draw, dtype=torch.uint8)
    for smoothing in (0.0, 0.7, 4.0):
        model = replace(checkpoint.model(), smoothing_px=smoothing)
        reference = model.reference(images.numpy())
        for rule in IMAGE_SCORE_RULES:
            with torch.no_grad():
                score, heat = FusedDetector({"brain": HeadSource(model, rule, 0.3)}, half=False)(images)
            assert np.abs(score.numpy() - reference.image_scores(rule, 0.3)).max() < 2e-6
            assert np.abs(heat.numpy() - reference.maps).max() < 2e-6


def test_several_heads_share_one_tower_and_each_is_its_checkpoints(
    mini_checkpoint: Path, det_checkpoint: Checkpoint, bundles: dict[str, Path], tmp_path: Path
) -> None:
    heads = {"brain": Checkpoint.load(mini_checkpoint), "chest": det_checkpoint}
    out = tmp_path / "hospital.madclip"
    done = export_bundle(load_sources(heads, None), out, Request("fp32"), lambda _: None)
    bundle = Bundle.load(done.out)
    assert (
        set(bundle.manifest.heads) == {"brain", "chest"} == {gate.head for gate in bundle.manifest.gates if gate.head}
    )
    images = np.random.default_rng(3).integers(0, 256, (2, 240, 240, 3), dtype=np.uint8)
    engine = load_engine(bundle)
    together = engine.run(images)
    for name, checkpoint in heads.items():
        reference = checkpoint.model().reference(images)
        alone = engine.run(images, [name])
        assert list(alone) == [name] and np.array_equal(alone[name].maps, together[name].maps)
        assert np.abs(alone[name].scores - reference.image_scores(checkpoint.card.image_score)).max() < 1e-5
        own = load_engine(bundle.only(name)).run(images)  # by a graph that holds nothing of the other
        assert list(own) == [name] and np.abs(own[name].maps - together[name].maps).max() < 1e-6
        nodes = onnx.load(out / f"model.{name}.onnx", load_external_data=False).graph.node
        others = f"stage.{'brain' if name == 'chest' else 'chest'}."
        assert not any(value.startswith(others) for node in nodes for value in node.output)
        assert np.array_equal(bundle.only(name).golden(name).maps, bundle.golden(name).maps)
    single = (bundles["fp32"] / "model.onnx.data").stat().st_size
    assert (out / "model.onnx.data").stat().st_size < 1.6 * single, "one tower, not two"
    with pytest.raises(UsageError, match=r"--head brain \| chest"):
        Detector.load(out)
    detector = Detector.load(out, head="chest")
    assert detector(images[0]).head == "chest" and list(detector.engine.run(images)) == ["chest"]


def test_a_heads_own_graph_is_compared_too(
    mini_checkpoint: Path, det_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both graphs are right, and stand under each other's name."""

    def exchanged(folder: Path, outputs: Mapping[str, tuple[str, str]]) -> None:
        write_head_graphs(folder, outputs)
        one, other = (folder / f"model.{name}.onnx" for name in outputs)
        first = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(first)

    monkeypatch.setattr(export_module, "write_head_graphs", exchanged)
    heads = {"brain": Checkpoint.load(mini_checkpoint), "chest": det_checkpoint}
    with pytest.raises(ParityMissed, match="numeric parity"):
        export_bundle(load_sources(heads, None), tmp_path / "x.madclip", Request("fp32"), lambda _: None)
    assert not list(tmp_path.iterdir())


def test_onnx_runtime_knows_the_blocks_gelu_again(bundles: dict[str, Path], tmp_path: Path) -> None:
    """In another order of factors it runs five nodes in place of one."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(bundles["fp32"] / "model.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx", load_external_data=False).graph.node]
    assert sum("Gelu" in kind for kind in kinds) == 4 and "Erf" not in kinds


def test_heads_on_different_encoders_are_refused(
    mini_checkpoint: Path, det_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    spec = replace(det_checkpoint.card.encoder, mean=(0.5, 0.5, 0.5))
    other = replace(det_checkpoint, card=replace(det_checkpoint.card, encoder=spec))
    heads = {"brain": Checkpoint.load(mini_checkpoint), "chest": other}
    with pytest.raises(UsageError, match="head chest"):
        load_sources(heads, None)
    assert not list(tmp_path.iterdir())
