"""int8 in both forms, precision auto, images given for verification, and bytes that are the same each time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from madclip.checkpoint import Checkpoint
from madclip.data import Dataset
from madclip_export import auto, calibration, verify
from madclip_export.auto import Timed, choose, export_fastest
from madclip_export.export import Exported, Sources, export_bundle, load_sources
from madclip_export.gates import ParityMissed
from madclip_export.limits import NUMERIC, VERIFIED
from madclip_export.request import Request
from madclip_runtime import Bundle, Detector
from madclip_runtime.engines import load_engine
from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import read_image
from madclip_runtime.preprocess import to_model_input


@pytest.fixture(scope="module")
def sources(mini_checkpoint: Path) -> Sources:
    return load_sources({"brain": Checkpoint.load(mini_checkpoint)}, None)


@pytest.fixture(scope="module")
def int8(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    out = tmp_path_factory.mktemp("int8") / "x.madclip"
    return export_bundle(sources, out, Request("int8"), lambda _: None)


def _kinds(bundle: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(bundle / "model.onnx", load_external_data=False).graph.node)


def test_int8_multiplies_in_eight_bits_and_keeps_the_last_steps_in_float(int8: Exported) -> None:
    kinds = _kinds(int8.out)
    assert kinds["MatMulInteger"] >= 12 and kinds["DynamicQuantizeLinear"] > 8
    assert kinds["MultiHeadAttention"] == 4 and not kinds["Softmax"], "one node a block"
    graph = onnx.load(int8.out / "model.onnx", load_external_data=False).graph
    directions = {t.name for t in graph.initializer if ".to_" in t.name}
    assert {node.op_type for node in graph.node if set(node.input) & directions} == {"MatMul"}
    assert Bundle.load(int8.out).manifest.quantisation == "dynamic"
    names = {output for node in graph.node for output in node.output}
    assert "stage.block.03.mlp" in names, "stages keep their names, so that a gate can name one"


def test_every_file_of_a_bundle_can_be_read_by_the_user_of_the_box(int8: Exported) -> None:
    """The quantiser wrote the weights for its own user alone."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in int8.out.rglob("*")}
    assert modes.pop("golden") == 0o755 and set(modes.values()) == {0o644}


def test_int8_answers_alone_and_in_a_batch_are_the_same_bits(int8: Exported) -> None:
    engine = load_engine(Bundle.load(int8.out))
    images = np.random.default_rng(4).integers(0, 256, (3, 240, 240, 3), dtype=np.uint8)
    images[1] //= 4
    together = engine.run(images)["brain"]
    for i in range(3):
        alone = engine.run(images[i : i + 1])["brain"]
        assert alone.scores[0] == together.scores[i] and np.array_equal(alone.maps[0], together.maps[i])


def test_static_int8_is_explicit_pairs_with_a_scale_a_column(
    sources: Sources, phantom_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "LEAST", 8)
    monkeypatch.setitem(NUMERIC, "int8", dict.fromkeys(NUMERIC["int8"], 1.0))
    request = Request("int8", calibration=phantom_data.root)
    out = export_bundle(sources, tmp_path / "x.madclip", request, lambda _: None).out
    kinds = _kinds(out)
    assert kinds["QuantizeLinear"] > 8 and kinds["DequantizeLinear"] > 16 and not kinds["MatMulInteger"]
    graph = onnx.load(out / "model.onnx").graph
    tables = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and tables.get(n.input[0]) is not None]
    assert weights and all(tables[n.input[1]].size == tables[n.input[0]].shape[1] for n in weights)
    assert all(not tables[n.input[2]].any() for n in weights if len(n.input) > 2), "symmetric: no zero point"
    assert Bundle.load(out).manifest.quantisation == "static, Q/DQ"


def test_ranges_never_come_from_a_test_split_or_from_a_handful(phantom_data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="a test split"):
        calibration.calibration_images(phantom_data.root / "test/good", 64)
    with pytest.raises(InputRefused, match="at least 32"):
        calibration.calibration_images(phantom_data.root, 64)


def test_the_same_checkpoint_gives_the_same_bytes(sources: Sources, int8: Exported, tmp_path: Path) -> None:
    again = export_bundle(sources, tmp_path / "x.madclip", Request("int8"), lambda _: None)
    assert "MODEL_CARD.md" in int8.manifest.files
    first = {path.relative_to(int8.out): path.read_bytes() for path in int8.out.rglob("*") if path.is_file()}
    second = {path.relative_to(again.out): path.read_bytes() for path in again.out.rglob("*") if path.is_file()}
    assert first == second


def test_the_model_card_says_what_it_must(int8: Exported) -> None:
    card = (int8.out / "MODEL_CARD.md").read_text()
    for words in (
        "research use, not a medical device",
        "synthetic phantoms",
        "2 normal and 2 abnormal",
        "licence: not stated",
        "| youden (default) |",
        "What was not tested",
        "Real images: the comparison above used golden images only",
        "| block.02.attention |",
    ):
        assert words in card
    assert str(Path.home()) not in card


def test_given_images_are_judged_by_figures_and_every_changed_decision_is_named(
    sources: Sources, phantom_data: Dataset, int8: Exported
) -> None:
    checkpoint, model = sources.checkpoints["brain"], sources.models["brain"]
    engine = load_engine(Bundle.load(int8.out))
    found = verify.verify(engine, checkpoint, model, "brain", "int8", phantom_data.root)
    assert len(found.files) == len(phantom_data.test) and set(found.figures) == {"auroc", "pixel_auroc", "dice"}
    gate = found.gate()
    assert gate.limits["auroc_share"] == VERIFIED["int8"]["auroc_share"] and gate.measured["flips"] == len(found.flips)
    theirs, ours = found.figures["pixel_auroc"]
    assert gate.measured["pixel_auroc_share"] == pytest.approx(ours / theirs)
    assert len([line for line in found.lines() if "worst" in line]) == 3


def test_a_changed_decision_is_named_by_its_file(sources: Sources, phantom_data: Dataset, int8: Exported) -> None:
    """With the threshold put between the two scores of the image that int8 moved most."""
    checkpoint, model = sources.checkpoints["brain"], sources.models["brain"]
    engine = load_engine(Bundle.load(int8.out))
    plain = verify.verify(engine, checkpoint, model, "brain", "int8", phantom_data.root)
    worst = plain.files[int(np.argmax(plain.score))]
    image = to_model_input(read_image(worst).pixels, 240)[None]
    between = (float(model.reference(image).map_max[0]) + float(engine.run(image)["brain"].scores[0])) / 2
    calibration = checkpoint.card.calibration
    assert calibration.default is not None
    point = replace(calibration.points[calibration.default], threshold=between)
    moved = replace(calibration, points={calibration.default: point})
    changed = replace(checkpoint, card=replace(checkpoint.card, calibration=moved))
    found = verify.verify(engine, changed, model, "brain", "int8", phantom_data.root)
    assert worst in found.flips and any(str(worst) in line for line in found.lines())
    assert found.gate().measured["flips"] == len(found.flips) >= 1


def test_an_unlabelled_folder_gives_differences_and_no_figures(
    sources: Sources, phantom_data: Dataset, int8: Exported
) -> None:
    engine = load_engine(Bundle.load(int8.out))
    folder = phantom_data.root / "test/good/img"
    found = verify.verify(engine, sources.checkpoints["brain"], sources.models["brain"], "brain", "int8", folder)
    assert found.figures == {} and found.gate().measured["score"] > 0 and found.spearman is None
    with pytest.raises(InputRefused, match="no images"):
        verify.verify(engine, sources.checkpoints["brain"], sources.models["brain"], "brain", "int8", folder.parent)


def test_a_verification_that_misses_leaves_no_bundle(
    sources: Sources, phantom_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VERIFIED, "fp32", {**VERIFIED["fp32"], "auroc_share": 1.5})
    request = Request("fp32", verify={"brain": phantom_data.root})
    with pytest.raises(ParityMissed, match=r"verification data \(auroc_share beyond the limit"):
        export_bundle(sources, tmp_path / "x.madclip", request, lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({"fp32": 100, "fp16": 110, "int8": 40}, "int8"),
        ({"fp32": 100, "fp16": 99, "int8": 98.5}, "fp32"),
        ({"fp32": 100, "fp16": 60, "int8": 59.5}, "fp16"),
        ({"fp16": 60, "int8": 80}, "fp16"),
    ],
)
def test_auto_keeps_a_better_precision_unless_another_is_really_faster(times: dict[str, float], chosen: str) -> None:
    said: list[str] = []
    assert choose([Timed(name, ms) for name, ms in times.items()], said.append) == chosen
    assert said[-1] == f"chosen: {chosen}" and len(said) == len(times)


def test_auto_leaves_one_whole_bundle_of_the_chosen_precision(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "take_turns", lambda engines, *_: {name: 50.0 - len(name) for name in engines})
    monkeypatch.setitem(NUMERIC, "fp16", dict.fromkeys(NUMERIC["fp16"], 0.0))
    said: list[str] = []
    done = export_fastest(sources, tmp_path / "x.madclip", Request("auto"), said.append)
    assert any(line.startswith("fp16 does not pass: brain: numeric parity") for line in said)
    assert done.manifest.precision == "fp32" and Bundle.load(done.out).manifest == done.manifest
    names = {path.name for path in done.out.iterdir()}
    assert names == {"manifest.json", "model.onnx", "model.onnx.data", "golden", "MODEL_CARD.md"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.madclip"]
    assert Detector.load(done.out)(np.zeros((40, 40), np.uint8)).precision == "fp32"
