"""Attention as one node, for the runtime that has one: ONNX Runtime's MultiHeadAttention in place of eight plain nodes.

Only the dynamic int8 graph gets it, which runs nowhere else anyway. The float graphs stay plain ONNX, so that TensorRT
and older libraries read them; what the node would gain there was measured (docs/graph.md).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["fuse_attention"]

_DOMAIN = "com.microsoft"
_SHAPING = ("Transpose", "Reshape", "Slice")
_TOKEN_AXIS = "attention.token_axis"


def fuse_attention(path: Path, heads: int) -> int:
    """Rewrite the graph at `path`; returns how many attentions became one node. heads: of every block, 0 for unknown.

    The query's scale is in its weights, so the node's own is 1. A graph without the pattern stays as it is.
    """
    if not heads:
        return 0
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    maker = {output: node for node in graph.node for output in node.output}
    users: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    gone: set[str] = set()
    fresh: dict[str, list[Any]] = {}
    for node in graph.node:
        found = _match(node, maker, users) if node.op_type == "Softmax" else None
        if found is not None:
            last, parts, chain = found
            fresh[last] = _one_node(node.name, last, parts, heads)
            gone |= chain
    if fresh:
        _rewrite(model, fresh, gone)
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(str(path))
    return len(fresh)


def _match(softmax: Any, maker: dict[str, Any], users: dict[str, list[Any]]) -> tuple[str, list[Any], set[str]] | None:
    """Softmax(q·kᵀ)·v, heads put together: the last output's name, (source, slice) of q, k, v, names that go."""
    scores, mixed = maker.get(softmax.input[0]), users[softmax.output[0]]
    if scores is None or scores.op_type != "MatMul" or [n.op_type for n in mixed] != ["MatMul"]:
        return None
    chain = {scores.name, softmax.name, mixed[0].name}
    parts = [_source(name, maker, chain) for name in (*scores.input, mixed[0].input[1])]
    last = mixed[0]
    for kind in ("Transpose", "Reshape"):
        (last,) = users[last.output[0]]
        if last.op_type != kind:
            return None
        chain.add(last.name)
    return last.output[0], parts, chain


def _source(name: str, maker: dict[str, Any], chain: set[str]) -> tuple[str, Any]:
    """Back through what only shapes heads, to the [N, T, d] tensor; and the Slice of tokens on the way, if any."""
    cut = None
    node = maker[name]
    while node.op_type in _SHAPING:
        chain.add(node.name)
        cut = node if node.op_type == "Slice" else cut
        name = node.input[0]
        node = maker[name]
    return name, cut


def _one_node(name: str, output: str, parts: list[Any], heads: int) -> list[Any]:
    nodes, inputs = [], []
    for source, cut in parts:
        if cut is not None:  # of heads' tokens, axis 2; here the tokens are axis 1
            shorter = f"{source}.patches"
            given = [source, cut.input[1], cut.input[2], _TOKEN_AXIS, *cut.input[4:]]
            nodes.append(helper.make_node("Slice", given, [shorter], name=f"{name}.patches"))
            source = shorter
        inputs.append(source)
    attention = name.replace("softmax", "attention")
    nodes.append(
        helper.make_node(
            "MultiHeadAttention", inputs, [output], name=attention, domain=_DOMAIN, num_heads=heads, scale=1.0
        )
    )
    return nodes


def _rewrite(model: Any, fresh: dict[str, list[Any]], gone: set[str]) -> None:
    kept = []
    for node in model.graph.node:
        kept += fresh.get(node.output[0], [])
        if node.name not in gone:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), _TOKEN_AXIS))
    if _DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
