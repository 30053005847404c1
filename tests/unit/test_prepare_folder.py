"""A folder with a table of labels, the writer all sources share, and the check for give-aways."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from madclip.cli import main
from madclip.data import open_dataset
from madclip.prepare import layout
from madclip.prepare.folder import plan_folder
from madclip.prepare.layout import SplitOptions, write_set
from madclip.prepare.sample import Findings
from madclip.reading import load_cases
from madclip_runtime.errors import InputRefused, OutputNotWritten, UsageError
from madclip_runtime.imaging import read_image

SIDE = 24


def _picture(seed: int, lesion: bool = False) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pixels = np.random.default_rng(seed).integers(20, 120, (SIDE, SIDE)).astype(np.uint8)
    pixels[5:9, 5:9] = 250 if lesion else pixels[5:9, 5:9]
    return pixels


def _folder(root: Path, count: int = 12, columns: str = "file,label,patient,mask") -> Path:
    """Two images of each patient, every other one abnormal with a mask."""
    (root / "in").mkdir(parents=True)
    lines = [columns]
    for k in range(count):
        Image.fromarray(_picture(k, k % 2 == 1)).save(root / "in" / f"i{k:02d}.png")
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[5:9, 5:9] = 255
        Image.fromarray(mask).save(root / "in" / f"m{k:02d}.png")
        cells = [f"i{k:02d}.png", ("Normal", "abnormal")[k % 2], f"who {k // 2}", f"m{k:02d}.png" if k % 2 else ""]
        lines.append(",".join(cells[: columns.count(",") + 1]))
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def _prepare(root: Path, out: Path, **options: Any) -> dict[str, Any]:
    findings = Findings()
    plan = plan_folder(root / "in", root / "labels.csv", None, findings)
    return write_set(out, plan, findings, SplitOptions(**options))


def _rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "manifest.csv").read_text(encoding="utf-8").splitlines()))


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["madclip", "prepare", *map(str, arguments)])
    return main()


def test_a_folder_becomes_a_set_that_opens(tmp_path: Path) -> None:
    card = _prepare(_folder(tmp_path), tmp_path / "Skin_AD")
    dataset = open_dataset(tmp_path / "Skin_AD")
    loaded = load_cases(dataset.valid + dataset.test, SIDE)
    assert dataset.name == "Skin" and dataset.masks and loaded.masks.sum() == 6 * 16
    assert card["counts"]["valid"] == card["counts"]["test"] == {"good": 3, "Ungood": 3, "masks": 3, "patients": 3}
    for row in _rows(tmp_path / "Skin_AD"):
        written = tmp_path / "Skin_AD" / row["split"] / row["label"] / "img" / row["file"]
        assert (np.array(Image.open(written)) == np.array(Image.open(tmp_path / "in" / row["source"]))).all()
        assert row["set"] == "Skin_AD" and "who" not in row["patient_or_group"]
    assert list(_rows(tmp_path / "Skin_AD")[0]) == list(layout.COLUMNS)


@pytest.mark.parametrize("seed", range(6))
def test_no_patient_is_in_both_splits(tmp_path: Path, seed: int) -> None:
    _prepare(_folder(tmp_path, 14), tmp_path / "Skin_AD", seed=seed, test_share=0.3)
    homes: dict[int, set[str]] = {}
    for row in _rows(tmp_path / "Skin_AD"):
        homes.setdefault(int(row["source"][1:3]) // 2, set()).add(row["split"])
    assert len(homes) == 7 and all(len(splits) == 1 for splits in homes.values())


def test_formats_are_stored_as_the_decoder_reads_them(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    colour = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
    deep = (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * 100).astype(np.uint16)
    Image.fromarray(colour).save(tmp_path / "in/a.tif")
    Image.fromarray(deep).save(tmp_path / "in/b.png")
    Image.fromarray(colour).save(tmp_path / "in/c.jpg")
    (tmp_path / "labels.csv").write_text(
        "\ufeffFile;Label;Split;Age\na.tif;0;valid;7\nb.png;1;valid;8\nc.jpg;good;TEST;9\n"
    )
    card = _prepare(tmp_path, tmp_path / "Mixed_AD")
    assert any("age" in note for note in card["notes"]) and any("no patient column" in note for note in card["notes"])
    for row in _rows(tmp_path / "Mixed_AD"):
        written = read_image(tmp_path / "Mixed_AD" / row["split"] / row["label"] / "img" / row["file"])
        assert (written.pixels == read_image(tmp_path / "in" / row["source"]).pixels).all()
        assert written.mode == ("L" if row["source"] == "b.png" else "RGB")
        assert row["split"] == ("test" if row["source"] == "c.jpg" else "valid")


def test_every_fault_is_listed_and_nothing_is_left(tmp_path: Path) -> None:
    _folder(tmp_path)
    (tmp_path / "in/i00.png").write_bytes(b"no image")
    Image.new("L", (SIDE, SIDE), 0).save(tmp_path / "in/m01.png")
    Image.new("L", (SIDE + 1, SIDE), 255).save(tmp_path / "in/m03.png")
    Image.fromarray(_picture(5)).save(tmp_path / "in/m05.png")
    with (tmp_path / "labels.csv").open("a") as file:
        file.write("\ni02.png,good,who 1,\nlost.png,good,x,\ni04.png,perhaps,x,\n../labels.csv,0,x,\n")
    with pytest.raises(InputRefused) as caught:
        _prepare(tmp_path, tmp_path / "Skin_AD")
    text = str(caught.value)
    for said in (
        "9 faults",
        "i00.png",
        "is empty",
        "one size",
        "no mask",
        "twice",
        "no such file",
        "perhaps",
        "leads out",
    ):
        assert said in text, said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "labels.csv"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file,kind\na,1\n", "no column named label"),
        ("file,label,label\na,1,1\n", "column twice"),
        ("file,label\na\n", "line 2: not one cell"),
        ('file,label\n"a,1\n', "no CSV file"),
        ("file,label,split\ni00.png,1,train\n", "'train' is not known"),
        ("file,label\ni00.png,good\n", "no abnormal image"),
        ("file,label,patient,split\ni00.png,0,a,valid\ni01.png,1,a,test\n", "valid and in test"),
        ("file,label,mask\ni00.png,good,m01.png\ni01.png,1,\n", "labelled good, but its mask marks 16"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, why: str) -> None:
    _folder(tmp_path, 2)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputRefused, match=why):
        _prepare(tmp_path, tmp_path / "Skin_AD")


def test_nothing_is_left_when_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _folder(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout, "_write_manifest", full)
    with pytest.raises(OutputNotWritten, match="No space left"):
        _prepare(tmp_path, tmp_path / "Skin_AD")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "labels.csv"]
    monkeypatch.setattr(layout, "_write_manifest", lambda *_: (tmp_path / "Skin_AD/theirs").mkdir(parents=True))
    with pytest.raises(OutputNotWritten):
        _prepare(tmp_path, tmp_path / "Skin_AD")
    assert [p.name for p in (tmp_path / "Skin_AD").iterdir()] == ["theirs"]


def test_partial_masks_and_twins_are_warned_of(tmp_path: Path) -> None:
    _folder(tmp_path, 8)
    table = (tmp_path / "labels.csv").read_text().replace("m01.png", "")
    Image.fromarray(_picture(3, True)).save(tmp_path / "in/i07.png")
    lines = [line + (",test" if line.startswith(("i06", "i07")) else "," * ("," in line)) for line in table.split("\n")]
    lines[0] = "file,label,patient,mask,split"
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    card = _prepare(tmp_path, tmp_path / "Skin_AD", test_share=0.2)
    assert any("1 of 4 abnormal images have no mask" in line for line in card["warnings"])
    assert any("1 images stand in valid and in test" in line for line in card["warnings"])


def test_a_planted_give_away_is_flagged_and_an_honest_set_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, planted in (("honest", False), ("planted", True)):
        root = _folder(tmp_path / name, 40)
        for k in range(40):
            pixels = _picture(k, k % 2 == 1)
            pixels[5:9, 5:9] = 60
            brighter = pixels + np.uint8(30) if planted and k % 2 else pixels
            wider = brighter[:, : SIDE - 2] if planted and not k % 2 else brighter
            Image.fromarray(np.ascontiguousarray(wider)).save(root / "in" / f"i{k:02d}.png")
        out = root / "Skin_AD"
        arguments = ("folder", "--images", root / "in", "--labels", root / "labels.csv", "--out", out)
        assert _run(monkeypatch, *arguments) == 0
        printed = capsys.readouterr()
        assert "AUROC" in printed.out and "valid: image height 0.50" in printed.out
        assert ("WARNING: test: mean intensity alone" in printed.err) is planted
        assert ("WARNING: valid: image width alone" in printed.err) is planted
        assert _run(monkeypatch, "check", out, "--json", root / "check.json") == 0
        again, card = json.loads((root / "check.json").read_text()), json.loads((out / "card.json").read_text())
        assert again["give_away_auroc"] == card["give_away_auroc"] and again["warnings"] == card["warnings"]
        assert (len(again["warnings"]) >= 4) is planted


def test_the_commands_refuse_with_their_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "check", tmp_path) == InputRefused.exit_code
    assert "no images" in capsys.readouterr().err
    volumes = ("nifti", "--images", tmp_path, "--labels", tmp_path, "--out", tmp_path / "A_AD", "--window")
    assert _run(monkeypatch, *volumes, "-100,240") == InputRefused.exit_code
    assert "no .nii" in capsys.readouterr().err
    assert _run(monkeypatch, *volumes, "bone") == UsageError.exit_code
    for wrong in (("--axis", 3), ("--gap", 0), ("--tolerance", 2), ("--test-share", 1), ("--seed", -1)):
        assert _run(monkeypatch, *volumes, "brain", *wrong) == UsageError.exit_code
        assert wrong[0] in capsys.readouterr().err
    files = ("dicom", "--series", tmp_path, "--labels", tmp_path / "no.csv", "--out", tmp_path / "A_AD")
    assert _run(monkeypatch, *files) == InputRefused.exit_code
    assert "no DICOM files" in capsys.readouterr().err


def test_check_reads_positions_from_the_manifest(tmp_path: Path) -> None:
    from madclip.prepare.giveaway import check_folder, give_aways

    _prepare(_folder(tmp_path), tmp_path / "Skin_AD")
    rows = _rows(tmp_path / "Skin_AD")
    lines = [",".join(layout.COLUMNS)]
    for number, row in enumerate(rows):
        position = 0.9 if row["label"] == "Ungood" else number / 100
        row["source"] = f'"{row["source"]}[slice=3,position={position:.3f}]"'
        lines.append(",".join(row.values()))
    (tmp_path / "Skin_AD/manifest.csv").write_text("\n".join(lines))
    assert give_aways(check_folder(tmp_path / "Skin_AD"))["test"]["slice_position"] == 1.0
    (tmp_path / "Skin_AD/manifest.csv").unlink()
    assert give_aways(check_folder(tmp_path / "Skin_AD"))["test"]["slice_position"] is None
    broken = next((tmp_path / "Skin_AD/test/good/img").iterdir())
    broken.write_bytes(b"x")
    with pytest.raises(InputRefused, match="1 fault"):
        check_folder(tmp_path / "Skin_AD")
