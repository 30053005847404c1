"""The border between JSON and typed values, on a small type of its own; the manifest's tests use the real one."""

import json
from dataclasses import dataclass, field

import pytest

from madclip_runtime.schema import SchemaError, decode, encode


@dataclass(frozen=True)
class Inner:
    """A part with a rule of its own."""

    share: float

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError("share is over 1")


@dataclass(frozen=True)
class Outer:
    """Every kind of field that a manifest or a report uses."""

    name: str
    count: int
    flag: bool
    pair: tuple[float, float]
    many: tuple[Inner, ...]
    table: dict[str, Inner]
    maybe: str | None = None
    extra: dict[str, int] = field(default_factory=dict)


VALUE = Outer("a", 1, True, (0.0, 1.0), (Inner(0.5),), {"x": Inner(0.25)}, None, {"k": 2})


def test_round_trip() -> None:
    assert decode(Outer, json.loads(json.dumps(encode(VALUE), allow_nan=False))) == VALUE


def test_unknown_keys_are_ignored_and_defaults_fill_in() -> None:
    data = {**encode(VALUE), "later": {"version": 2}}
    del data["maybe"], data["extra"]
    assert decode(Outer, data) == Outer("a", 1, True, (0.0, 1.0), (Inner(0.5),), {"x": Inner(0.25)})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 3, r"\$\.name must be str, got int"),
        ("name", None, r"\$\.name must be str, got NoneType"),
        ("count", True, r"\$\.count must be int, got bool"),
        ("count", 1.0, r"\$\.count must be int, got float"),
        ("flag", 1, r"\$\.flag must be bool, got int"),
        ("pair", [1.0], r"\$\.pair must have 2 items"),
        ("pair", {"0": 1}, r"\$\.pair must be a list"),
        ("pair", [1.0, "2"], r"\$\.pair\[1\] must be float, got str"),
        ("pair", [1.0, False], r"\$\.pair\[1\] must be float, got bool"),
        ("pair", [1.0, float("nan")], r"\$\.pair\[1\] must be finite"),
        ("pair", [float("-inf"), 1.0], r"\$\.pair\[0\] must be finite"),
        ("pair", [10**400, 1.0], r"\$\.pair\[0\] must be finite"),
        ("many", [{}], r"\$\.many\[0\]\.share is missing"),
        ("many", [{"share": 2}], r"\$\.many\[0\]: share is over 1"),
        ("many", ["x"], r"\$\.many\[0\] must be an object"),
        ("table", [], r"\$\.table must be an object"),
        ("table", {"y": {"share": "much"}}, r"\$\.table\.y\.share must be float"),
        ("maybe", 5, r"\$\.maybe must be str"),
        ("extra", {"k": "v"}, r"\$\.extra\.k must be int"),
    ],
)
def test_a_fault_is_refused_with_its_path(key: str, value: object, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        decode(Outer, {**encode(VALUE), key: value})


@pytest.mark.parametrize("data", [None, [], "x", 5, True])
def test_the_whole_must_be_an_object(data: object) -> None:
    with pytest.raises(SchemaError, match=r"^\$ must be an object"):
        decode(Outer, data)


def test_a_whole_number_serves_as_a_float() -> None:
    assert decode(Inner, {"share": 1}) == Inner(1.0)
    assert type(decode(Inner, {"share": 1}).share) is float
