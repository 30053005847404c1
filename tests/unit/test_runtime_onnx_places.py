"""Where a graph keeps its weights: our reader against onnx's own, and against hostile bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from madclip_runtime.onnx_places import MalformedGraph, external_places


def external(name: str, place: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("offset", "0"), ("location", place), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph(*initializers: TensorProto, nodes: list | None = None) -> onnx.GraphProto:
    return helper.make_graph(nodes or [], "g", [], [], list(initializers))


def written(tmp_path: Path, model: onnx.ModelProto) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_initializers_and_inline_ones(tmp_path: Path) -> None:
    inline = numpy_helper.from_array(np.ones(1000, np.float32), "inline")
    model = helper.make_model(graph(external("a", "w.data"), inline, external("b", "../../etc/passwd")))
    assert external_places(written(tmp_path, model)) == {"w.data", "../../etc/passwd"}


def test_tensors_hidden_in_attributes_subgraphs_functions_and_sparse_ones(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=external("v", "attribute"))
    branch = helper.make_graph([constant], "branch", [], [], [external("x", "subgraph")])
    several = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=graph(external("z", "other")))
    listed = helper.make_node("Foo", [], ["q"])
    listed.attribute.add(name="many", type=onnx.AttributeProto.TENSORS).tensors.append(external("t", "list"))
    model = helper.make_model(graph(nodes=[several, listed]))
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(external("sv", "sparse values"))
    sparse.indices.CopyFrom(external("si", "sparse indices"))
    function = model.functions.add(name="f", domain="d")
    function.node.append(helper.make_node("Constant", [], ["c"], value=external("fv", "function")))
    training = model.training_info.add()
    training.initialization.initializer.append(external("ti", "training"))
    assert external_places(written(tmp_path, model)) == {
        *("attribute", "subgraph", "other", "list", "sparse values", "sparse indices", "function", "training")
    }


def test_a_graph_without_any_and_an_empty_file(tmp_path: Path, tiny_bundle: Path) -> None:
    assert external_places(tiny_bundle / "model.onnx") == set()
    (tmp_path / "empty").write_bytes(b"")
    assert external_places(tmp_path / "empty") == set()


@pytest.mark.parametrize("data", [b"\x3a\xff", b"\x3a\x05ab", b"\xff" * 20, b"\x3b", b"\x09abc", b"\x08"])
def test_what_is_no_protobuf_is_malformed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(MalformedGraph):
        external_places(tmp_path / "x")


def test_endless_nesting_is_malformed(tmp_path: Path) -> None:
    data = b""
    for _ in range(200):  # graph → node → attribute → graph …
        for tag in (0x32, 0x2A, 0x0A):
            data = bytes([tag]) + _length(len(data)) + data
    data = b"\x3a" + _length(len(data)) + data
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(MalformedGraph, match="too deep"):
        external_places(tmp_path / "x")


def _length(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_mutated_graphs_are_read_or_malformed(tiny: ModuleType, draw: st.DataObject) -> None:
    model = helper.make_model(graph(external("a", "w.data"))).SerializeToString()
    mutated = bytearray(model)
    for place, value in draw.draw(st.lists(st.tuples(st.integers(0, len(model) - 1), st.integers(0, 255)), max_size=5)):
        mutated[place] = value
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(bytes(mutated[: draw.draw(st.integers(1, len(model)))]))
        with contextlib.suppress(MalformedGraph):
            assert all(isinstance(place, str) for place in external_places(path))
