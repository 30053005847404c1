"""Measured values become what the model learned from: the bundle's window, the file's own, or a refusal by name."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bad_files import dicom_bytes, nifti_bytes
from bundle_edits import edit_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import noise, oriented, upright

from madclip_runtime import Detector
from madclip_runtime.dicom import read_header, read_values
from madclip_runtime.dicom_series import Series, group_series
from madclip_runtime.errors import InputRefused, UsageError
from madclip_runtime.frames import Measured, dicom_frame, nifti_frame, read_frame, to_picture
from madclip_runtime.imaging import as_stored, read_image
from madclip_runtime.inputs import Finder, Job, SliceChoice
from madclip_runtime.nifti import read_volume
from madclip_runtime.window import Window, parse_window

HU = {"low": 0.0, "high": 80.0, "name": "brain"}
PERCENTILE = {"low": None, "high": None, "name": "percentile"}


def with_window(bundle: Path, window: dict | None, **head: object) -> Path:
    def change(manifest: dict) -> None:
        card = manifest["heads"]["brightness"]
        card["data"]["window"] = window
        card.update(head)

    edit_manifest(bundle, change)
    return bundle


def measured(source: bytes) -> Measured:
    frame = read_frame(source, "x")
    assert isinstance(frame, Measured)
    return frame


def test_the_bundles_window_decides_over_the_files_own() -> None:
    data = dicom_bytes(WindowCenter=0, WindowWidth=4000)
    picture = to_picture(measured(data), parse_window("brain"), "x")
    values = read_values(read_header(data, "x")).values
    wanted = np.rint(np.clip(values / 80, 0, 1) * 255)
    np.testing.assert_array_equal(picture.pixels[:, :, 1], wanted)
    assert picture.notes == ("grey by the bundle's window brain, 0 to 80",)


def test_without_one_the_files_own_is_taken_and_said() -> None:
    picture = to_picture(measured(dicom_bytes(WindowCenter=40, WindowWidth=81)), None, "x")
    assert picture.notes == ("grey by the file's own window, -0.5 to 79.5, since the bundle names none",)


def test_without_any_it_is_refused_and_a_given_one_helps() -> None:
    frame = measured(dicom_bytes())
    with pytest.raises(InputRefused, match="no linear window of its own") as caught:
        to_picture(frame, None, "x")
    assert "--window LOW,HIGH" in caught.value.do
    told = to_picture(frame, None, "x", Window("0..80", 0.0, 80.0)).notes
    assert told == ("grey by the given window 0..80, 0 to 80",)


def test_a_window_in_hu_refuses_values_that_are_none() -> None:
    with pytest.raises(InputRefused, match="not HU"):
        to_picture(measured(dicom_bytes(Modality="MR")), parse_window("brain"), "x")


def test_a_given_window_never_overrides_the_bundles(tiny_bundle: Path) -> None:
    with_window(tiny_bundle, HU)
    with pytest.raises(UsageError, match="learned through the window brain"):
        Detector.load(tiny_bundle, window=parse_window("percentile"))


def test_a_detector_shows_each_head_its_own_window(tiny: ModuleType, tiny_bundle: Path) -> None:
    with_window(tiny_bundle, HU)
    data = dicom_bytes(WindowCenter=0, WindowWidth=4000)
    result = Detector.load(tiny_bundle)(data, name="ct")
    values = read_values(read_header(data, "x")).values
    np.testing.assert_array_equal(result.image[:, :, 0], np.rint(np.clip(values / 80, 0, 1) * 255))
    assert result.spacing_mm is None and result.file == "ct"


def test_percentiles_of_a_series_are_taken_over_all_of_it(tmp_path: Path) -> None:
    paths = []
    for k in range(3):
        path = tmp_path / f"{k}.dcm"
        path.write_bytes(dicom_bytes(seed=k, SeriesInstanceUID="1.2", RescaleIntercept=100 * k - 1024))
        paths.append(path)
    headers = [read_header(path, path.name) for path in paths]
    (series,) = group_series(headers)
    notes = {to_picture(dicom_frame(item, series), Window("percentile"), "x").notes[0] for item in series.files}
    assert len(notes) == 1 and "over the 3 files of its series" in notes.pop()
    alone = to_picture(dicom_frame(headers[0], Series.of(headers[:1])), Window("percentile"), "x").notes[0]
    assert "over this file" in alone


def test_a_series_folder_is_done_by_position_where_its_first_file_stands(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, z in (("b", 3), ("c", 1), ("e", 2)):
        place = {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        (folder / f"{name}.IM").write_bytes(dicom_bytes(SeriesInstanceUID="1.2", **place))
    for name in ("a.png", "d.png"):
        (folder / name).write_bytes(b"x")
    (folder / "notes.txt").write_text("no image")
    finder = Finder(tmp_path / "out")
    jobs = list(finder.jobs([str(folder)]))
    assert [job.source.name for job in jobs] == ["a.png", "c.IM", "e.IM", "b.IM", "d.png"] and finder.skipped == 1
    assert [job.stem.name for job in jobs] == ["a", "c.IM", "e.IM", "b.IM", "d"]
    frame = jobs[2].load()
    assert isinstance(frame, Measured) and frame.notes == ("slice 2 of 3 of its series, by position",)


def test_files_of_a_series_without_positions_come_as_found_and_that_is_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(dicom_bytes(SeriesInstanceUID="1.2"))
    first, _ = Finder(tmp_path / "out").jobs([str(tmp_path)])
    frame = first.load()
    assert isinstance(frame, Measured) and "as found: the files have no common positions" in frame.notes[0]


def jobs_of(path: Path, axis: int = 2, slices: str | None = None) -> list[Job]:
    return list(Finder(path.parent / "out", SliceChoice.parse(axis, slices)).jobs([str(path)]))


@pytest.mark.parametrize(("axis", "count"), [(0, 12), (1, 14), (2, 16)])
def test_a_volume_gives_a_job_a_slice(tmp_path: Path, axis: int, count: int) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(nifti_bytes((12, 14, 16)))
    jobs = jobs_of(path, axis)
    assert len(jobs) == count
    assert jobs[3].name == f"{path}[axis={axis},slice=3]" and jobs[3].stem.name == f"v.axis{axis}-0003"
    assert [job.name for job in jobs_of(path, axis, "3:5")] == [job.name for job in jobs[3:5]]
    assert [job.name for job in jobs_of(path, axis, "3")] == [jobs[3].name]
    (refused,) = jobs_of(path, axis, "40:")
    assert refused.refusal is not None and f"has {count} slices" in refused.refusal.why


def test_a_slice_is_what_preparing_it_for_training_gives(tmp_path: Path) -> None:
    """The promise of the ground floor: one piece of code, one picture."""
    from madclip.prepare.nifti import Volume, scan, slice_pixels
    from madclip.prepare.sample import Findings

    path, labels = tmp_path / "v.nii", tmp_path / "l.nii"
    path.write_bytes(nifti_bytes((12, 14, 16)))
    empty = bytearray(nifti_bytes((12, 14, 16)))
    empty[352:] = bytes(len(empty) - 352)
    labels.write_bytes(bytes(empty))
    volume = Volume("v", path, labels, ())
    for window in (parse_window("brain"), Window("percentile")):
        seen = scan(volume, 1, window, Findings())
        wanted = slice_pixels(volume, 1, 5, seen.low, seen.high).image
        got = to_picture(nifti_frame(path, 1, 5), window, "x")
        np.testing.assert_array_equal(got.pixels[:, :, 0], wanted)
    assert got.spacing_mm == (2.0, 1.0)


def test_spacing_follows_rows_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(nifti_bytes())
    assert [nifti_frame(path, axis, 1).spacing_mm for axis in (0, 1, 2)] == [(2.0, 1.5), (2.0, 1.0), (1.5, 1.0)]
    assert read_volume(path).spacing_mm == (1.0, 1.5, 2.0)
    frame = measured(dicom_bytes(PixelSpacing=[0.5, 0.25]))
    assert frame.spacing_mm == (0.5, 0.25)


def test_a_damaged_volume_is_refused_once_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(nifti_bytes()[:-100])
    (job,) = jobs_of(path)
    assert job.refusal is not None and "promises" in job.refusal.why


def test_without_a_library_the_file_is_refused_with_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    (tmp_path / "v.nii").write_bytes(nifti_bytes())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputRefused, match=r"madclip-runtime\[dicom\]"):
        read_frame(dicom_bytes(), "x")
    (job,) = jobs_of(tmp_path / "v.nii")
    assert job.refusal is not None and job.refusal.do == 'pip install "madclip-runtime[nifti]"'


@pytest.mark.parametrize("text", ["", "a", "1:2:3", "5:5", "-1", "7:3", "1:-2"])
def test_a_wrong_range_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--slices"):
        SliceChoice.parse(2, text)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 8), st.integers(8, 20), st.integers(8, 20))
def test_a_map_goes_back_to_the_files_own_rows_and_columns(orientation: int, height: int, width: int) -> None:
    stored = noise(height, width)
    np.testing.assert_array_equal(as_stored(upright(stored, orientation)[:, :, 0], orientation), stored[:, :, 0])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_the_orientation_that_was_undone_is_said(kind: str) -> None:
    assert [read_image(oriented(noise(), turn, kind)).orientation for turn in range(1, 9)] == list(range(1, 9))


@pytest.mark.shared
def test_real_dicom_and_nifti_are_read_or_refused_by_name(shared: Path, tmp_path: Path) -> None:
    """The table in docs/result.md."""
    refused = {}
    read = 0
    for job in Finder(tmp_path).jobs([str(shared / "images" / "dicom"), str(shared / "images" / "nifti")]):
        try:
            if job.refusal is not None:
                raise job.refusal
            read += to_picture(job.load(), None, job.name).pixels.shape[2] == 3
        except InputRefused as error:
            refused.setdefault(job.source.name, error.why)
    assert read == 23
    assert "no linear window" in refused["CT_small.dcm"] and "more than one frame" in refused["eCT_Supplemental.dcm"]
    assert len(refused) == 2 + 5
