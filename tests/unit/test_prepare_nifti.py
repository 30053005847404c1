"""Volumes → slices: upright whatever the affine, lesions by size, normal slices at a distance and at their height."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from madclip.data import open_dataset
from madclip.prepare.layout import SplitOptions, write_set
from madclip.prepare.nifti import Volume, scan, slice_pixels
from madclip.prepare.sample import Findings
from madclip.prepare.volumes import SliceOptions, plan_nifti
from madclip.reading import load_cases
from madclip_runtime.errors import InputRefused, OutputNotWritten, UsageError
from madclip_runtime.window import parse_window

BRAIN = parse_window("brain")
SHAPE = (24, 28, 40)


def _save(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[np.float64] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def _head(seed: int, lesion: range | None = None, shape: tuple[int, int, int] = SHAPE) -> tuple[Any, Any]:
    """CT-like: air −1000, body 20–60 HU, a lesion of 8 × 8 pixels on the slices named."""
    rng = np.random.default_rng(seed)
    values = np.full(shape, -1000, dtype=np.int16)
    values[3:-3, 3:-3, 2:-2] = rng.integers(20, 60, (shape[0] - 6, shape[1] - 6, shape[2] - 4))
    labels = np.zeros(shape, dtype=np.uint8)
    for k in lesion or ():
        labels[6:14, 6:14, k] = 2
    return values, labels


def _cases(root: Path, count: int = 6) -> tuple[Path, Path]:
    """Lesions at a different height in each head, so that every height has normal slices in another one."""
    for number in range(count):
        first = 6 + 5 * (number % 5)
        values, labels = _head(number, range(first, first + 6))
        _save(root / "images" / f"case{number}.nii.gz", values)
        _save(root / "labels" / f"case{number}.nii.gz", labels)
    return root / "images", root / "labels"


def _prepare(images: Path, labels: Path, out: Path, patients: Path | None = None, **options: Any) -> dict[str, Any]:
    findings, split = Findings(), SplitOptions()
    plan = plan_nifti(images, labels, patients, SliceOptions(BRAIN, **options), split, findings)
    return write_set(out, plan, findings, split)


def _rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "manifest.csv").read_text(encoding="utf-8").splitlines()))


def _orientations() -> list[npt.NDArray[np.float64]]:
    """Axis orders and flips of a grid, as nibabel's orientation arrays."""
    orders, flips = ((0, 1, 2), (2, 0, 1), (1, 2, 0)), ((1, 1, 1), (-1, 1, -1), (-1, -1, 1), (1, -1, -1))
    return [np.array(list(zip(order, flip, strict=True)), dtype=float) for order in orders for flip in flips]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_body_in_any_orientation_gives_one_picture(tmp_path: Path, axis: int) -> None:
    values = np.random.default_rng(1).integers(0, 80, (12, 14, 16)).astype(np.int16)
    labels = (values > 60).astype(np.uint8)
    oblique = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, -0.15, 0.1) @ np.diag([1.0, 2.0, 3.0]), [5, 6, 7])
    pictures = []
    for number, turned in enumerate(_orientations()):
        made = [nib.Nifti1Image(array, oblique).as_reoriented(turned) for array in (values, labels)]
        paths = [tmp_path / f"{kind}{number}.nii" for kind in ("v", "l")]
        for image, path in zip(made, paths, strict=True):
            nib.save(image, path)
        pictures.append(slice_pixels(Volume(f"v{number}", paths[0], paths[1], ()), axis, 5, 0.0, 80.0))
    for picture in pictures[1:]:
        assert (picture.image == pictures[0].image).all()
        assert picture.mask is not None and (picture.mask == pictures[0].mask).all()


def test_axial_slices_show_the_face_up_and_the_right_side_left(tmp_path: Path) -> None:
    values = np.zeros((10, 12, 14), dtype=np.int16)
    values[9, :, :] += 10  # far right of the patient (canonical axes grow to the right, anterior, superior)
    values[:, 11, :] += 100  # the face
    values[:, :, 13] += 1000  # the crown
    path = _save(tmp_path / "v.nii", values)
    volume = Volume("v", path, _save(tmp_path / "l.nii", np.zeros_like(values)), ())
    grey = [slice_pixels(volume, axis, 4, 0.0, 255.0).image for axis in (0, 1, 2)]
    assert grey[2].shape == (12, 10) and (grey[2][0, 1:] == 100).all() and (grey[2][1:, 0] == 10).all()
    assert grey[1].shape == (14, 10) and (grey[1][0] == 255).all() and (grey[1][1:, 0] == 10).all()
    assert grey[0].shape == (14, 12) and (grey[0][0] == 255).all() and (grey[0][1:, 0] == 100).all()


def test_a_set_from_volumes_opens_and_hides_the_height(tmp_path: Path) -> None:
    images, labels = _cases(tmp_path)
    card = _prepare(images, labels, tmp_path / "Brain_AD")
    dataset = open_dataset(tmp_path / "Brain_AD")
    loaded = load_cases(dataset.valid + dataset.test, 32)
    assert dataset.masks and loaded.labels.sum() * 2 == len(loaded.labels) >= 20
    for split in ("valid", "test"):
        position = card["give_away_auroc"][split]["slice_position"]
        assert position is not None and 0.4 <= position <= 0.6
    rows = _rows(tmp_path / "Brain_AD")
    assert all(row["source"].startswith("case") and "[axis=2,slice=" in row["source"] for row in rows)
    assert {row["has_mask"] for row in rows if row["label"] == "good"} == {"0"}
    assert not {r["patient_or_group"] for r in rows if r["split"] == "valid"} & {
        r["patient_or_group"] for r in rows if r["split"] == "test"
    }


def test_every_slice_written_keeps_its_distance(tmp_path: Path) -> None:
    images, labels = _cases(tmp_path)
    _prepare(images, labels, tmp_path / "B_AD", gap=4, min_lesion_pixels=64)
    for row in _rows(tmp_path / "B_AD"):
        name, index = row["source"].split("[")[0], int(row["source"].split("slice=")[1].split(",")[0])
        lesion = np.asanyarray(nib.load(labels / name).dataobj).sum(axis=(0, 1))
        if row["label"] == "good":
            assert abs(np.flatnonzero(lesion) - index).min() >= 4
        else:
            mask = np.array(Image.open(tmp_path / "B_AD" / row["split"] / "Ungood/anomaly_mask" / row["file"]))
            assert set(np.unique(mask)) == {0, 255} and (mask == 255).sum() == 64


def test_lesion_labels_and_least_size(tmp_path: Path) -> None:
    values, labels = _head(0, range(10, 16))
    labels[20:22, 20:22, 25] = 1
    volume = _save(tmp_path / "v.nii", values), _save(tmp_path / "l.nii", labels)
    for lesions, slices in (((), [*range(10, 16), 25]), ((2,), [*range(10, 16)]), ((1,), [25]), ((1, 2), None)):
        seen = scan(Volume("v", *volume, lesions), 2, BRAIN, Findings()).lesion
        assert np.flatnonzero(seen).tolist() == (slices or [*range(10, 16), 25])
    assert scan(Volume("v", *volume, (1,)), 2, BRAIN, Findings()).lesion[25] == 4


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    images, labels = _cases(tmp_path, 4)
    for home in ("one", "two"):
        (tmp_path / home).mkdir()
        _prepare(images, labels, tmp_path / home / "B_AD", per_volume=3)
    files = [sorted(p for p in (tmp_path / home).rglob("*") if p.is_file()) for home in ("one", "two")]
    assert len(files[0]) == len(files[1]) > 10
    for a, b in zip(*files, strict=True):
        assert a.name == b.name and a.read_bytes() == b.read_bytes()


def test_patients_with_several_volumes_stay_together(tmp_path: Path) -> None:
    images, labels = _cases(tmp_path, 8)
    table = tmp_path / "patients.csv"
    lines = [f"case{k}.nii.gz,Smith {k // 2},{'test' if k // 2 == 1 else ''}" for k in range(8)]
    table.write_text("file,patient,split\n" + "\n".join(lines))
    _prepare(images, labels, tmp_path / "B_AD", table)
    homes: dict[int, set[str]] = {}
    for row in _rows(tmp_path / "B_AD"):
        homes.setdefault(int(row["source"][4]) // 2, set()).add(row["split"])
    assert all(len(splits) == 1 for splits in homes.values()) and homes[1] == {"test"}
    assert "Smith" not in "".join(p.read_text() for p in (tmp_path / "B_AD").glob("*.*"))


def test_every_fault_is_listed_and_nothing_is_left(tmp_path: Path) -> None:
    images, labels = _cases(tmp_path, 3)
    values, map_ = _head(9)
    _save(images / "alone.nii", values)
    _save(images / "nan.nii", np.where(values > 0, np.nan, 0).astype(np.float32))
    _save(labels / "nan.nii", map_)
    _save(images / "moved.nii", values)
    _save(labels / "moved.nii", map_, np.diag([1.1, 1.0, 1.0, 1.0]))
    _save(images / "small.nii", values)
    _save(labels / "small.nii", map_[:-1])
    _save(images / "half.nii", values)
    _save(labels / "half.nii", map_ + np.float32(0.5))
    _save(images / "four.nii", np.stack([values, values], axis=3))
    _save(labels / "four.nii", map_)
    (images / "torn.nii.gz").write_bytes((images / "case0.nii.gz").read_bytes()[:900])
    _save(labels / "torn.nii.gz", map_)
    with pytest.raises(InputRefused) as caught:
        _prepare(images, labels, tmp_path / "B_AD")
    text = str(caught.value)
    assert "7 faults" in text and "nothing was written" in text
    for said in (
        "no label map",
        "not finite",
        "mm away",
        "has (23, 28, 40)",
        "whole numbers",
        "three axes",
        "torn.nii.gz",
    ):
        assert said in text, said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "labels"]


def test_one_patient_is_kept_whole_and_the_gap_is_said(tmp_path: Path) -> None:
    images, labels = _cases(tmp_path, 1)
    card = _prepare(images, labels, tmp_path / "B_AD", tolerance=1.0)
    assert card["counts"]["valid"]["good"] > 0 and card["counts"]["test"]["patients"] == 0
    assert any("test has no good image" in line for line in card["warnings"])
    assert any("relative slice position" in line for line in card["warnings"])
    with pytest.raises(InputRefused, match="no abnormal slice has a normal one at its height"):
        _prepare(images, labels, tmp_path / "C_AD", tolerance=0.0, gap=9)
    with pytest.raises(InputRefused, match="none has 50 lesion pixels"):
        _prepare(images, labels, tmp_path / "C_AD", lesions=(7,))


def test_a_used_or_misnamed_folder_is_refused(tmp_path: Path) -> None:
    images, labels = _cases(tmp_path, 2)
    (tmp_path / "Used_AD").mkdir()
    (tmp_path / "Used_AD/keep").write_text("mine")
    for out, error in ((tmp_path / "Used_AD", OutputNotWritten), (tmp_path / "no/B_AD", OutputNotWritten)):
        with pytest.raises(error):
            _prepare(images, labels, out)
    with pytest.raises(UsageError, match="Brain_AD"):
        _prepare(images, labels, tmp_path / "Brain")
    assert (tmp_path / "Used_AD/keep").read_text() == "mine"
    (tmp_path / "Empty_AD").mkdir()
    _prepare(images, labels, tmp_path / "Empty_AD", tolerance=1.0)
    assert json.loads((tmp_path / "Empty_AD/card.json").read_text())["set"] == "Empty_AD"


def test_hu_windows_ask_for_air_and_lopsided_pixels_are_noted(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 500, SHAPE).astype(np.int16)
    wide = np.diag([1.0, 3.0, 1.0, 1.0])
    paths = _save(tmp_path / "v.nii", values, wide), _save(tmp_path / "l.nii", np.zeros(SHAPE, np.uint8), wide)
    findings = Findings()
    scan(Volume("v.nii", *paths, ()), 2, BRAIN, findings)
    assert "3.0 times longer" in findings.notes[0] and "is it CT in HU?" in findings.notes[1]


def test_without_nibabel_the_pip_line_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = _cases(tmp_path, 1)
    real = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name == "nibabel":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r'pip install "madclip\[prepare\]"'):
        _prepare(images, labels, tmp_path / "B_AD")


@pytest.mark.shared
def test_real_volume(shared: Path, tmp_path: Path) -> None:
    """A FLAIR volume with a tumour: its mask lies where the slice is bright."""
    home = shared / "images/nifti/brats_2013_pat0003_1"
    if not home.is_dir():
        pytest.skip("needs ../shared/images/nifti")
    volume = Volume("flair", home / "Flair_subtrMeanDivStd.nii.gz", home / "OTMultiClass.nii.gz", ())
    seen = scan(volume, 2, parse_window("percentile"), Findings())
    middle = int(seen.lesion.argmax())
    pixels = slice_pixels(volume, 2, middle, seen.low, seen.high)
    assert pixels.mask is not None and seen.lesion[middle] == pixels.mask.sum() > 1000
    brain = pixels.image > 0
    assert pixels.image[pixels.mask].mean() > 1.5 * pixels.image[brain & ~pixels.mask].mean()
    assert 0.1 < brain.mean() < 0.6
