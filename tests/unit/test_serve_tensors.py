"""The Open Inference Protocol's bodies: what is read, what is refused, and that answers read back."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from madclip_runtime.errors import RequestRefused
from madclip_runtime.serve.tensors import parse, respond

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)


def body(raw: bytes | None = None, **changes: Any) -> tuple[bytes, str | None]:
    """A request of PIXELS, as JSON, or as binary where `raw` is given; changes go into the tensor."""
    tensor: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": [2, 4, 4, 3]}
    tensor |= {"data": PIXELS.tolist()} if raw is None else {"parameters": {"binary_data_size": len(raw)}}
    top = {key: changes.pop(key) for key in ("id", "outputs", "parameters") if key in changes and raw is None}
    if "own_parameters" in changes:
        changes["parameters"] = changes.pop("own_parameters")
    head = json.dumps({"inputs": [tensor | changes], **top}).encode()
    return (head, None) if raw is None else (head + raw, str(len(head)))


@pytest.mark.parametrize("flat", [True, False])
def test_json_tensors_flat_or_nested(flat: bool) -> None:
    data = PIXELS.ravel().tolist() if flat else PIXELS.tolist()
    asked = parse(*body(data=data, id="a", outputs=[{"name": "score"}]))
    np.testing.assert_array_equal(asked.images, PIXELS)
    assert (asked.identity, asked.outputs, asked.binary) == ("a", {"score": False}, False)


def test_binary_tensors() -> None:
    asked = parse(*body(PIXELS.tobytes()))
    np.testing.assert_array_equal(asked.images, PIXELS)
    assert asked.outputs is None


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x"},
        {"datatype": "FP32"},
        {"shape": [2, 4, 4]},
        {"shape": [-2, 4, 4, 3]},
        {"shape": [2, 4, 4, True]},
        {"shape": [2, 4, 4, 3.0]},
        {"shape": "big"},
        {"shape": [65535, 65535, 65535, 65535]},
        {"data": None},
        {"data": [1, [2]]},
        {"data": [0.5] * 96},
        {"data": ["1"] * 96},
        {"data": [True] * 96},
        {"data": [256] * 96},
        {"data": [-1] * 96},
        {"data": [10**400] * 96},
        {"data": [[[[[1] * 96]]]]},
        {"data": [[1] * 90, [1] * 6]},
        {"data": [1] * 95},
        {"id": 7},
        {"id": "x" * 300},
        {"outputs": []},
        {"outputs": [{"name": 1}]},
        {"outputs": [{"name": "score", "parameters": {"binary_data": "yes"}}]},
        {"own_parameters": {"binary_data_size": 4}},
        {"parameters": {"binary_data_output": 1}},
    ],
)
def test_anything_else_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse(*body(**changes))
    assert refused.value.kind == "malformed"


def test_one_long_text_among_numbers_takes_no_more_memory_than_itself() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RequestRefused):
            parse(*body(data=["x" * 10**6, *[1] * 95]))
        assert tracemalloc.get_traced_memory()[1] < 20 * 10**6  # an array of such texts would hold 384 MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("header", ["-1", "x", "", "99999999", "9" * 5000, "²"])
def test_a_length_beyond_the_body_is_malformed(header: str) -> None:
    with pytest.raises(RequestRefused):
        parse(body()[0], header)


def test_binary_of_another_length_is_malformed() -> None:
    data, header = body(PIXELS.tobytes())
    for wrong in (data[:-1], data + b"x"):
        with pytest.raises(RequestRefused):
            parse(wrong, header)


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 200).map(str)))
def test_no_bytes_end_in_anything_but_a_refusal(data: bytes, header: str | None) -> None:
    with pytest.raises(RequestRefused):
        parse(data, header)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("name", "datatype", "shape", "data", "parameters")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, json_values)))
def test_no_tensor_ends_in_anything_but_a_refusal(changes: dict[str, Any]) -> None:
    try:
        asked = parse(json.dumps({"inputs": [{"name": "image", "datatype": "UINT8"} | changes]}).encode(), None)
    except RequestRefused:
        return
    assert asked.images.dtype == np.uint8 and asked.images.ndim == 4


def test_answers_as_json_and_as_binary() -> None:
    tensors = {"score": np.array([0.25, 0.5], np.float32), "map": np.zeros((2, 4, 4), np.float32)}
    wanted = [{"name": "score"}, {"name": "map", "parameters": {"binary_data": True}}]
    asked = parse(*body(outputs=wanted, id="a"))
    data, length = respond("m", "1", asked, tensors)
    told = json.loads(data[:length])
    assert (told["model_name"], told["id"]) == ("m", "a")
    score, heat = told["outputs"]
    assert score == {"name": "score", "datatype": "FP32", "shape": [2], "data": [0.25, 0.5]}
    assert heat["parameters"] == {"binary_data_size": 128} and len(data) - (length or 0) == 128
    plain, none = respond("m", "1", parse(*body()), tensors)
    assert none is None and json.loads(plain)["outputs"][1]["data"] == [0.0] * 32
