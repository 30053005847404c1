"""Several heads in one graph → beside it a graph for each alone, on the same weights file.

A runtime library computes everything in a graph, whichever outputs it is asked for; a box that serves one anatomy
should not pay for all. Only nodes are repeated, so a graph of one head's own adds a few hundred kilobytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from madclip_runtime.bundle import MODEL, head_graph

__all__ = ["write_head_graphs"]

_ALONE = ("score", "map")
"""What the outputs of a graph with one head are called."""


def write_head_graphs(folder: Path, outputs: Mapping[str, tuple[str, str]]) -> None:
    """outputs: head → names of its score and map in folder/model.onnx. With one head there is nothing to do."""
    if len(outputs) < 2:
        return
    whole = onnx.load(folder / MODEL, load_external_data=False)
    for head, names in outputs.items():
        path = folder / head_graph(head)
        path.write_bytes(_part(whole, dict(zip(names, _ALONE, strict=True))).SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path), full_check=True)


def _part(whole: Any, wanted: Mapping[str, str]) -> Any:
    """What leads to the wanted outputs, which get new names."""
    part = onnx.ModelProto()
    part.CopyFrom(whole)
    nodes, needed = _leading_to(whole.graph.node, set(wanted))
    for kept, keep in (
        (part.graph.node, nodes),
        (part.graph.initializer, [one for one in whole.graph.initializer if one.name in needed]),
        (part.graph.value_info, [one for one in whole.graph.value_info if one.name in needed]),
        (part.graph.output, [one for one in whole.graph.output if one.name in wanted]),
    ):
        del kept[:]
        kept.extend(keep)
    for node in part.graph.node:
        for names in (node.input, node.output):
            names[:] = [wanted.get(name, name) for name in names]
    for output in part.graph.output:
        output.name = wanted[output.name]
    return part


def _leading_to(nodes: Any, outputs: set[str]) -> tuple[list[Any], set[str]]:
    """The nodes, in order, and the names of all values among them."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input, node.output)
    return kept[::-1], needed
