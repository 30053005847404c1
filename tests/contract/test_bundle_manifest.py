"""manifest.json: written the same each time, read strictly; docs/bundle.md is this contract in words."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madclip_runtime.manifest import (
    FORMAT,
    FORMAT_VERSION,
    IMAGE_SCORE_RULES,
    NOTICE,
    PRECISIONS,
    Calibration,
    DataCard,
    EncoderCard,
    FileEntry,
    Gate,
    Head,
    InputContract,
    Manifest,
    OperatingPoint,
    Proportion,
)
from madclip_runtime.schema import SchemaError, encode
from madclip_runtime.window import Window

PROPERTY = settings(max_examples=80, deadline=None, derandomize=True, database=None)
HALF = Proportion(k=8, n=16, value=0.5, low=0.25, high=0.75)
POINTS_OF_BRAIN = Calibration(
    "40 normal, 40 abnormal", {"balanced": OperatingPoint(0.41, HALF, HALF)}, "balanced", {"sens95": "few"}
)
DATA = DataCard("phantoms", "bce", True, 16, 16, True, 20, 111, Window("brain", 0.0, 80.0))
FULL = Manifest(
    model_id="brain-1",
    precision="fp16",
    input=InputContract(240, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
    encoder=EncoderCard("nano", "random:7", "ab" * 32, True, (6, 12)),
    heads={"brain": Head("blend", POINTS_OF_BRAIN, DATA, "cd" * 32, 0.25, 4.0, 1e-6)},
    gates=(Gate("score", "torch fp32", "onnxruntime-cpu", 24, True, {"max": 1e-6}, {"max": 1e-4}, "brain"),),
    versions={"torch": "2"},
    files={"model.onnx": FileEntry("ef" * 32, 123)},
    notices=(NOTICE, "synthetic"),
)
FREE = (
    *("$.versions.", "$.files.", "$.heads.", "$.heads.brain.calibration.points."),
    *("$.heads.brain.calibration.refused.",),
    *("$.gates[0].measured.", "$.gates[0].limits."),
)
"""Below these, keys are names, not fields."""
OPTIONAL = {
    *("$.input.resize", "$.input.sixteen_bit", "$.notices"),
    *(f"$.heads.brain.calibration.{name}" for name in ("points", "default", "refused")),
    *(f"$.heads.brain.{name}" for name in ("map_share", "map_smoothing_px", "score_error", "data.window")),
    *("$.heads.brain.data.window.low", "$.heads.brain.data.window.high", "$.degraded", "$.gates[0].head"),
    *("$.quantisation", "$.encoder.licence"),
}
BALANCED = "$.heads.brain.calibration.points.balanced"
WRONG: dict[type, object] = {str: 5, int: "5", float: "0.5", bool: "true", dict: [], list: {}}


def nodes(value: Any, path: str = "$") -> Iterator[str]:
    """The path of every value in parsed JSON, the whole left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        below = f"{path}.{key}" if isinstance(value, dict) else f"{path}[{key}]"
        yield below
        yield from nodes(item, below)


def parent(document: Any, path: str) -> tuple[Any, Any]:
    """The object or list that holds `path`, and the key or index in it."""
    steps: list[Any] = []
    for part in path.removeprefix("$.").split("."):
        if "[" in part and part.endswith("]"):
            name, index = part[:-1].split("[")
            steps += [name, int(index)]
        else:
            steps.append(part)
    for step in steps[:-1]:
        document = document[step]
    return document, steps[-1]


def plain() -> Any:
    """FULL as parsed JSON, in which no file name holds a dot, so that paths can be split at dots."""
    document = encode(copy.deepcopy(FULL))
    document["files"] = {"model": document["files"]["model.onnx"]}
    return document


PATHS = [path for path in nodes(plain()) if path not in ("$.format", "$.format_version")]
KEYS = [path for path in PATHS if not path.endswith("]")]


def refused(document: Any) -> str:
    with pytest.raises(SchemaError) as caught:
        Manifest.from_json(json.dumps(document).encode())
    return str(caught.value)


def test_round_trip_is_byte_identical() -> None:
    data = FULL.to_json()
    assert Manifest.from_json(data) == FULL
    assert Manifest.from_json(data).to_json() == data
    assert data.endswith(b"}\n") and json.loads(data)["format"] == FORMAT


def test_the_bytes_do_not_depend_on_the_order_of_making() -> None:
    versions = {"torch": "2", "onnx": "1"}
    one = replace(FULL, versions=versions)
    two = replace(FULL, versions=dict(reversed(versions.items())))
    assert list(one.versions) != list(two.versions) and one.to_json() == two.to_json()


@pytest.mark.parametrize("path", PATHS)
def test_every_value_of_another_type_is_refused_with_its_path(path: str) -> None:
    document = plain()
    holder, key = parent(document, path)
    holder[key] = WRONG[type(holder[key])]
    assert path in refused(document)


@pytest.mark.parametrize("path", [path for path in KEYS if path not in OPTIONAL])
def test_every_absent_key_is_refused_with_its_path(path: str) -> None:
    name_not_field = any(path.startswith(free) and "." not in path[len(free) :] for free in FREE)
    document = plain()
    holder, key = parent(document, path)
    del holder[key]
    if not name_not_field:
        assert f"{path} is missing" in refused(document)
    elif path.startswith("$.heads.brain.calibration.points"):
        assert "'balanced' is not among its points" in refused(document)
    elif path == "$.heads.brain":
        assert "there must be one" in refused(document)
    else:
        Manifest.from_json(json.dumps(document).encode())


def test_absent_optional_keys_mean_their_defaults() -> None:
    document = plain()
    del document["notices"], document["input"]["resize"], document["input"]["sixteen_bit"]
    for key in ("points", "default", "refused"):
        del document["heads"]["brain"]["calibration"][key]
    read = Manifest.from_json(json.dumps(document).encode())
    assert (read.notices, read.heads["brain"].calibration) == ((NOTICE,), Calibration(POINTS_OF_BRAIN.reason))
    assert read.input == FULL.input


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 10**400])
@pytest.mark.parametrize(
    "path", ["$.input.mean[0]", "$.heads.brain.calibration.points.balanced.threshold", "$.gates[0].limits.max"]
)
def test_numbers_must_be_finite(path: str, value: float) -> None:
    document = plain()
    holder, key = parent(document, path)
    holder[key] = value
    assert f"{path} must be finite" in refused(document)


def test_a_manifest_with_nan_is_not_even_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Manifest(**{**vars(FULL), "gates": (Gate("g", "r", "e", 1, True, {"max": float("nan")}, {}),)}).to_json()


@pytest.mark.parametrize("version", [0, 1, 3, "1", None, [1], True])
def test_other_format_versions_are_refused(version: object) -> None:
    message = refused({**plain(), "format_version": version})
    assert "version" in message
    if version is not True:  # equal to 1 in Python, and refused as a bool
        assert f"this runtime reads version {FORMAT_VERSION}" in message


@pytest.mark.parametrize("kind", ["madclip-checkpoint", None, 7])
def test_other_formats_are_refused(kind: object) -> None:
    assert refused({**plain(), "format": kind}) == f"not a {FORMAT} manifest"


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("$.heads.brain.image_score", "mean", "image_score must be one of"),
        ("$.heads.brain.map_share", 1.5, "out of range"),
        ("$.heads.brain.map_smoothing_px", -1, "out of range"),
        ("$.gates[0].passed", False, "degraded does not say why"),
        ("$.heads", {}, "there must be one"),
        ("$.heads", {"../x": 5}, "$.heads.../x"),
        ("$.precision", "int4", "precision must be one of"),
        ("$.input.size", 15, "16–2048"),
        ("$.input.size", 2049, "16–2048"),
        ("$.input.resize", "nearest", "names a rule this runtime does not have"),
        ("$.input.sixteen_bit", "high-byte", "names a rule this runtime does not have"),
        (f"{BALANCED}.threshold", 1.01, f"{BALANCED}: threshold must be in 0–1"),
        (f"{BALANCED}.threshold", -1, f"{BALANCED}: threshold must be in 0–1"),
        ("$.heads.brain.calibration.default", "other", "'other' is not among its points"),
        ("$.notices", [], "notices must begin with 'research use, not a medical device'"),
        ("$.notices", ["approved"], "notices must begin with"),
    ],
)
def test_values_outside_their_range_are_refused(path: str, value: object, word: str) -> None:
    document = plain()
    holder, key = parent(document, path)
    holder[key] = value
    assert word in refused(document)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe\x00", b"\x80", b"9" * 6000, b"{}" * 2],
    ids=["empty", "cut", "null", "list", "string", "half utf-16", "not utf-8", "digits", "two documents"],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(SchemaError):
        Manifest.from_json(data)


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_deep_nesting_does_not_crash(brackets: str) -> None:
    opening = '{"a":' if brackets == "{}" else "["
    deep = opening * 200_000 + "1" + brackets[1] * 200_000
    with pytest.raises(SchemaError, match="not JSON"):
        Manifest.from_json(deep.encode())
    with pytest.raises(SchemaError):
        Manifest.from_json(json.dumps(plain())[:-1].encode() + f',"later":{deep}}}'.encode())


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**62)
TEXTS = st.text(max_size=20)
SHARES = st.builds(Proportion, COUNTS, COUNTS, NUMBERS, NUMBERS, NUMBERS)
POINTS = st.dictionaries(TEXTS, st.builds(OperatingPoint, st.floats(0, 1), SHARES, SHARES), max_size=2)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    points = draw(POINTS)
    refused = draw(st.dictionaries(TEXTS, TEXTS, max_size=2))
    return Calibration(draw(TEXTS), points, draw(st.sampled_from([None, *points])), refused)


TRIPLES = st.tuples(NUMBERS, NUMBERS, NUMBERS)
TABLES = st.dictionaries(TEXTS, NUMBERS, max_size=3)
SHARES = st.floats(0, 1)
WINDOWS = st.none() | st.builds(Window, TEXTS, st.none() | NUMBERS, st.none() | NUMBERS)
HEADS = st.builds(
    Head,
    st.sampled_from(IMAGE_SCORE_RULES),
    calibrations(),
    st.builds(DataCard, TEXTS, TEXTS, st.booleans(), COUNTS, COUNTS, st.booleans(), COUNTS, COUNTS, WINDOWS),
    TEXTS,
    SHARES,
    st.floats(0, 64),
    SHARES,
)
MANIFESTS = st.builds(
    Manifest,
    model_id=TEXTS,
    precision=st.sampled_from(PRECISIONS),
    input=st.builds(InputContract, st.integers(16, 2048), TRIPLES, TRIPLES),
    encoder=st.builds(EncoderCard, TEXTS, TEXTS, TEXTS, st.booleans(), st.lists(COUNTS, max_size=4).map(tuple)),
    heads=st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True), HEADS, min_size=1, max_size=3),
    gates=st.lists(st.builds(Gate, TEXTS, TEXTS, TEXTS, COUNTS, st.just(True), TABLES, TABLES), max_size=2).map(tuple),
    versions=st.dictionaries(TEXTS, TEXTS, max_size=3),
    files=st.dictionaries(TEXTS, st.builds(FileEntry, TEXTS, COUNTS), max_size=3),
    notices=st.lists(TEXTS, max_size=2).map(lambda more: (NOTICE, *more)),
)


@PROPERTY
@given(MANIFESTS)
def test_any_manifest_survives_the_round_trip(manifest: Manifest) -> None:
    data = manifest.to_json()
    assert Manifest.from_json(data) == manifest
    assert Manifest.from_json(data).to_json() == data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@PROPERTY
@given(st.sampled_from(PATHS), JSON)
def test_any_value_in_any_place_is_read_or_refused(path: str, value: object) -> None:
    document = plain()
    holder, key = parent(document, path)
    holder[key] = value
    try:
        Manifest.from_json(json.dumps(document).encode())
    except SchemaError as error:
        assert str(error)


def test_the_page_names_every_field() -> None:
    """docs/bundle.md is what a stranger's reader is written from."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")
    fields = {path.rsplit(".", 1)[-1] for path in KEYS if not path.startswith(FREE)}
    assert {field for field in fields if not re.search(rf"[`.]{field}[`.]", page)} == set()
