"""From a modality to Orthanc, through the node, and back into the same study; by real peers, with our own config."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pacs_peers import Node, Peers, audit_of, dicom_errors, need, receiving, until
from phantom_dicom import phantom_series, study_uid

pytestmark = pytest.mark.slow

WITHIN_S = 30
RULES = """
[rule head]
modality = MR
body-part = HEAD
description = *axial*
window = 0,4095
overlays = 2
[rule plain film]
modality = CR
window = 0,4095
[rule body]
modality = CT
window = -160,240
"""
MR, CR, ELSE, BROKEN = 1, 2, 3, 4


@dataclass
class Sent:
    """files: by study number. seconds: from the last file sent to all results there."""

    peers: Peers
    node: Node
    received: Path
    files: dict[int, list[Path]] = field(default_factory=dict)
    seconds: float = 0.0


@pytest.fixture(scope="module")
def sent(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """Four studies sent, and all that is to be done with them done."""
    need("Orthanc", "storescu", "findscu", "storescp", "dciodvfy")
    folder = tmp_path_factory.mktemp("pacs")
    peers = Peers(folder)
    node = Node(peers, tiny.write_tiny_bundle(folder / "tiny.madclip"), rules=RULES, send_to="pacs")
    with receiving(peers.pacs, folder / "received"):
        try:
            peers.start()
            node.start()
            sent = Sent(peers, node, folder / "received")
            _send_all(sent)
            yield sent
        finally:
            node.stop()
            peers.stop()


def _send_all(sent: Sent) -> None:
    series = {
        MR: phantom_series(MR, count=3, abnormal=True),
        CR: phantom_series(CR, count=1, kind="CR"),
        ELSE: phantom_series(ELSE, count=1, BodyPartExamined="FOOT"),
        BROKEN: phantom_series(BROKEN, count=1, NumberOfFrames=2),
    }
    for number, contents in series.items():
        for place, content in enumerate(contents):
            path = sent.peers.folder / f"{number}-{place}.dcm"
            path.write_bytes(content)
            sent.files.setdefault(number, []).append(path)
    for files in sent.files.values():
        sent.peers.send(files)
    start = time.monotonic()
    until(lambda: len(audit_of(sent.node)) == len(series), WITHIN_S, "an audit line a study")
    sent.seconds = time.monotonic() - start


def test_within_30_seconds_the_study_holds_the_new_series(sent: Sent) -> None:
    found = sent.peers.results()
    kinds = {study: {kind: len(instances) for kind, instances in of.items()} for study, of in found.items()}
    assert kinds == {study_uid(MR): {"OT": 2, "SEG": 1, "SR": 1}, study_uid(CR): {"OT": 1, "SR": 1}}
    print(f"results {sent.seconds:.1f} s after the last image")


def test_findscu_and_qido_see_them(sent: Sent) -> None:
    assert (
        sent.peers.found_by_findscu(study_uid(MR))
        == sent.peers.found_by_qido(study_uid(MR))
        == ["MR", "OT", "SEG", "SR"]
    )
    assert sent.peers.found_by_findscu(study_uid(CR)) == sent.peers.found_by_qido(study_uid(CR)) == ["CR", "OT", "SR"]


def test_dciodvfy_finds_no_error_in_what_was_written(sent: Sent, tmp_path: Path) -> None:
    looked = 0
    for of in sent.peers.results().values():
        for instance in (one for instances in of.values() for one in instances):
            path = tmp_path / f"{looked}.dcm"
            path.write_bytes(sent.peers.get(f"/instances/{instance}/file"))
            assert dicom_errors(path) == []
            looked += 1
    assert looked == 6


def test_the_report_is_of_that_patient_and_says_what_it_is(sent: Sent) -> None:
    (report,) = sent.peers.results()[study_uid(MR)]["SR"]
    data = pydicom.dcmread(io.BytesIO(sent.peers.get(f"/instances/{report}/file")))
    assert (data.PatientName, data.StudyInstanceUID) == (f"Phantom^{MR}", study_uid(MR))
    assert data.VerificationFlag == "UNVERIFIED" and data.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    text = data.to_json()
    assert "anomaly score of an image" in text and "research use, not a medical device" in text


def test_the_hospitals_pacs_gets_the_same_objects_once(sent: Sent) -> None:
    of_all = [one for of in sent.peers.results().values() for instances in of.values() for one in instances]
    stored = {pydicom.dcmread(io.BytesIO(sent.peers.get(f"/instances/{one}/file"))).SOPInstanceUID for one in of_all}
    received = [pydicom.dcmread(path).SOPInstanceUID for path in sent.received.iterdir()]
    assert sorted(received) == sorted(stored)


def test_one_audit_line_a_study_without_anything_of_the_patient(sent: Sent) -> None:
    lines = audit_of(sent.node)
    ends = sorted(str([job["end"] for job in line["jobs"]]) for line in lines)
    assert ends == ["['aside']", "['done']", "['done']", "[]"]
    assert [job["refused"] for line in lines for job in line["jobs"] if job["end"] == "aside"] == ["InputRefused"]
    told = json.dumps(lines) + sent.node.log.read_text()
    assert all(word not in told for word in ("Phantom", "PHANTOM", "20260101", study_uid(MR), "phantom axial"))


def test_what_was_set_aside_is_named_and_can_be_taken_back(sent: Sent) -> None:
    status = json.loads(sent.node.call("status", "--json").stdout)
    (aside,) = status["aside"]
    assert (aside["rule"], aside["name"]) == ("head", "InputRefused") and "more than one frame" in aside["why"]
    assert "1 job(s)" in sent.node.call("retry", aside["job"]).stderr
    until(lambda: sent.node.counts()["aside"] == 1, 20, "it is set aside again")


def test_the_doctor_finds_all_well_and_says_what_is_set_aside(sent: Sent) -> None:
    until(lambda: sent.node.counts()["aside"] == 1, 20, "the last test's job came to its end")
    done = sent.node.call("doctor", "--json")
    checks = {check["name"]: check["verdict"] for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    assert (
        checks["C-ECHO to Orthanc"] == checks["C-ECHO to pacs"] == checks["disk"] == "ok" and checks["queue"] == "note"
    )


def test_a_second_node_is_refused(sent: Sent) -> None:
    done = sent.node.call("run")
    assert done.returncode == 2 and "another madclip-node" in done.stderr


def test_a_second_send_makes_nothing_new(sent: Sent) -> None:
    before, lines = sent.peers.results(), len(audit_of(sent.node))
    sent.peers.send(sent.files[MR])
    time.sleep(14)  # longer than Orthanc takes to call a study stable
    assert sent.peers.results() == before and len(audit_of(sent.node)) == lines


@pytest.mark.shared
def test_a_real_ct_series(sent: Sent, shared: Path, tmp_path: Path) -> None:
    files = _ct_series(shared / "images" / "dicom" / "ct_series", tmp_path)
    sent.peers.send(files, "-xv")
    start = time.monotonic()
    of = until(
        lambda: sent.peers.results().get(_CT_STUDY, {}).get("SR") and sent.peers.results()[_CT_STUDY], WITHIN_S, "CT"
    )
    print(f"{len(files)} CT slices: results {time.monotonic() - start:.1f} s after the last")
    assert set(of) == {"OT", "SEG", "SR"}
    for number, instance in enumerate(one for instances in of.values() for one in instances):
        path = tmp_path / f"{number}.result"
        path.write_bytes(sent.peers.get(f"/instances/{instance}/file"))
        assert dicom_errors(path) == []


_CT_STUDY = study_uid(900)


def _ct_series(folder: Path, into: Path) -> list[Path]:
    """Copies with the UIDs that those files' owners emptied, for without them nobody can send anything."""
    if not folder.is_dir():
        pytest.skip("no ct_series in ../shared/images/dicom: a real CT series was NOT sent")
    made = []
    for number, path in enumerate(sorted(folder.iterdir())):
        data = pydicom.dcmread(path)
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        data.StudyInstanceUID, data.SeriesInstanceUID = _CT_STUDY, f"{_CT_STUDY}.1"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
        made.append(into / f"{number:03d}.dcm")
        data.save_as(made[-1], enforce_file_format=True)
    return made
