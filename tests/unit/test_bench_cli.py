"""`madclip-bench run` from its arguments to its exit code, on a bundle of known answers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from madclip_bench import images as images_module
from madclip_bench.cli import main
from madclip_bench.report import Report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five small readable images."""
    made = tmp_path / "scans"
    made.mkdir()
    for seed in range(5):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(made / f"{seed}.png")
    return made


def _run(*arguments: str | Path) -> int:
    return main(["run", "--quick", *map(str, arguments)])


def test_a_quick_run_leaves_a_report_and_its_summary_as_the_last_line(
    tiny_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert _run("--bundle", tiny_bundle, "--images", folder, "--json", out) == 0
    stdout, stderr = capsys.readouterr()
    report, last = Report.from_json(out.read_bytes()), json.loads(stdout.splitlines()[-1])
    assert last == report.summary() and "samples" not in last
    assert report.samples is not None and len(report.samples.latency_ms) == report.figures.latency.queries >= 64
    assert stderr == ""  # no progress where there is no terminal
    assert stdout.startswith("p90 ")
    assert "NOT FOR PROCUREMENT: quick run, few images" in stdout
    assert last["marks"][0] == "not for procurement"
    assert last["setting"]["engine"]["name"] == "onnxruntime-cpu"
    assert last["setting"]["bundle"]["encoder"]["random"] is True
    assert str(tmp_path) not in out.read_text()


def test_without_images_the_queries_are_synthetic_and_say_so(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "_SIDE", 48)
    monkeypatch.setenv("MADCLIP_BUNDLE", str(tiny_bundle))
    assert _run("--json", tmp_path / "out.json", "--seed", "7") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "synthetic images" in last["marks"]
    assert (last["setting"]["images"]["used"], last["setting"]["rules"]["seed"]) == (64, 7)


def test_an_unreadable_image_is_named_and_the_others_are_timed(
    tiny_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:50])
    assert _run("--bundle", tiny_bundle, "--images", folder, "--json", tmp_path / "out.json") == 3
    stdout, stderr = capsys.readouterr()
    assert stderr.startswith("madclip-bench: refused torn.png: ") and stderr.count("\n") == 1
    assert json.loads(stdout.splitlines()[-1])["setting"]["images"]["refused"][0]["file"] == "torn.png"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--bundle", "absent.madclip"], 4, "no such folder"),
        (["--bundle", "{bundle}", "--images", "absent"], 3, "no such folder"),
        (["--bundle", "{bundle}", "--images", "{empty}"], 3, "no image in this folder"),
        (["--bundle", "{bundle}", "--engine", "abacus"], 2, "no such engine"),
        (["--bundle", "{bundle}", "--seed", "-1"], 2, "not negative"),
        (["--bundle", "{bundle}", "--json", "absent/out.json"], 7, "folder is missing"),
        (["--bundle", "{bundle}", "--json", "{empty}"], 7, "a folder of that name"),
        ([], 2, "no bundle"),
    ],
)
def test_refusals_are_one_line_and_a_code(
    arguments: list[str],
    code: int,
    says: str,
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.delenv("MADCLIP_BUNDLE", raising=False)
    filled = [argument.format(bundle=tiny_bundle, empty=empty) for argument in arguments]
    assert _run("--json", "out.json", *filled) == code
    stdout, stderr = capsys.readouterr()
    assert (stdout, stderr.count("\n")) == ("", 1)
    assert stderr.startswith("madclip-bench: ") and says in stderr
    assert list(empty.iterdir()) == []


def test_a_damaged_bundle_is_refused(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_bundle / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert _run("--bundle", tiny_bundle, "--json", tmp_path / "out.json") == 4
    assert "SHA-256" in capsys.readouterr().err


def test_an_interrupted_run_leaves_no_report(
    tiny_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("madclip_bench.bench.measure", interrupt)
    assert _run("--bundle", tiny_bundle, "--images", folder, "--json", tmp_path / "out.json") == 130
    assert not (tmp_path / "out.json").exists()
    assert "no report" in capsys.readouterr().err


def test_an_internal_fault_is_one_line(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("madclip_bench.bench.time_bundle", fail)
    assert _run("--bundle", tiny_bundle, "--json", tmp_path / "out.json") == 6
    assert capsys.readouterr().err == "madclip-bench: internal fault, please report it: RuntimeError: a fault\n"


def test_a_terminal_sees_progress_and_it_ends_with_a_line(
    tiny_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert _run("--bundle", tiny_bundle, "--images", folder, "--json", tmp_path / "out.json") == 0
    stderr = capsys.readouterr().err
    assert stderr.startswith("\rmadclip-bench: 0 queries, 0 of 30 s") and stderr.endswith("\n")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom madclip_bench.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'numpy', 'PIL', 'onnxruntime', 'madclip_runtime.detector'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "madclip_bench", "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--json" in done.stderr and "Traceback" not in done.stderr
