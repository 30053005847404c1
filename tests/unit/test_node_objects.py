"""What the node writes: the right pixels at the right images, the right numbers, and a reason for what is left out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from phantom_dicom import phantom_series, study_uid

from madclip_runtime.detector import Detector
from madclip_runtime.errors import InputRefused
from madclip_runtime.node.captures import _orientation
from madclip_runtime.node.findings import Findings, examine
from madclip_runtime.node.objects import Written, make_objects, uids_of
from madclip_runtime.node.rules import Rule
from madclip_runtime.window import parse_window

pytest.importorskip("highdicom", reason="highdicom is not installed: the node's objects were NOT made")
pydicom = pytest.importorskip("pydicom")
KEY = "0123456789abcdef" * 2
RULE = Rule("all", "*", window="0,4095", overlays=2)


def written(
    bundle: Path, folder: Path, contents: list[bytes], rule: Rule = RULE
) -> tuple[Findings, Written, dict[str, list[Any]]]:
    """Findings, what was written, and its data sets by modality."""
    files = []
    for number, content in enumerate(contents):
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(content)
    findings = examine(files, Detector.load(bundle, window=parse_window(rule.window)), rule.overlays, batch=2)
    made = make_objects(KEY, rule, findings)
    kinds: dict[str, list[Any]] = {}
    for file in made.files:
        data = pydicom.dcmread(io.BytesIO(file))
        kinds.setdefault(data.Modality, []).append(data)
    return findings, made, kinds


def test_segment_frames_are_the_results_masks_at_their_images(tiny_bundle: Path, tmp_path: Path) -> None:
    contents = phantom_series(1, count=4, abnormal=True, size=64)
    contents[2] = phantom_series(1, count=4, size=64, PixelData=bytes(64 * 64 * 2))[2]  # black: nothing to mark
    _, _, kinds = written(tiny_bundle, tmp_path, contents)
    (seg,) = kinds["SEG"]
    detector = Detector.load(tiny_bundle, window=parse_window("0,4095"))
    frames = seg.pixel_array.reshape(-1, 64, 64)
    assert len(frames) == 3 == seg.NumberOfFrames
    by_uid = {str(pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID): content for content in contents}
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        mask = detector(by_uid[source]).mask
        assert mask is not None and mask.any()
        np.testing.assert_array_equal(frame.astype(bool), mask)
        place = pydicom.dcmread(io.BytesIO(by_uid[source])).ImagePositionPatient
        assert groups.PlanePositionSequence[0].ImagePositionPatient == place


def test_captures_are_the_overlays_of_the_highest_scores(tiny_bundle: Path, tmp_path: Path) -> None:
    findings, _, kinds = written(tiny_bundle, tmp_path, phantom_series(1, count=4, abnormal=True, size=64))
    captures = kinds["OT"]
    assert len(captures) == 2 and findings.highest in findings.overlays
    scores = sorted((image.score for image in findings.images), reverse=True)
    assert sorted((findings.images[place].score for place in findings.overlays), reverse=True) == scores[:2]
    for capture, (place, picture) in zip(captures, findings.overlays.items(), strict=True):
        np.testing.assert_array_equal(capture.pixel_array, picture)
        source = pydicom.dcmread(findings.images[place].source)
        assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert capture.PatientOrientation == ["L", "P"] and capture.Laterality == ""
        assert "research use" in capture.DerivationDescription


def test_the_report_says_score_threshold_decision_and_model(tiny_bundle: Path, tmp_path: Path) -> None:
    from highdicom.sr import ComprehensiveSR

    findings, _, kinds = written(tiny_bundle, tmp_path, phantom_series(1, count=3, abnormal=True, size=64))
    report = ComprehensiveSR.from_dataset(kinds["SR"][0])
    (highest, *_) = report.content.get_planar_roi_measurement_groups() or report.content.get_image_measurement_groups()
    numbers = {one.name.value: float(one.value) for one in highest.get_measurements()}
    best = findings.images[findings.highest]
    assert numbers == pytest.approx({"score": best.score, "threshold": 0.5}, abs=1e-6)
    (evaluation,) = highest.get_qualitative_evaluations()
    assert (evaluation.name.value, evaluation.value.value) == ("decision", best.decision)
    text = kinds["SR"][0].to_json()
    assert findings.detector.bundle.digest in text and "tiny-brightness" in text and "UNVERIFIED" in text


def test_all_of_one_study_under_uids_that_follow_from_the_key(tiny_bundle: Path, tmp_path: Path) -> None:
    contents = phantom_series(7, count=2, abnormal=True, size=64)
    _, first, kinds = written(tiny_bundle, tmp_path, contents)
    _, second, again = written(tiny_bundle, tmp_path, contents)
    for of, wanted in (("OT", "sc"), ("SEG", "seg"), ("SR", "sr")):
        uids = [data.SOPInstanceUID for data in kinds[of]]
        assert uids == [data.SOPInstanceUID for data in again[of]] == uids_of(KEY, RULE)[wanted]
        assert {data.StudyInstanceUID for data in kinds[of]} == {study_uid(7)}
        assert {data.Manufacturer for data in kinds[of]} == {"madclip"}
        assert {data.PatientID for data in kinds[of]} == {"PHANTOM7"}
    assert first.counts == second.counts == {"sc": 2, "seg": 1, "sr": 1}
    assert len({data.SeriesInstanceUID for of in kinds.values() for data in of}) == 3


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"kind": "CR"}, "no FrameOfReferenceUID"),
        ({"PixelSpacing": None}, "no PixelSpacing"),
        ({"ImagePositionPatient": [0, 0, 0]}, "in one place"),
        ({"PixelData": bytes(64 * 64 * 2)}, "no pixel reached"),
    ],
)
def test_no_segmentation_where_the_source_has_not_what_it_needs(
    fields: dict[str, Any], why: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    _, made, kinds = written(tiny_bundle, tmp_path, phantom_series(1, count=2, abnormal=True, size=64, **fields))
    assert set(kinds) == {"OT", "SR"} and why in made.left_out["seg"]


def test_an_uncalibrated_bundle_gives_scores_and_no_segmentation(tiny: Any, tmp_path: Path) -> None:
    bundle = tiny.write_tiny_bundle(tmp_path / "x.madclip", threshold=None)
    _, made, kinds = written(bundle, tmp_path, phantom_series(1, count=1, abnormal=True, size=64))
    assert set(kinds) == {"OT", "SR"} and "says nothing" in made.left_out["seg"]
    assert "uncalibrated" in kinds["SR"][0].to_json()


def test_only_what_the_rule_asks_for(tiny_bundle: Path, tmp_path: Path) -> None:
    rule = Rule("sr", "*", window="0,4095", objects=("sr",))
    _, made, kinds = written(tiny_bundle, tmp_path, phantom_series(1, count=1, size=64), rule)
    assert set(kinds) == {"SR"} and made.left_out == {}


def test_one_object_that_cannot_be_made_keeps_no_other_back(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ValueError("Doe^Jane is no date")

    contents = phantom_series(1, count=1, abnormal=True, size=64)
    monkeypatch.setattr("madclip_runtime.node.report.report", broken)
    _, made, kinds = written(tiny_bundle, tmp_path, contents)
    assert set(kinds) == {"OT", "SEG"} and made.left_out == {"sr": "can't be made of this source (ValueError)"}
    with pytest.raises(InputRefused, match="nothing could be written"):
        written(tiny_bundle, tmp_path, contents, Rule("sr", "*", window="0,4095", objects=("sr",)))


def test_nothing_to_mark_is_no_fault(tiny_bundle: Path, tmp_path: Path) -> None:
    rule = Rule("seg", "*", window="0,4095", objects=("seg",))
    _, made, _ = written(tiny_bundle, tmp_path, phantom_series(1, count=1, size=64, PixelData=bytes(64 * 64 * 2)), rule)
    assert made.files == [] and "no pixel reached" in made.left_out["seg"]


ODD = {
    "no patient": {"PatientID": None, "PatientName": None, "PatientSex": None, "PatientBirthDate": None},
    "empty dates": {"StudyDate": "", "StudyTime": ""},
    "long name": {"PatientName": "x" * 300},
    "odd words": {"StudyID": "x" * 40, "AccessionNumber": "y" * 40},
    "odd orientation": {"PatientOrientation": "?"},
    "odd laterality": {"Laterality": "both"},
    "odd age": {"PatientAge": "old", "PatientWeight": ""},
    "japanese": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "山田^太郎"},
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore")
def test_odd_headers_are_no_reason_to_write_nothing(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    contents = phantom_series(1, count=2, abnormal=True, size=64, **ODD[name])
    _, made, kinds = written(tiny_bundle, tmp_path, contents)
    assert made.counts == {"sc": 2, "seg": 1, "sr": 1} and kinds["SR"][0].StudyInstanceUID == study_uid(1)


@pytest.mark.parametrize("name", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.filterwarnings("ignore")
def test_an_image_nobody_can_refer_to_is_refused(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=name):
        written(tiny_bundle, tmp_path, phantom_series(1, count=1, size=64, **{name: ""}))


@pytest.mark.parametrize(
    ("directions", "letters"),
    [
        ([1, 0, 0, 0, 1, 0], ["L", "P"]),
        ([0, 1, 0, 0, 0, -1], ["P", "F"]),
        ([-0.9, 0.1, 0.2, 0.1, 0.2, 0.95], ["R", "H"]),
        ([1, 0], []),
    ],
)
def test_orientation_follows_the_main_direction(directions: list[float], letters: list[str]) -> None:
    assert _orientation({"ImageOrientationPatient": directions}) == letters


def test_orientation_of_a_plain_film_is_its_own_word() -> None:
    assert _orientation({"PatientOrientation": ["L", "F"]}) == ["L", "F"] and _orientation({}) == []
