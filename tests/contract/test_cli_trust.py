"""Self-test, doctor, many heads, and a machine without any network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bundle_edits import edit_manifest, npy, replace_file, two_heads
from image_files import noise, saved

from madclip_runtime.cli import main


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MADCLIP_BUNDLE", raising=False)
    monkeypatch.setenv("MADCLIP_CACHE", str(tmp_path / "cache"))


def gate(bundle: Path, score: float = 1e-4) -> None:
    entry = {
        **{"name": "numeric parity", "reference": "r", "engine": "e", "images": 4, "passed": True},
        **{"measured": {"score": 0.0}, "limits": {"score": score, "map_max": 1e-3, "map_mean": 1e-5, "batch": 1e-4}},
        "head": "brightness",
    }
    edit_manifest(bundle, lambda manifest: manifest.update(gates=[entry]))


def test_the_self_test_passes_on_an_honest_bundle(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate(tiny_bundle)
    assert main(["--selftest", "--bundle", str(tiny_bundle), "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["verdict"], line["images"], line["head"]) == ("ok", 4, "brightness")
    assert line["worst"] == {"score": 0, "map_max": 0, "map_mean": 0, "batch": 0}
    assert main(["--selftest", "--bundle", str(tiny_bundle)]) == 0
    assert "score 0.00e+00 (limit 1e-04)" in capsys.readouterr().out


def test_an_engine_that_computes_something_else_is_refused(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = np.load(tiny_bundle / "golden/score.npy")
    scores[1] += 0.01
    replace_file(tiny_bundle, "golden/score.npy", npy(scores))
    gate(tiny_bundle)
    assert main(["--selftest", "--bundle", str(tiny_bundle)]) == 5
    stdout, stderr = capsys.readouterr()
    assert "MISSED" in stdout and "beyond the gate's limit: brightness: score" in stderr


def test_without_a_gate_nothing_is_judged_and_that_is_said(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--selftest", "--bundle", str(tiny_bundle)]) == 0
    assert "no gate in the manifest, not judged" in capsys.readouterr().out


def test_the_doctor_looks_at_everything(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--doctor", "--bundle", str(tiny_bundle), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in told["checks"]]
    wanted = [
        "python",
        "onnxruntime",
        "providers",
        "cpu",
        "cpu features",
        "memory",
        "disk",
        "gpu",
        "power mode",
        "cache",
    ]
    assert told["format"] == "madclip-doctor/1" and set(names) >= {*wanted, "bundle"}
    assert {check["verdict"] for check in told["checks"]} <= {"ok", "note"}
    assert main(["--doctor", "--bundle", str(tiny_bundle)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(names)


def test_the_doctor_finds_a_damaged_bundle_and_a_missing_library(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_bundle / "model.onnx").write_bytes(b"x")
    assert main(["--doctor", "--bundle", str(tiny_bundle)]) == 4
    assert "bad  bundle" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["--doctor", "--bundle", str(tiny_bundle)]) == 5
    assert 'pip install "madclip-runtime[cpu]"' in capsys.readouterr().out


def test_all_heads_answer_from_one_pass(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_heads(tiny_bundle)
    Path("a.png").write_bytes(saved(noise(), "PNG"))
    assert main(["--bundle", str(tiny_bundle), "a.png"]) == 2
    assert "--head chest | brain, or --head all" in capsys.readouterr().err
    assert main(["--bundle", str(tiny_bundle), "a.png", "--head", "all", "--json", "--gallery", "g.html"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["head"] for line in told] == ["chest", "brain"]
    assert [line["overlay"] for line in told] == ["madclip-out/a.chest.overlay.png", "madclip-out/a.brain.overlay.png"]
    assert told[0]["score"] == told[1]["score"] and told[1]["regions"] is None and told[0]["regions"]
    assert main(["--selftest", "--bundle", str(tiny_bundle), "--head", "all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_one_pass_for_all_heads_and_one_more_for_another_window(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bad_files import dicom_bytes

    from madclip_runtime import Detector

    two_heads(tiny_bundle)
    asked: list[list[str]] = []
    detector = Detector.load(tiny_bundle, head="all")
    real = detector.engine.run
    monkeypatch.setattr(detector.engine, "run", lambda images, heads: asked.append(list(heads)) or real(images, heads))
    detector.each_head(noise())
    assert asked == [["chest", "brain"]]
    window = {"name": "brain", "low": 0.0, "high": 80.0}
    edit_manifest(tiny_bundle, lambda manifest: manifest["heads"]["brain"]["data"].update(window=window))
    asked.clear()
    detector = Detector.load(tiny_bundle, head="all")
    real = detector.engine.run
    monkeypatch.setattr(detector.engine, "run", lambda images, heads: asked.append(list(heads)) or real(images, heads))
    chest, brain = detector.each_head(dicom_bytes(WindowCenter=0, WindowWidth=4000))
    assert asked == [["chest"], ["brain"]] and chest.notes != brain.notes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "--list", "-"], "can't be the list and an image at once"),
        (["a.png", "--batch", "0"], "at least 1"),
        (["a.png", "--slices", "x"], "no range of slices"),
        (["a.png", "--window", "wide"], "is no window"),
        (["--list", "none.txt"], "name a file of paths"),
        (["--watch", "none"], "no such folder"),
        (["--watch", ".", "--csv", "t.csv"], "watching has none"),
        (["a.png", "--cache-limit", "-1"], "0 or more"),
    ],
)
def test_calls_that_mean_nothing(
    arguments: list[str], words: str, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--bundle", str(tiny_bundle)]) == 2
    assert words in capsys.readouterr().err


def without_network(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a namespace of its own, where not even a loopback interface is up."""
    return subprocess.run(
        ["unshare", "-n", sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_it_runs_where_there_is_no_network_at_all(tiny_bundle: Path) -> None:
    if shutil.which("unshare") is None or without_network("-c", "pass").returncode != 0:
        pytest.skip("unshare -n is not permitted here: running without a network was NOT tried")
    dial = "import socket; s = socket.socket(); s.settimeout(5); s.connect(('127.0.0.1', 9))"
    assert "Network is unreachable" in without_network("-c", dial).stderr  # the namespace is what it should be
    Path("a.png").write_bytes(saved(noise(), "PNG"))
    run = ["-m", "madclip_runtime.cli", "--bundle", str(tiny_bundle)]
    for options in (["a.png", "--json", "--gallery", "g.html", "--csv", "t.csv"], ["--selftest"], ["--doctor"]):
        done = without_network(*run, *options)
        assert done.returncode == 0, done.stderr
    assert Path("g.html").is_file() and Path("t.csv").is_file() and Path("madclip-out/a.overlay.png").is_file()
