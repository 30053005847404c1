"""Every line `madclip-run --json` prints is held against the published schema, and the schema can refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest
from bad_files import dicom_bytes, nifti_bytes
from bundle_edits import edit_manifest
from image_files import noise, oriented, saved

from madclip_runtime.cli import main
from madclip_runtime.result import RESULT_FORMAT


@pytest.fixture(scope="module")
def validator() -> Any:
    text = resources.files("madclip_runtime").joinpath("schemas/result-2.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def lines(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    def run(*options: str, bundle: Path = tiny_bundle) -> list[dict[str, Any]]:
        scans = tmp_path / "scans"
        scans.mkdir(exist_ok=True)
        (scans / "a.png").write_bytes(saved(noise(), "PNG"))
        (scans / "b.jpg").write_bytes(oriented(noise(), 6, "JPEG"))
        (scans / "c.png").write_bytes(b"cut")
        (scans / "d.dcm").write_bytes(dicom_bytes(WindowCenter=40, WindowWidth=80, PixelSpacing=[0.5, 0.5]))
        (scans / "e.nii").write_bytes(nifti_bytes())
        out = ["--out", str(tmp_path / "out"), "--no-cache"]
        assert main(["--bundle", str(bundle), "--json", str(scans), str(tmp_path / "none"), *out, *options]) == 3
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_real_lines_of_every_kind_are_valid(lines: Callable[..., list[dict[str, Any]]], validator: Any) -> None:
    kinds = [(), ("--map", "png", "--mask", "--slices", "3:5", "--window=-100,100"), ("--no-overlay",)]
    told = [line for options in kinds for line in lines(*options)]
    for line in told:
        validator.validate(line)
    assert {"refused" in line for line in told} == {True, False}
    assert any(line.get("spacing_mm") == [0.5, 0.5] and line["regions"][0]["area_mm2"] for line in told)
    assert any(line.get("orientation") == 6 for line in told)


def test_lines_without_threshold_or_with_several_heads_are_valid(
    tiny: ModuleType, tmp_path: Path, lines: Callable[..., list[dict[str, Any]]], validator: Any
) -> None:
    raw = tiny.write_tiny_bundle(tmp_path / "raw.madclip", threshold=None)
    for line in lines(bundle=raw):
        validator.validate(line)
    edit_manifest(raw, lambda manifest: manifest["heads"]["brightness"].update(image_score="det"))
    for line in lines("--threshold", "0.5", "--mask", bundle=raw):
        validator.validate(line)
        assert "refused" in line or (line["regions"] is None and line["mask_file"] is None)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "madclip-result/1"},
        {"decision": "sick"},
        {"score": 2},
        {"score": None},
        {"regions": [{"area_px": 0}]},
        {"bundle_digest": "abc"},
        {"notices": []},
        {"notices": ["all is well"]},
        {"orientation": 9},
        {"spacing_mm": [1]},
        {"refused": {"name": "InputRefused", "why": "x", "do": ""}},
    ],
)
def test_a_wrong_line_is_refused(
    change: dict[str, Any], lines: Callable[..., list[dict[str, Any]]], validator: Any
) -> None:
    good = lines("--slices", "0")[0]
    validator.validate(good)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**copy.deepcopy(good), **change})
    for key in good:
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({k: v for k, v in good.items() if k != key})


def test_the_schema_is_of_the_format_the_code_writes(validator: Any) -> None:
    assert validator.schema["$defs"]["result"]["properties"]["format"] == {"const": RESULT_FORMAT}


def test_maps_and_masks_are_what_they_say(
    lines: Callable[..., list[dict[str, Any]]], tiny_bundle: Path, tmp_path: Path
) -> None:
    from PIL import Image

    from madclip_runtime import Detector

    told = {Path(line["file"]).name: line for line in lines("--map", "png", "--mask") if "score" in line}
    for name in ("a.png", "b.jpg"):
        result = Detector.load(tiny_bundle)(tmp_path / "scans" / name)
        heat = np.asarray(Image.open(told[name]["map_file"]))
        assert heat.dtype == np.uint16
        np.testing.assert_allclose(heat / 65535, result.map, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(Image.open(told[name]["mask_file"])) == 255, result.mask)
    told = {Path(line["file"]).name: line for line in lines("--map", "npy", "--as-stored") if "score" in line}
    turned = np.load(told["b.jpg"]["map_file"])
    assert turned.dtype == np.float32 and turned.shape == (48, 64)  # as stored; upright it is 64 by 48
    np.testing.assert_array_equal(np.rot90(turned, -1), Detector.load(tiny_bundle)(tmp_path / "scans/b.jpg").map)


def test_a_table_has_a_row_a_line_and_no_formula(
    lines: Callable[..., list[dict[str, Any]]], tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import csv

    told = lines("--csv", str(tmp_path / "table.csv"))
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["file"] for row in rows] == [line["file"] for line in told]
    assert [bool(row["refused"]) for row in rows] == ["refused" in line for line in told]
    assert all(float(row["score"]) == line["score"] for row, line in zip(rows, told, strict=True) if "score" in line)
    monkeypatch.chdir(tmp_path)
    for name in ("=1+1.png", "@x.png", "+y.png"):
        Path(name).write_bytes(saved(noise(), "PNG"))
    assert main(["--bundle", str(tiny_bundle), "=1+1.png", "@x.png", "+y.png", "--no-cache", "--csv", "t.csv"]) == 0
    names = [row["file"] for row in csv.DictReader(Path("t.csv").read_text(encoding="utf-8").splitlines())]
    assert names == ["'=1+1.png", "'@x.png", "'+y.png"]
