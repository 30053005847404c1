"""The whole way by its commands, as a user types them; and README's commands, each of them, run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

_ROOT = Path(__file__).resolve().parents[2]
_BIN = Path(sys.executable).parent


def _run(command: str, folder: Path, *, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(command, comments=True)
    done = subprocess.run(
        [str(_BIN / program), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, mini_config: Path) -> Path:
    """A folder where the way was gone once: phantoms, mini encoder, two shots, one epoch."""
    folder = tmp_path_factory.mktemp("work")
    _run("madclip phantoms --out Brain_AD --normal 12 --abnormal 12 --seed 1", folder)
    _run(
        "madclip train --data Brain_AD --shots 2 --seed 111 --epochs 1 --out x.pt "
        f"--encoder {mini_config} --weights random",
        folder,
    )
    _run("madclip export --ckpt x.pt --fp16", folder)
    return folder


def test_evaluate_prints_and_writes_the_two_figures(work: Path) -> None:
    done = _run("madclip evaluate --ckpt x.pt --data Brain_AD --json figures.json", work)
    figures = json.loads((work / "figures.json").read_text())
    assert 0 <= figures["image_auroc"] <= 100 and 0 <= figures["pixel_auroc"] <= 100
    assert figures["image_score"] == "map_max" and set(figures["image_auroc_by_rule"]) == {"det", "map_max"}
    assert figures["synthetic"] is True and figures["encoder_random"] is True
    assert f"{figures['image_auroc']:.2f} %" in done.stdout and "synthetic" in done.stdout
    assert "RANDOM WEIGHTS" in done.stderr


def test_run_scores_as_evaluate_does(work: Path) -> None:
    """The AUROC of madclip-run's scores on the exported bundle is the checkpoint's, on every test image."""
    from sklearn.metrics import roc_auc_score

    _run("madclip evaluate --ckpt x.pt --data Brain_AD --json figures.json", work)
    done = _run("madclip-run --json --out o Brain_AD/test/good Brain_AD/test/Ungood/img", work)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    labels = ["Ungood" in line["file"] for line in lines]
    assert len(lines) == 12 and sum(labels) == 6
    auroc = 100 * roc_auc_score(labels, [line["score"] for line in lines])
    assert auroc == pytest.approx(json.loads((work / "figures.json").read_text())["image_auroc"], abs=3.0)
    for line in lines:
        assert line["score"] == pytest.approx(line["map_max"]), "this bundle's rule is the map's maximum"
        assert any("not a medical device" in notice for notice in line["notices"])
        assert any("random weights" in notice for notice in line["notices"])
        assert any("synthetic" in notice for notice in line["notices"])
        with Image.open(work / line["overlay"]) as picture:
            assert picture.width > 300


def test_bench_of_the_exported_bundle(work: Path) -> None:
    options = "--data Brain_AD --scenarios offline --json report.json --html report.html"
    done = _run(f"madclip-bench run --bundle x-fp16.madclip --quick {options}", work)
    last = json.loads(done.stdout.splitlines()[-1])
    whole = json.loads((work / "report.json").read_text())
    assert last["format"] == whole["format"] == "madclip-report/2"
    assert {"not for procurement", "quick run", "random weights"} <= set(last["marks"])
    assert last["figures"]["accuracy"]["status"] == "measured"
    held = _run("madclip-bench verify report.json --page report.html --bundle x-fp16.madclip", work)
    assert json.loads(held.stdout.splitlines()[-1])["holds"] is True
    _run("madclip-bench compare report.json report.json --names a,b --html compare.html --fail-if p50>+1%", work)


def test_default_bundle_is_the_only_one_here_or_the_environments(work: Path, tmp_path: Path) -> None:
    image = work / "Brain_AD/test/good/img/normal_0011.png"
    none = _run(f"madclip-run {image}", tmp_path, code=2)
    assert "madclip export --ckpt x.pt --fp16" in none.stderr
    by_environment = _run(f"madclip-run {image}", tmp_path, MADCLIP_BUNDLE=str(work / "x-fp16.madclip"))
    by_folder = _run(f"madclip-run {image} --out {tmp_path / 'o'}", work)
    assert by_environment.stdout.split(" -> ")[0] == by_folder.stdout.split(" -> ")[0]


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("madclip train --data nowhere_AD --out y.pt --encoder nano", 3, "no such folder"),
        ("madclip train --data Brain_AD --out none/y.pt --encoder nano", 7, "its folder does not exist"),
        ("madclip train --data Brain_AD --out y.pt --encoder nano --shots 99", 2, "only 6 normal"),
        ("madclip train --data Brain_AD --out y.pt --encoder nano --epochs 0", 2, "at least 1"),
        ("madclip train --data Brain_AD --out y.pt --encoder no-such", 2, "no such model"),
        ("madclip train --out y.pt", 2, "--data"),
        ("madclip evaluate --ckpt Brain_AD/phantoms.json --data Brain_AD", 4, "not a checkpoint"),
        ("madclip export --ckpt missing.pt", 4, "missing.pt"),
        ("madclip export --ckpt x.pt --fp16 --fp32", 2, "one precision"),
        ("madclip export --ckpt x.pt --out none/x.madclip", 7, "its folder does not exist"),
        ("madclip phantoms --out Brain_AD", 7, "Brain_AD"),
        ("madclip-bench run --bundle nowhere.madclip --quick --json r.json", 4, "no such folder"),
    ],
)
def test_refusals_are_one_line_and_a_code(work: Path, command: str, code: int, words: str) -> None:
    done = _run(command, work, code=code)
    assert words in done.stderr and done.stdout == ""
    assert not (work / "y.pt").exists()


def test_without_hub_and_weights_the_refusal_says_what_to_give(work: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "no-cache")}
    done = _run("madclip train --data Brain_AD --out y.pt --shots 2", work, code=3, **offline)
    assert "ViT-L-14-336" in done.stderr and "--weights FILE" in done.stderr


def test_export_without_madclip_export_prints_the_pip_line(work: Path) -> None:
    script = (
        "import sys; from importlib import metadata; metadata.entry_points = lambda **k: (); "
        "import madclip.cli; madclip.cli.entry_points = lambda **k: (); "
        "sys.argv = ['madclip', 'export', '--ckpt', 'x.pt', '--fp16']; sys.exit(madclip.cli.main())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and 'pip install "madclip-export[cpu]"' in done.stderr


def _readme_commands(kind: str) -> list[str]:
    blocks = re.findall(rf"```{kind}\n(.*?)```", (_ROOT / "README.md").read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.slow
def test_readmes_commands_all_run(work: Path, mini_config: Path, tmp_path: Path) -> None:
    """Word for word, but for the encoder's weights (no hub here) and the time (one epoch, two shots)."""
    (tmp_path / "Brain_AD").symlink_to(work / "Brain_AD")
    (tmp_path / "image.png").write_bytes((work / "Brain_AD/test/Ungood/img/lesion_0011.png").read_bytes())
    commands = _readme_commands("sh")
    assert commands[:2] == [line for line in commands if line.startswith("make ")], "make's two are CI's own"
    for command in commands[2:]:
        if command.startswith("madclip train"):
            command = command.replace("--shots 16", "--shots 2").partition("#")[0]
            command += f" --epochs 1 --encoder {mini_config} --weights random"
        _run(command, tmp_path)
    assert (tmp_path / "report.json").is_file() and list((tmp_path / "madclip-out").glob("*.overlay.png"))
    code = "\n".join(_readme_commands("python"))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "(240, 240)" in done.stdout


def test_readmes_make_targets_and_links_exist() -> None:
    makefile = (_ROOT / "Makefile").read_text()
    for command in _readme_commands("sh"):
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE)
    for page in [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_command_is_there(work: Path) -> None:
    shown = _run("madclip --help", work).stdout
    for command in ("train", "evaluate", "ablate", "import-authors", "prepare", "phantoms", "pretrain-nano", "export"):
        assert re.search(rf"\b{command} ", shown), command


def test_every_room_says_what_it_is_not() -> None:
    for page in ("README.md", "SECURITY.md", "runtime/README.md", "export/README.md", "benchmarks/README.md"):
        assert "not a medical device" in (_ROOT / page).read_text(), page
