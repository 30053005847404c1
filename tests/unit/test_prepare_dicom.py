"""DICOM files → images: order by position, values by the header, a narrow profile, and no name or UID written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from madclip.data import open_dataset
from madclip.prepare.dicom_series import plan_dicom
from madclip.prepare.layout import SplitOptions, write_set
from madclip.prepare.sample import Findings
from madclip.reading import load_cases
from madclip_runtime.dicom import Header, is_dicom, read_header, read_values
from madclip_runtime.errors import InputRefused
from madclip_runtime.window import parse_window

SIDE = 16


def _dataset(stored: npt.NDArray[Any], **fields: Any) -> FileDataset:
    """A CT slice holding `stored` as it is; keyword arguments overwrite elements."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.PatientName, data.Modality = "ID-4711", "Doe^Jane", "CT"
    data.Rows, data.Columns = stored.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = stored.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for key, value in fields.items():
        setattr(data, key, value)
    data.PixelData = stored.tobytes()
    return data


def _save(path: Path, stored: npt.NDArray[Any] | None = None, **fields: Any) -> Header:
    data = _dataset(np.full((SIDE, SIDE), 1064, dtype=np.uint16) if stored is None else stored, **fields)
    data.save_as(path, enforce_file_format=True)
    return read_header(path, path.name)


def _series(folder: Path, patient: str, count: int = 6, **fields: Any) -> str:
    """Slices 2 mm apart, brighter upwards, with file names and instance numbers in another order."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    order = np.random.default_rng(len(patient)).permutation(count)
    for k in range(count):
        stored = np.full((SIDE, SIDE), 1024 + 10 * (k + 1), dtype=np.uint16)
        place = {"ImagePositionPatient": [0, 0, -50 + 2 * k], "InstanceNumber": int(order[k])}
        named = {"PatientID": patient, "SeriesInstanceUID": series} | place | fields
        _save(folder / f"IM{order[k]:02d}_{patient}", stored, **named)
    return str(series)


def _prepare(root: Path, table: str, out: Path, window: str = "brain", **options: Any) -> dict[str, Any]:
    labels = root.parent / "labels.csv"
    labels.write_text(table)
    findings = Findings()
    plan = plan_dicom([root], labels, None, parse_window(window, from_file=True), findings)
    return write_set(out, plan, findings, SplitOptions(**options))


def _rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "manifest.csv").read_text(encoding="utf-8").splitlines()))


def test_order_is_by_position_and_not_by_number(tmp_path: Path) -> None:
    for patient in ("A1", "B22"):
        _series(tmp_path / "in", patient)
    names = sorted(p.name for p in (tmp_path / "in").iterdir())
    _prepare(
        tmp_path / "in", "file,label\n" + "".join(f"{n},{k % 2}\n" for k, n in enumerate(names)), tmp_path / "C_AD"
    )
    for row in _rows(tmp_path / "C_AD"):
        place = int(row["source"].split("slice=")[1].split(",")[0])
        grey = np.array(Image.open(tmp_path / "C_AD" / row["split"] / row["label"] / "img" / row["file"]))
        assert (grey == round(10 * (place + 1) / 80 * 255)).all()
        assert f"position={place / 5:.3f}" in row["source"] and "window=brain" in row["source"]


def test_nothing_that_names_a_person_is_written(tmp_path: Path) -> None:
    uids = [_series(tmp_path / "in" / who, who) for who in ("Mueller", "Meier")]
    table = "series_uid,label\n" + f"{uids[0]},good\n{uids[1]},Ungood\n"
    _prepare(tmp_path / "in", table, tmp_path / "C_AD")
    names = " ".join(str(p.relative_to(tmp_path / "C_AD")) for p in (tmp_path / "C_AD").rglob("*"))
    texts = " ".join(p.read_text() for p in (tmp_path / "C_AD").glob("*.*"))
    bytes_ = b" ".join(p.read_bytes() for p in (tmp_path / "C_AD").rglob("*.png"))
    for secret in ("Mueller", "Meier", "Doe", *uids, *(uid[-12:] for uid in uids)):
        assert secret not in names + texts and secret.encode() not in bytes_
    assert {row["patient_or_group"] for row in _rows(tmp_path / "C_AD")} == {"p001", "p002"}


def test_a_labelled_set_opens_with_masks_and_keeps_patients_apart(tmp_path: Path) -> None:
    table = ["file,label,mask"]
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[4:9, 4:9] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for number in range(4):
        _series(tmp_path / f"in/s{number}", f"P{'x' * number}")
        files = sorted(p.name for p in (tmp_path / f"in/s{number}").iterdir())
        table += [f"s{number}/{name},{k % 2},{'mask.png' if k % 2 else ''}" for k, name in enumerate(files)]
    card = _prepare(tmp_path / "in", "\n".join(table), tmp_path / "C_AD")
    dataset = open_dataset(tmp_path / "C_AD")
    loaded = load_cases(dataset.test, SIDE)
    assert dataset.masks and loaded.masks.sum(axis=(1, 2)).max() == 25
    assert card["counts"]["valid"] == {"good": 6, "Ungood": 6, "masks": 6, "patients": 2}
    homes = {(row["patient_or_group"], row["split"]) for row in _rows(tmp_path / "C_AD")}
    assert len(homes) == 4


def test_signed_pixels_slope_padding_and_high_bits(tmp_path: Path) -> None:
    stored = np.full((SIDE, SIDE), -3, dtype=np.int16)
    stored[0] = -2000
    stored[1] = 20
    values = read_values(
        _save(tmp_path / "a", stored, PixelPaddingValue=-2000, RescaleSlope="2.5", RescaleIntercept="7")
    )
    assert values.values[5, 5] == -0.5 and values.values[1, 0] == 57.0
    assert values.padded[0].all() and not values.padded[1:].any()
    range_ = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    stored[2] = -1995
    assert read_values(_save(tmp_path / "b", stored, **range_)).padded[2].all()
    for number, (kind, twelve) in enumerate(((np.uint16, 0x0ABC), (np.int16, 0x0ABC))):
        overlaid = np.full((SIDE, SIDE), 0x5000 | twelve, dtype=kind)
        header = _save(tmp_path / f"c{number}", overlaid, BitsStored=12, HighBit=11, RescaleIntercept=0)
        expected = 0x0ABC if kind is np.uint16 else 0x0ABC - 0x1000
        assert (read_values(header).values == expected).all()


def test_padding_is_black_also_where_low_is_bright(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    stored = np.full((SIDE, SIDE), 1024, dtype=np.uint16)
    stored[8:] = 1104
    stored[0] = 0
    for name, kind in (("a", "MONOCHROME1"), ("b", "MONOCHROME2")):
        _save(tmp_path / "in" / name, stored, PhotometricInterpretation=kind, PixelPaddingValue=0, PatientID=name)
    _prepare(tmp_path / "in", "file,label,split\na,0,valid\nb,1,test\n", tmp_path / "C_AD")
    grey = [np.array(Image.open(p)) for p in sorted((tmp_path / "C_AD").glob("*/*/img/*.png"))]
    turned, plain = sorted(grey, key=lambda image: int(image[-1, 0]))
    assert (turned[0] == 0).all() and (turned[4] == 255).all() and (turned[-1] == 0).all()
    assert (plain[0] == 0).all() and (plain[4] == 0).all() and (plain[-1] == 255).all()


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"WindowCenter": 40, "WindowWidth": 81}, (-0.5, 79.5)),
        ({"WindowCenter": [40, 300], "WindowWidth": [81, 1500]}, (-0.5, 79.5)),
        ({"WindowCenter": 40, "WindowWidth": 80, "VOILUTFunction": "LINEAR_EXACT"}, (0.0, 80.0)),
        ({"WindowCenter": 40, "WindowWidth": 80, "VOILUTFunction": "SIGMOID"}, None),
        ({"WindowCenter": 40, "WindowWidth": 1}, None),
        ({"WindowCenter": 40}, None),
        ({}, None),
    ],
)
def test_the_files_own_window(tmp_path: Path, fields: dict[str, Any], window: tuple[float, float] | None) -> None:
    assert read_values(_save(tmp_path / "a", **fields)).window == window


def test_rle_implicit_and_rgb_are_read(tmp_path: Path) -> None:
    stored = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)
    data = _dataset(stored)
    data.compress(RLELossless)
    data.save_as(tmp_path / "rle", enforce_file_format=True)
    implicit = _dataset(stored)
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    implicit.save_as(tmp_path / "implicit", enforce_file_format=True)
    for name in ("rle", "implicit"):
        assert (read_values(read_header(tmp_path / name, name)).values == stored.astype(np.float32) - 1024).all()
    colour = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    assert (read_values(_save(tmp_path / "rgb", colour, **rgb)).values == colour).all()


def test_a_flood_of_sequence_items_is_refused_before_pydicom_makes_objects_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path / "a.dcm")
    whole = (tmp_path / "a.dcm").read_bytes()
    at = whole.index(b"\x10\0\x10\0PN")
    opened, item, closed = (
        b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff",
        b"\xfe\xff\0\xe0\0\0\0\0",
        b"\xfe\xff\xdd\xe0\0\0\0\0",
    )
    (tmp_path / "few.dcm").write_bytes(whole[:at] + opened + item * 1000 + closed + whole[at:])
    read_header(tmp_path / "few.dcm", "few.dcm")
    flood = whole[:at] + opened + item * 200_000 + closed + whole[at:]
    monkeypatch.setattr(pydicom, "dcmread", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(InputRefused, match="sequence items"):
        read_header(flood, "flood.dcm")


def test_deflated_is_refused_before_it_is_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _dataset(np.zeros((SIDE, SIDE), dtype=np.uint16))
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "a", enforce_file_format=True)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the dataset was read")

    monkeypatch.setattr(pydicom, "dcmread", never)
    assert is_dicom(tmp_path / "a")
    with pytest.raises(InputRefused, match="deflated"):
        read_header(tmp_path / "a", "a")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"NumberOfFrames": 2}, "more than one frame"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR is not read"),
        ({"SamplesPerPixel": 3}, "3 samples"),
        ({"BitsStored": 7, "HighBit": 6}, "7 bits stored"),
        ({"HighBit": 14, "BitsStored": 12}, "lowest on"),
        ({"Rows": 60000, "Columns": 60000}, "over the limit"),
        ({"Rows": 4}, "smaller than 8"),
        ({"RescaleSlope": "-1"}, "not a positive number"),
        ({"ModalityLUTSequence": []}, "lookup table"),
    ],
)
def test_what_is_outside_the_profile_is_refused_by_name(tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InputRefused, match=why):
        _save(tmp_path / "a", **fields)


def test_other_syntaxes_torn_files_and_strangers(tmp_path: Path) -> None:
    data = _dataset(np.zeros((SIDE, SIDE), dtype=np.uint16))
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
    data.save_as(tmp_path / "ls", enforce_file_format=True)
    with pytest.raises(InputRefused, match="JPEG-LS"):
        read_header(tmp_path / "ls", "ls")
    header = _save(tmp_path / "torn")
    (tmp_path / "torn").write_bytes((tmp_path / "torn").read_bytes()[:-100])
    with pytest.raises(InputRefused, match="torn: damaged"):
        read_values(header)
    (tmp_path / "readme.txt").write_text("hello")
    assert not is_dicom(tmp_path / "readme.txt")


def test_every_fault_is_listed_and_nothing_is_left(tmp_path: Path) -> None:
    _series(tmp_path / "in", "A", 3)
    _save(tmp_path / "in/mr", Modality="MR", PatientID="B")
    with pytest.raises(InputRefused):
        _save(tmp_path / "in/frames", NumberOfFrames=3)
    (tmp_path / "in/notes.txt").write_text("no DICOM")
    table = "file,label\nIM00_A,good\nIM01_A,maybe\nIM00_A,1\nmr,1\nnone,0\n,0\n"
    with pytest.raises(InputRefused) as caught:
        _prepare(tmp_path / "in", table, tmp_path / "C_AD")
    text = str(caught.value)
    for said in ("6 faults", "more than one frame", "'maybe'", "labels already", "not HU", "'none'", "names no file"):
        assert said in text, said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "labels.csv"]


def test_a_series_without_ids_is_one_patient_and_percentiles_span_it(tmp_path: Path) -> None:
    _series(tmp_path / "in", "", StudyInstanceUID="", Modality="MR", SeriesInstanceUID="")
    names = sorted(p.name for p in (tmp_path / "in").iterdir())
    table = "file,label\n" + "".join(f"{name},{k % 2}\n" for k, name in enumerate(names))
    card = _prepare(tmp_path / "in", table, tmp_path / "C_AD", window="percentile")
    assert card["counts"]["valid"]["patients"] == 1 and card["counts"]["test"]["patients"] == 0
    assert any("no PatientID" in line for line in card["notes"])
    greys = sorted({int(np.array(Image.open(p)).max()) for p in (tmp_path / "C_AD").rglob("*.png")})
    assert greys[0] == 0 and greys[-1] == 255 and len(greys) == 5  # the darkest slice is background


@pytest.mark.shared
def test_real_series(shared: Path, tmp_path: Path) -> None:
    """A CT series without IDs, compressed with JPEG 2000: air black, one patient, the first slice the lowest."""
    home = shared / "images/dicom/ct_series"
    if not home.is_dir():
        pytest.skip("needs ../shared/images/dicom")
    files = sorted(home.iterdir())[:8]
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "".join(f"{p.name},{k % 2}\n" for k, p in enumerate(files)))
    findings = Findings()
    plan = plan_dicom([home], labels, None, parse_window("file", from_file=True), findings)
    card = write_set(tmp_path / "Abdomen_AD", plan, findings, SplitOptions())
    assert card["counts"]["valid"] == {"good": 4, "Ungood": 4, "masks": 0, "patients": 1}
    for path in (tmp_path / "Abdomen_AD").rglob("*.png"):
        grey = np.array(Image.open(path))
        assert grey.shape == (512, 512) and grey[5, 5] == 0 and 0.1 < (grey > 100).mean() < 0.5
