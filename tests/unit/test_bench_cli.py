"""`madclip-bench run` from its arguments to its exit code, on a bundle of known answers."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from madclip_bench import images as images_module
from madclip_bench.cli import main
from madclip_bench.report import Report
from madclip_bench.rules import Limits, Rules


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five small readable images."""
    made = tmp_path / "scans"
    made.mkdir()
    for seed in range(5):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(made / f"{seed}.png")
    return made


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick rules in a fraction of their time: what is tested here is the command, not the measurement."""
    real: Callable[..., Rules] = Rules.fast

    def hasty(*arguments: object, **options: object) -> Rules:
        rules = real(*arguments, **options)
        stretch = Limits(0.05, 0.05, enough_queries=70)
        server = dataclasses.replace(rules.server, limits=Limits(0.05, 0.05), most_trials=1)
        scanner = dataclasses.replace(
            rules.scanner, period_s=0.05, deadline_s=0.05, least_s=0.05, least_exams_a_room=1, most_trials=1, slices=1
        )
        return dataclasses.replace(
            rules,
            single=stretch,
            multi=stretch,
            offline=stretch,
            server=server,
            scanner=scanner,
            sweep_s=0.01,
            idle_s=0.0,
        )

    monkeypatch.setattr(Rules, "fast", staticmethod(hasty))


def _run(*arguments: str | Path) -> int:
    return main(["run", "--quick", *map(str, arguments)])


def test_a_quick_run_leaves_a_report_and_its_summary_as_the_last_line(
    tiny_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert _run("--bundle", tiny_bundle, "--images", folder, "--json", out) == 0
    stdout, stderr = capsys.readouterr()
    report, last = Report.from_json(out.read_bytes()), json.loads(stdout.splitlines()[-1])
    assert last == report.summary() and "raw" not in last
    assert report.samples().trials.single.queries == report.figures.single.latency.queries > 0
    assert stderr == ""  # no progress where there is no terminal
    assert stdout.startswith("Not for procurement: a quick run")
    assert {"not for procurement", "quick run", "few images", "speed only"} <= set(last["marks"])
    assert last["setting"]["engine"]["name"] == "onnxruntime-cpu"
    assert last["figures"]["starts"]["kinds"][0]["kind"] == "first"
    assert str(tmp_path) not in out.read_text()
    assert [path.name for path in tmp_path.glob(".*")] == []  # deliveries are gone
    assert main(["verify", str(out), "--bundle", str(tiny_bundle)]) == 0


def test_all_pages_at_once_without_json(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {kind: tmp_path / f"out.{kind}" for kind in ("html", "markdown", "csv")}
    options = [text for kind, path in outputs.items() for text in (f"--{kind}", path)]
    assert _run("--bundle", tiny_bundle, "--scenarios", "single", *options) == 0
    out, err = capsys.readouterr()
    digest = json.loads(out.splitlines()[-1])["digest"]
    assert "without --json nobody can verify" in err
    assert digest in outputs["html"].read_text() and digest in outputs["markdown"].read_text()
    assert f"digest,{digest}" in outputs["csv"].read_text()


def test_scenarios_patterns_and_bounds_reach_the_rules(
    tiny_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--scenarios", "server,multi", "--bound-ms", "250", "--seed", "7", "--json", tmp_path / "o.json")
    assert _run("--bundle", tiny_bundle, "--images", folder, *options) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    rules = last["setting"]["rules"]
    assert (rules["scenarios"], rules["server"]["bound_ms"], rules["seed"]) == (["single", "multi", "server"], 250.0, 7)
    assert last["figures"]["offline"] is None and last["figures"]["scanner"] is None


def test_without_images_the_queries_are_synthetic_and_say_so(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "_SIDE", 48)
    monkeypatch.setenv("MADCLIP_BUNDLE", str(tiny_bundle))
    assert _run("--json", tmp_path / "out.json", "--scenarios", "single") == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "synthetic images" in last["marks"]
    assert last["setting"]["images"]["used"] == 64


def test_data_gives_images_and_accuracy(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label, high in (("good", 100), ("Ungood", 256)):
        (tmp_path / f"Toy_AD/test/{label}/img").mkdir(parents=True)
        for seed in range(6):
            pixels = np.random.default_rng([high, seed]).integers(0, high, (24, 24), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"Toy_AD/test/{label}/img/{seed}.png")
    options = ("--data", tmp_path / "Toy_AD", "--scenarios", "single", "--json", tmp_path / "o.json")
    assert _run("--bundle", tiny_bundle, *options) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    accuracy = last["figures"]["accuracy"]
    assert (accuracy["status"], accuracy["dataset"], accuracy["image_auroc"]["value"]) == ("measured", "Toy", 1.0)
    assert (accuracy["sensitivity"]["k"], accuracy["specificity"]["k"]) == (6, 6)
    assert "speed only" not in last["marks"]
    assert last["figures"]["answers"]["gap"] == 0.0 and last["figures"]["answers"]["images"] == 12


def test_phantoms_are_marked_and_a_torn_test_image_is_named(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, value in (("good", 20), ("Ungood", 250)):
        (tmp_path / f"Toy_AD/test/{label}/img").mkdir(parents=True)
        for i in range(3):
            Image.new("L", (24, 24), value + i).save(tmp_path / f"Toy_AD/test/{label}/img/{i}.png")
    (tmp_path / "Toy_AD/test/good/img/0.png").write_bytes(b"torn")
    (tmp_path / "Toy_AD/phantoms.json").write_text('{"synthetic": true}')
    options = ("--data", tmp_path / "Toy_AD", "--scenarios", "single", "--json", tmp_path / "o.json")
    assert _run("--bundle", tiny_bundle, *options) == 3
    out, err = capsys.readouterr()
    last = json.loads(out.splitlines()[-1])
    assert "synthetic images" in last["marks"]
    assert last["setting"]["images"]["source"] == "a folder of synthetic phantoms"
    assert "refused accuracy: 0.png: " in err and last["figures"]["accuracy"]["normal"] == 2


def test_an_unreadable_image_is_named_and_the_others_are_timed(
    tiny_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:50])
    options = ("--images", folder, "--scenarios", "single", "--json", tmp_path / "out.json")
    assert _run("--bundle", tiny_bundle, *options) == 3
    stdout, stderr = capsys.readouterr()
    assert stderr.startswith("madclip-bench: refused torn.png: ") and stderr.count("\n") == 1
    assert json.loads(stdout.splitlines()[-1])["setting"]["images"]["refused"][0]["file"] == "torn.png"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--bundle", "absent.madclip"], 4, "no such folder"),
        (["--bundle", "{bundle}", "--images", "absent"], 3, "no such folder"),
        (["--bundle", "{bundle}", "--images", "{empty}"], 3, "no image in this folder"),
        (["--bundle", "{bundle}", "--data", "absent"], 3, "no such folder"),
        (["--bundle", "{bundle}", "--engine", "abacus"], 2, "no such engine"),
        (["--bundle", "{bundle}", "--head", "liver"], 2, "no head 'liver'"),
        (["--bundle", "{bundle}", "--seed", "-1"], 2, "not negative"),
        (["--bundle", "{bundle}", "--bound-ms", "0"], 2, "above 0"),
        (["--bundle", "{bundle}", "--scenarios", "single,double"], 2, "there is no double"),
        (["--bundle", "{bundle}", "--scanner", "400"], 2, "no exam pattern"),
        (["--bundle", "{bundle}", "--scanner", "0/240"], 2, "no exam pattern"),
        (["--bundle", "{bundle}", "--deadline-s", "-3"], 2, "above 0"),
        (["--bundle", "{bundle}", "--json", "absent/out.json"], 7, "folder is missing"),
        (["--bundle", "{bundle}", "--html", "absent/out.html"], 7, "folder is missing"),
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


def test_a_run_that_would_keep_nothing_is_refused(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--bundle", tiny_bundle) == 2
    assert "nothing would be kept" in capsys.readouterr().err


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

    monkeypatch.setattr("madclip_bench.bench.run_scenarios", interrupt)
    assert _run("--bundle", tiny_bundle, "--images", folder, "--json", tmp_path / "out.json") == 130
    assert not (tmp_path / "out.json").exists()
    assert "no report" in capsys.readouterr().err


def test_an_internal_fault_is_one_line(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("madclip_bench.commands.run.run_bundle", fail)
    assert _run("--bundle", tiny_bundle, "--json", tmp_path / "out.json") == 6
    assert capsys.readouterr().err == "madclip-bench: internal fault, please report it: RuntimeError: a fault\n"


def test_a_terminal_sees_progress_and_it_ends_with_a_line(
    tiny_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    options = ("--images", folder, "--scenarios", "single", "--json", tmp_path / "out.json")
    assert _run("--bundle", tiny_bundle, *options) == 0
    stderr = capsys.readouterr().err
    assert "madclip-bench: single stream: 0 queries, 0 s" in stderr and stderr.endswith("\n")


HELPS = [["--help"], ["run", "--help"], ["compare", "--help"], ["verify", "--help"], ["--version"]]


@pytest.mark.parametrize("arguments", HELPS)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom madclip_bench.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'numpy', 'PIL', 'onnxruntime', 'madclip_runtime.detector'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "madclip_bench", "compare"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "REPORT.json" in done.stderr and "Traceback" not in done.stderr
