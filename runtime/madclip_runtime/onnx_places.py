"""Where an ONNX file says its weights lie: a reader of that and nothing else, so that no ONNX package is on the box.

ONNX Runtime 1.18 follows such a place out of the bundle, through `../` and links. So every place is compared with the
manifest's list before any library sees the graph. Format: protobuf's wire format, and onnx.proto's field numbers.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MalformedGraph", "external_places"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 64
_EXTERNAL_DATA, _ENTRY_KEY, _ENTRY_VALUE = 13, 1, 2

_MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
"""Message → the fields that can hold a tensor somewhere below."""

Field = tuple[int, memoryview]


class MalformedGraph(ValueError):
    """The file isn't protobuf as ONNX writes it."""


def external_places(path: Path) -> set[str]:
    """All `location`s of tensors kept outside the file, as they are written there.

    Raises: MalformedGraph, OSError.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            return set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            whole = memoryview(mapped)
            try:
                return set(_places(whole, "Model", 0))
            finally:
                whole.release()


def _places(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise MalformedGraph("nested too deep")
    inside = _MESSAGES[kind]
    for number, value in _fields(data):
        with value:
            if number in inside:
                yield from _places(value, inside[number], depth + 1)
            elif kind == "Tensor" and number == _EXTERNAL_DATA:
                entry = {key: bytes(text) for key, text in _fields(value)}
                if entry.get(_ENTRY_KEY) == b"location":
                    yield entry.get(_ENTRY_VALUE, b"").decode("utf-8", "surrogateescape")


def _fields(data: memoryview) -> Iterator[Field]:
    """The length-delimited fields of one message; numbers are stepped over."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        elif kind == _BYTES:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise MalformedGraph("a field ends behind the file")
            yield number, data[at : at + length]
            at += length
        else:
            raise MalformedGraph(f"wire type {kind}")
    if at > len(data):
        raise MalformedGraph("a number ends behind the file")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise MalformedGraph("a number ends behind the file")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise MalformedGraph("a number of more than ten bytes")
