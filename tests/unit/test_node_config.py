"""The node's file and rules: what fits, and that anything wrong in it is one line that names it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madclip_runtime.errors import UsageError
from madclip_runtime.node.config import Config, OrthancAccess
from madclip_runtime.node.identity import key_of, uid_of
from madclip_runtime.node.rules import Rule, is_ours

GOOD = """
# a comment
[node]
bundle = /opt/madclip/model.madclip
state = /var/lib/madclip-node
certificates = /a.pem /b.pem
[orthanc]
url = https://orthanc.example:8043
timeout-s = 5
[rule ct of the lung]
modality = CT
body-part = CHEST|LUNG*
description = *1.0*
head = lung
objects = sc sr
overlays = 5
[rule rest]
modality = *
"""


def read(text: str, tmp_path: Path) -> Config:
    path = tmp_path / "node.ini"
    path.write_text(text, encoding="utf-8")
    return Config.read(path)


def test_a_whole_file(tmp_path: Path) -> None:
    config = read(GOOD, tmp_path)
    assert config.node.certificates == ("/a.pem", "/b.pem") and config.orthanc.timeout_s == 5.0
    first, second = config.rules
    assert (first.name, first.head, first.objects, first.overlays) == ("ct of the lung", "lung", ("sc", "sr"), 5)
    assert (second.modality, second.body_part, second.objects) == ("*", "*", ("sc", "seg", "sr"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("bundle =", "bundel =", "bundel"),
        ("state = /var/lib/madclip-node", "", "state is missing"),
        ("modality = CT", "", "modality is missing"),
        ("timeout-s = 5", "timeout-s = soon", "no number"),
        ("timeout-s = 5", "timeout-s = nan", "no number"),
        ("timeout-s = 5", "timeout-s = 0", "out of range"),
        ("overlays = 5", "overlays = 0", "overlays"),
        ("objects = sc sr", "objects = pdf", "objects"),
        ("objects = sc sr", "objects =", "objects"),
        ("https://", "http://", "https"),
        ("https://", "https://me:secret@", "password"),
        ("https://", "ftp://", "ftp"),
        ("[rule rest]", "[rule ct of the lung ]", "one name"),
        ("[rule rest]", "[rest]", "no section"),
        ("[rule rest]", "[rule rest]\nname = x", "name in the brackets"),
        ("[rule rest]", "modality = MR", "modality"),
        ("certificates", "queue = 0\ncertificates", "queue"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, told: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=told) as refused:
        read(GOOD.replace(old, new), tmp_path)
    assert "\n" not in refused.value.line()


def test_a_file_without_rules_or_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing would be done"):
        read(GOOD.partition("[rule")[0], tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        Config.read(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    with pytest.raises(UsageError):
        Config.read(tmp_path / "binary")


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="[]=rule node\n:;#%x0", max_size=80))
def test_no_text_ends_in_anything_but_a_config_or_a_refusal(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            assert read(text, Path(folder)).rules
        except UsageError as error:
            assert "\n" not in error.line()


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_password_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("s3cret\n")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="everybody"):
        OrthancAccess(password_file=str(path)).password()
    path.chmod(0o640)
    assert OrthancAccess(password_file=str(path)).password() == "s3cret"


@pytest.mark.parametrize(
    ("tags", "fits"),
    [
        ({"Modality": "CT", "BodyPartExamined": "LUNG2", "SeriesDescription": "axial 1.0 soft"}, True),
        ({"Modality": "ct ", "BodyPartExamined": "chest", "SeriesDescription": " AXIAL 1.0"}, True),
        ({"Modality": "CT", "BodyPartExamined": "HEAD", "SeriesDescription": "axial 1.0"}, False),
        ({"Modality": "MR", "BodyPartExamined": "CHEST", "SeriesDescription": "axial 1.0"}, False),
        ({"Modality": "CT", "BodyPartExamined": "CHEST"}, False),
        ({}, False),
    ],
)
def test_what_a_rule_fits(tags: dict[str, str], fits: bool) -> None:
    assert Rule("r", "CT", "CHEST|LUNG*", "*1.0*").fits(tags) is fits


def test_results_are_never_sources() -> None:
    assert is_ours({"Manufacturer": "madclip"}) and not is_ours({"Manufacturer": "ACME"}) and not is_ours({})


@given(st.lists(st.text(), max_size=5), st.randoms())
def test_a_key_does_not_depend_on_the_order_of_images(instances: list[str], shuffle: object) -> None:
    mixed = list(instances)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    assert key_of(instances, "digest", 0.5) == key_of(mixed, "digest", 0.5)


def test_whatever_changes_the_result_changes_the_key() -> None:
    rule, images = Rule("r", "CT"), ["a", "b"]
    keys = {
        rule.key(images, "digest", 0.5),
        rule.key(["a"], "digest", 0.5),
        rule.key(images, "other", 0.5),
        rule.key(images, "digest", 0.6),
        rule.key(images, "digest", None),
        Rule("r", "CT", head="x").key(images, "digest", 0.5),
        Rule("r", "CT", window="percentile").key(images, "digest", 0.5),
        Rule("r", "CT", objects=("sc",)).key(images, "digest", 0.5),
        Rule("r", "CT", overlays=4).key(images, "digest", 0.5),
    }
    assert len(keys) == 9


@given(st.text(), st.sampled_from(["sc", "seg", "sr"]), st.integers(0, 99))
def test_uids_are_uids_and_always_the_same(key: str, role: str, number: int) -> None:
    uid = uid_of(key, role, number)
    assert uid == uid_of(key, role, number) and uid.startswith("2.25.") and len(uid) <= 64
    assert uid.replace(".", "").isdigit() and not uid.split(".")[2].startswith("0")


def test_uids_never_change_between_versions() -> None:
    """What was stored under them would be stored again."""
    assert key_of(["a", "b"], "digest", "head", 0.5) == "c0a6909b027f6056f07751ad729a8217"
    assert uid_of("0" * 32, "sr", 1) == "2.25.242364866258944493772430764420846112109"
