"""`madclip-run --demo`: the built-in bundle answers, says what it is in every result, and is never taken unasked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from image_files import saved

from madclip_runtime import demonstration
from madclip_runtime.bundle import Bundle, find_bundle
from madclip_runtime.cli import main
from madclip_runtime.demonstration import DEMONSTRATION, demonstration_bundle
from madclip_runtime.errors import BundleRefused, UsageError

FOLDER = Path(demonstration.__file__).parent / "demonstration"
present = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no demonstration bundle (make demo-bundle): madclip-run --demo was NOT tried"
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MADCLIP_BUNDLE", raising=False)
    monkeypatch.setenv("MADCLIP_CACHE", str(tmp_path / "cache"))
    Path("image.png").write_bytes(saved(np.full((60, 80), 90, np.uint8), "PNG"))


@present
def test_every_result_says_that_it_is_a_demonstration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--demo", "--json", "--gallery", "g.html", "image.png"]) == 0
    stdout, stderr = capsys.readouterr()
    (line,) = map(json.loads, stdout.splitlines())
    assert DEMONSTRATION in line["notices"] and f"madclip-run: {DEMONSTRATION}" in stderr.splitlines()
    assert 0 <= line["score"] <= 1 and line["decision"] in ("normal", "abnormal", "borderline")
    assert Path(line["overlay"]).is_file() and DEMONSTRATION in Path("g.html").read_text()


@present
def test_the_bundle_is_whole_synthetic_and_has_passed_its_gates() -> None:
    bundle = Bundle.load(FOLDER)
    manifest = bundle.manifest
    assert manifest.notices[1:3] == ("trained on synthetic phantoms", DEMONSTRATION)
    assert not manifest.degraded and manifest.gates and all(gate.passed for gate in manifest.gates)
    assert manifest.encoder.name == "nano" and not manifest.encoder.random
    assert all(head.data.synthetic and head.calibration.points for head in manifest.heads.values())


@present
def test_it_never_takes_part_in_choosing_a_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (FOLDER, FOLDER.parent):
        monkeypatch.chdir(folder)
        with pytest.raises(UsageError, match="no bundle"):
            find_bundle(None)


def test_a_bundle_without_the_mark_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(BundleRefused, match="demonstration only"):
        demonstration_bundle(tiny_bundle)


@pytest.mark.parametrize("other", [["--bundle", "x.madclip"], ["--doctor"]])
def test_it_goes_with_no_other_bundle(other: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    images = [] if other == ["--doctor"] else ["image.png"]
    with pytest.raises(SystemExit) as left:
        main(["--demo", *other, *images])
    assert left.value.code == 2 and "--demo" in capsys.readouterr().err


def test_without_a_bundle_the_refusal_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="make demo-bundle"):
        demonstration_bundle(tmp_path / "demonstration")
