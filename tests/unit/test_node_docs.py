"""docs/conformance.md and docs/hospital.md are what a hospital's people read: they say what the code does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from madclip_runtime import dicom
from madclip_runtime.node import codes, config, rules

ROOT = Path(__file__).resolve().parents[2]
HOSPITAL = (ROOT / "docs" / "hospital.md").read_text(encoding="utf-8")
CONFORMANCE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
ORTHANC = (ROOT / "runtime" / "orthanc" / "config" / "orthanc.json").read_text(encoding="utf-8")


def test_accepted_read_and_written_down_are_the_same_transfer_syntaxes() -> None:
    told = set(re.findall(r"^\| (1\.2\.840\.10008\.1\.2[.0-9]*) \|", CONFORMANCE, re.MULTILINE))
    (listed,) = re.findall(r'"AcceptedTransferSyntaxes" : \[(.+?)\]', ORTHANC, re.DOTALL)
    assert told == set(re.findall(r'"([0-9.]+)"', listed)) == set(dicom._SYNTAXES)


@pytest.mark.parametrize("kind", [config.Settings, config.OrthancAccess, rules.Rule])
def test_each_word_of_the_config_is_explained(kind: type) -> None:
    words = {item.name.replace("_", "-") for item in dataclasses.fields(kind)} - {"name"}
    assert [word for word in sorted(words) if f"`{word}`" not in HOSPITAL] == []


def test_defaults_are_those_of_the_code() -> None:
    node = config.Settings("b", "s")
    for words in (
        f"| `poll-s`, `sweep-s` | {node.poll_s:g}, {node.sweep_s:g} |",
        f"| `queue` | {node.queue} |",
        f"| `free-gb` | {node.free_gb:g} |",
        f"| `tries` | {node.tries} |",
        f"`timeout-s` ({config.OrthancAccess().timeout_s:g})",
        f"| `overlays` | {rules.Rule('r', '*').overlays} |",
        f"| `images` | {rules.Rule('r', '*').images} |",
    ):
        assert words in HOSPITAL, words


def test_each_code_of_ours_is_in_the_statement() -> None:
    for value, scheme, _ in codes._CODES.values():
        assert (f"`{value}`" if scheme == codes.SCHEME else value) in CONFORMANCE, value


def test_each_setting_of_orthanc_that_the_docs_name_exists() -> None:
    ports = re.findall(r"MADCLIP_ORTHANC_([A-Z_]+)", HOSPITAL)
    known = set(re.findall(r"\$\{MADCLIP_ORTHANC_([A-Z_]+)", ORTHANC))
    assert ports and set(ports) <= known


def test_sop_classes_are_those_that_are_written() -> None:
    uid = pytest.importorskip("pydicom.uid")
    for name in ("SecondaryCaptureImageStorage", "ComprehensiveSRStorage", "SegmentationStorage"):
        assert str(getattr(uid, name)) in CONFORMANCE
