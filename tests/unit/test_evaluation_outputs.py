"""Several checkpoints on several data sets, by the command: JSON, CSV, Markdown and pictures."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from madclip.checkpoint import Checkpoint
from madclip.cli import app
from madclip.data import Case, Dataset, open_dataset
from madclip.encoder import Encoder
from madclip.evaluation import Evaluation, cases, evaluate, plots, runs
from madclip.evaluation.bootstrap import Bootstrap
from madclip.evaluation.cases import choose_cases
from madclip.evaluation.figures import Figure
from madclip.evaluation.plots import ABNORMAL, NORMAL
from madclip.evaluation.result import Scores
from madclip.evaluation.runs import distinct_names, evaluate_all
from madclip.evaluation.summary import AVERAGE, summarise
from madclip.evaluation.tables import figures_csv, figures_markdown
from madclip.phantoms import write_phantoms
from madclip_runtime.errors import OutputNotWritten, UsageError

_NOTICE = "research use, not a medical device"


def _drawn_again(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """As another seed would leave it: other adapters, the same method."""
    noise = torch.Generator().manual_seed(seed)
    moved = {k: v + 0.3 * v.std() * torch.randn(v.shape, generator=noise) for k, v in checkpoint.adapters.items()}
    card = checkpoint.card
    card = replace(card, data=replace(card.data, seed=seed), train=replace(card.train, seed=seed))
    return replace(checkpoint, adapters=moved, card=card)


@pytest.fixture(scope="module")
def second_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Phantoms without masks."""
    made = write_phantoms(tmp_path_factory.mktemp("other") / "Chest_AD", normal=10, abnormal=10, seed=9)
    for split in ("valid", "test"):
        for mask in (made.root / split / "Ungood/anomaly_mask").iterdir():
            mask.unlink()
        (made.root / split / "Ungood/anomaly_mask").rmdir()
    return open_dataset(made.root)


@pytest.fixture(scope="module")
def ran(
    mini_checkpoint: Path, phantom_data: Dataset, second_data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str]:
    """The command, with two seeds and two sets; the folder it wrote, its stdout and its stderr."""
    folder = tmp_path_factory.mktemp("evaluated")
    for seed in (1, 2):
        _drawn_again(Checkpoint.load(mini_checkpoint), seed).save(folder / f"mini-{seed}.pt")
    options = ["--ckpt", f"{folder / 'mini-1.pt'}", "--ckpt", f"{folder / 'mini-2.pt'}"]
    options += ["--data", f"{phantom_data.root}", "--data", f"{second_data.root}"]
    options += ["--out", f"{folder / 'out'}", "--json", f"{folder / 'all.json'}"]
    with pytest.MonkeyPatch.context() as smaller:  # pictures take most of the time; another test draws them whole
        smaller.setattr(plots, "_DPI", 90)
        smaller.setattr(cases, "SHOWN", 1)
        done = CliRunner().invoke(app, ["evaluate", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder, done.stdout, done.stderr


def test_json_of_several_has_results_and_a_summary(ran: tuple[Path, str, str]) -> None:
    folder, _, _ = ran
    content = json.loads((folder / "all.json").read_text())
    assert (folder / "out/figures.json").read_text() == (folder / "all.json").read_text()
    assert content["format"] == "madclip-evaluation/1" and len(content["results"]) == 4
    (row,) = content["summary"]
    assert row["seeds"] == [1, 2] and row["checkpoints"] == ["mini-1", "mini-2"] and row["name"] == "mini (n = 2)"
    values = [r["image_auroc"] for r in content["results"] if r["dataset"] == "Chest"]
    cell = row["cells"]["Chest"]["image_auroc"]
    assert (
        cell["mean"] == pytest.approx(mean(values)) and cell["std"] == pytest.approx(stdev(values)) and cell["n"] == 2
    )
    each = [
        mean(r["image_auroc"] for r in content["results"] if r["checkpoint"] == name) for name in row["checkpoints"]
    ]
    assert row["cells"][AVERAGE]["image_auroc"]["std"] == pytest.approx(stdev(each))
    assert row["cells"][AVERAGE]["pixel_auroc"]["mean"] == row["cells"]["Brain-phantoms"]["pixel_auroc"]["mean"]


def test_stdout_is_figures_and_stderr_is_talk(ran: tuple[Path, str, str]) -> None:
    _, out, err = ran
    assert out.count("image AUROC ") == 4 + 3, "four results; the summary's two sets and their average"
    assert "±" in out and "no masks" in out and "upper bound" in out
    assert "RANDOM WEIGHTS" in err and "RANDOM WEIGHTS" not in out
    assert "trained on Brain-phantoms, tested on Chest" in err


def test_csv_has_one_line_a_figure(ran: tuple[Path, str, str]) -> None:
    folder, _, _ = ran
    rows = list(csv.DictReader(io.StringIO((folder / "out/figures.csv").read_text())))
    content = json.loads((folder / "all.json").read_text())
    assert len(rows) == sum(len(result["figures"]) for result in content["results"])
    first, expected = rows[0], content["results"][0]
    assert (first["checkpoint"], first["seed"], first["test_set"]) == ("mini-1", "1", "Brain-phantoms")
    assert first["figure"] == "image_auroc" and float(first["percent"]) == pytest.approx(
        expected["image_auroc"], abs=1e-3
    )
    assert float(first["low_95"]) <= float(first["percent"]) <= float(first["high_95"])
    scores = list(csv.DictReader(io.StringIO((folder / "out/mini-1--Chest/scores.csv").read_text())))
    assert len(scores) == 10 and set(scores[0]) == {"label", "file", "det", "map_max"}


def test_markdown_is_the_papers_table(ran: tuple[Path, str, str]) -> None:
    folder, _, _ = ran
    lines = (folder / "out/figures.md").read_text().splitlines()
    head = next(line for line in lines if line.startswith("| trained on"))
    assert head == (
        "| trained on | method | Brain-phantoms AC | Brain-phantoms AS | Chest AC | average AC | average AS |"
    )
    row = lines[lines.index(head) + 2].split(" | ")
    assert row[0] == "| Brain-phantoms" and row[1] == "mini (n = 2)" and all("±" in cell for cell in row[2:])
    assert any(_NOTICE in line for line in lines)


def test_pictures_decode_show_both_classes_and_are_not_blank(ran: tuple[Path, str, str]) -> None:
    out = ran[0] / "out"
    one = "histogram", "normals-highest", "abnormals-lowest", "abnormals-highest"
    expected = {"roc.png", "pr.png"} | {
        f"mini-{seed}--{name}/{picture}.png"
        for seed in (1, 2)
        for name in ("Brain-phantoms", "Chest")
        for picture in one
    }
    assert {str(path.relative_to(out)) for path in out.rglob("*.png")} == expected
    for name in expected:
        pixels = _pixels(out / name)
        assert min(pixels.shape[:2]) > 200 and pixels.std() > 10, name
    lines = _pixels(out / "roc.png")
    assert _holds(lines, NORMAL) and _holds(lines, ABNORMAL), "one line a checkpoint"
    bars = _pixels(out / "mini-1--Chest/histogram.png")
    assert _holds(bars, NORMAL, 0.55) and _holds(bars, ABNORMAL, 0.55)
    lesions, none = (_pixels(out / f"mini-1--{name}/abnormals-lowest.png") for name in ("Brain-phantoms", "Chest"))
    assert _holds(lesions, "#E69F00"), "the outline of a mask"
    assert _count(none, "#E69F00") < _count(lesions, "#E69F00"), "only in the legend, where there are no masks"


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def _count(pixels: np.ndarray, colour: str, alpha: float = 1.0) -> int:
    ink = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    wanted = alpha * ink + (1 - alpha) * 255
    return int((np.abs(pixels - wanted).max(axis=2) <= 30).sum())


def _holds(pixels: np.ndarray, colour: str, alpha: float = 1.0) -> bool:
    return _count(pixels, colour, alpha) > 50


def test_one_checkpoint_on_one_set_is_flat(
    mini_checkpoint: Path, second_data: Dataset, tmp_path: Path, det_checkpoint: Checkpoint
) -> None:
    """A checkpoint trained without masks: no heat map is shown for it."""
    data = replace(det_checkpoint.card.data, masks=False)
    replace(det_checkpoint, card=replace(det_checkpoint.card, data=data)).save(tmp_path / "plain.pt")
    options = ["--ckpt", f"{tmp_path / 'plain.pt'}", "--data", f"{second_data.root}", "--out", f"{tmp_path / 'o'}"]
    done = CliRunner().invoke(app, ["evaluate", *options], catch_exceptions=False)
    assert done.exit_code == 0 and "pixel AUROC no masks" in done.stdout.splitlines()[0]
    content = json.loads((tmp_path / "o/figures.json").read_text())
    assert content["image_score"] == "det" and content["pixel_auroc"] is None and "results" not in content
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert min(_pixels(tmp_path / "o/abnormals-highest.png").shape[:2]) > 700
    assert names == {
        *("figures.json", "figures.csv", "figures.md", "scores.csv", "roc.png", "pr.png", "histogram.png"),
        *("normals-highest.png", "abnormals-lowest.png", "abnormals-highest.png"),
    }


def test_what_is_given_twice_is_refused(mini_checkpoint: Path, phantom_data: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(mini_checkpoint.read_bytes())
    with pytest.raises(UsageError, match="same checkpoint as mini"):
        evaluate_all([mini_checkpoint, copy], [phantom_data.root])
    with pytest.raises(UsageError, match="given twice"):
        evaluate_all([mini_checkpoint], [phantom_data.root, phantom_data.root / "../Brain-phantoms_AD"])
    copy.with_name("out").write_text("a file")
    with pytest.raises(OutputNotWritten):
        evaluate_all([mini_checkpoint], [phantom_data.root], out=copy.with_name("out"))


def test_everything_is_opened_before_anything_is_scored(
    mini_checkpoint: Path, phantom_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Evaluation:
        raise AssertionError("scored too early")

    monkeypatch.setattr(runs, "evaluate", never)
    from madclip_runtime.errors import InputRefused

    with pytest.raises(InputRefused, match="no such folder"):
        evaluate_all([mini_checkpoint], [phantom_data.root, tmp_path / "nowhere"])


def test_names_are_the_shortest_that_differ() -> None:
    assert distinct_names([Path("/a/x.pt"), Path("/b/y.pt")], "--ckpt") == ["x", "y"]
    assert distinct_names([Path("/a/x.pt"), Path("/b/x.pt")], "--ckpt") == ["a-x", "b-x"]
    assert distinct_names([Path("/Brain_AD")], "--data") == ["Brain"]


def test_an_encoder_is_loaded_once_for_all_seeds(
    mini_checkpoint: Path, mini_encoder: Encoder, second_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _drawn_again(Checkpoint.load(mini_checkpoint), 3).save(tmp_path / "third.pt")
    loads = []
    monkeypatch.setattr(runs, "reload_encoder", lambda spec, weights: loads.append(spec) or mini_encoder)
    assert len(evaluate_all([mini_checkpoint, tmp_path / "third.pt"], [second_data.root], weights="moved")) == 2
    assert len(loads) == 1


@pytest.mark.parametrize("shown", [1, 4])
def test_chosen_cases_are_the_telling_ones(shown: int) -> None:
    labels = np.repeat([0, 1], shown)
    chosen = choose_cases(labels, np.arange(2 * shown) / 10)
    assert chosen["normals-highest"][0] == shown - 1 and chosen["abnormals-lowest"][0] == shown
    assert chosen["abnormals-highest"][0] == 2 * shown - 1
    assert all(len(indices) == shown for indices in chosen.values())


def _made(checkpoint: Checkpoint, name: str, dataset: str, percent: float, *, shots: int, source: str) -> Evaluation:
    data = replace(checkpoint.card.data, dataset=source, normal_shots=shots, abnormal_shots=shots)
    return Evaluation(
        name=name,
        dataset=dataset,
        checkpoint=replace(checkpoint, card=replace(checkpoint.card, data=data)),
        synthetic=False,
        image_auroc_by_rule={"map_max": percent},
        figures={"image_auroc": Figure(percent, percent - 1, percent + 1)},
        missing={"pixel_auroc": "the set has no masks"},
        counts={"normal": 1, "abnormal": 1},
        pixel_auroc_bound=None,
        points={},
        bootstrap=Bootstrap("percentile", 0.95, 10, 0, "image", 2),
        notes=("a | b",),
        scores=Scores((Case(Path("x.png"), False, None),) * 2, np.array([0, 1]), {"map_max": np.array([0.0, 1.0])}),
    )


def test_rows_go_by_shots_and_by_source(mini_checkpoint: Path) -> None:
    """Tables 2 and 3 of the paper: 2 shots above 16, the source named where the target is another set."""
    loaded = Checkpoint.load(mini_checkpoint)
    results = [
        _made(loaded, "a16", "Chest", 90.0, shots=16, source="Chest"),
        _made(loaded, "a2", "Chest", 80.0, shots=2, source="Chest"),
        _made(loaded, "b16", "Chest", 60.0, shots=16, source="Brain"),
    ]
    rows = summarise(results)
    assert [(row.shots, row.trained_on, row.name) for row in rows] == [
        ("2", "Chest", "a2"),
        ("16", "Chest", "a16"),
        ("16", "Brain", "b16"),
    ]
    text = figures_markdown(results, rows)
    assert "| trained on | shots | method | Chest AC |" in text and "| Brain | 16 | b16 | 60.00 |" in text
    assert "a / b" in text and AVERAGE not in text, "no bar breaks a table; one set has no average"
    own = figures_markdown(results[:1], summarise(results[:1]))
    assert "| method | Chest AC |" in own
    assert figures_csv(results).count("\n") == 4


def test_evaluate_is_importable_as_before(mini_checkpoint: Path, mini_encoder: Encoder, phantom_data: Dataset) -> None:
    loaded = Checkpoint.load(mini_checkpoint)
    result = evaluate(loaded, phantom_data)
    assert result.encoder_random and result.synthetic
    assert result.pixel_auroc is not None and 0 <= result.image_auroc <= 100
