"""The Open Inference Protocol's bodies: JSON tensors, and the binary extension that Triton's clients use.

A body is JSON; with the header Inference-Header-Content-Length, JSON of that many bytes and then raw tensors, in order.
What this module does not know: models. Everything from a client is checked before an array is made of it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import RequestRefused

__all__ = ["HEADER", "InferRequest", "parse", "respond"]

HEADER = "inference-header-content-length"
_MOST_JSON = 16 * 2**20
"""Bytes; Python needs many times as much for the numbers in them."""
_RANK = 4


@dataclass(frozen=True)
class InferRequest:
    """identity: the client's own, given back. images: uint8 [N, H, W, 3]. outputs: name → binary or not, None for all
    outputs. binary: what holds for outputs that don't say.
    """

    identity: str | None
    images: npt.NDArray[np.uint8]
    outputs: dict[str, bool] | None
    binary: bool


def parse(body: bytes, header: str | None) -> InferRequest:
    """Raises: RequestRefused naming what is wrong."""
    length = len(body) if header is None else _header_length(header, len(body))
    content = _json(body[:length])
    tensor = _only_input(content)
    raw = None if header is None else body[length:]
    outputs = content.get("outputs")
    binary = _flag(content.get("parameters"), "binary_data_output", False)
    return InferRequest(
        _identity(content.get("id")),
        _pixels(tensor, raw),
        None if outputs is None else _outputs(outputs, binary),
        binary,
    )


def respond(
    name: str, version: str, asked: InferRequest, tensors: dict[str, npt.NDArray[np.float32]]
) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON where tensors follow."""
    described, raw = [], []
    for output, values in tensors.items():
        entry: dict[str, Any] = {"name": output, "datatype": "FP32", "shape": list(values.shape)}
        if asked.binary if asked.outputs is None else asked.outputs[output]:
            raw.append(np.ascontiguousarray(values, "<f4").tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = values.ravel().tolist()
        described.append(entry)
    content: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": described}
    if asked.identity is not None:
        content["id"] = asked.identity
    head = json.dumps(content, allow_nan=False).encode()
    return b"".join([head, *raw]), len(head) if raw else None


def _bad(what: str, why: str, do: str = "") -> RequestRefused:
    return RequestRefused("malformed", what, why, do)


def _header_length(header: str, total: int) -> int:
    if not header.isdecimal() or len(header) > 12 or int(header) > total:
        raise _bad("Inference-Header-Content-Length", "is not a length within the body")
    return int(header)


def _json(data: bytes) -> dict[str, Any]:
    if len(data) > _MOST_JSON:
        why = f"is larger than {_MOST_JSON // 2**20} MiB"
        raise RequestRefused("too-large", "the JSON", why, "send the tensor as binary data")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise _bad("the body", "is not JSON") from None
    if not isinstance(content, dict):
        raise _bad("the body", "is no JSON object")
    return content


def _identity(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= 256):
        raise _bad("id", "is no text of 256 characters at most")
    return value


def _only_input(content: dict[str, Any]) -> dict[str, Any]:
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _bad("inputs", "must be a list of one tensor", "send image, UINT8 [N, S, S, 3]")
    tensor: dict[str, Any] = inputs[0]
    if tensor.get("name") != "image" or tensor.get("datatype") != "UINT8":
        raise _bad("the input", "must be called image, of datatype UINT8", "for whole files use /v1/detect")
    return tensor


def _pixels(tensor: dict[str, Any], raw: bytes | None) -> npt.NDArray[np.uint8]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(n) is int and 0 < n < 2**16 for n in shape):
        raise _bad("the input's shape", "must be [N, S, S, 3]")
    count = math.prod(shape)
    size = tensor["parameters"].get("binary_data_size") if isinstance(tensor.get("parameters"), dict) else None
    if size is None:
        values = _numbers(tensor.get("data"))
    elif raw is None or size != len(raw):
        raise _bad("binary_data_size", "is not what follows the JSON", "set Inference-Header-Content-Length")
    else:
        values = np.frombuffer(raw, np.uint8)
    if values.size != count:
        raise _bad("the input's data", f"has {values.size} numbers, its shape says {count}")
    return values.reshape(shape)


def _numbers(data: object) -> npt.NDArray[np.uint8]:
    """Flat or nested lists of whole numbers 0–255; 1.0 and "1" are none."""
    if not isinstance(data, list):
        raise _bad("the input's data", "is missing", "give a list of numbers 0–255, or binary data")
    if not _only_whole(data):
        raise _bad("the input's data", "must be whole numbers 0–255")
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError):
        raise _bad("the input's data", "is ragged, or no numbers") from None
    if values.dtype.kind not in "iu" or values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise _bad("the input's data", "must be whole numbers 0–255")
    return values.astype(np.uint8).ravel()


def _only_whole(data: list[Any], deep: int = _RANK) -> bool:
    """Before numpy sees it: among texts, it would give each place the longest one's size."""
    kinds = set(map(type, data))
    if kinds == {list}:
        return deep > 1 and all(_only_whole(part, deep - 1) for part in data)
    return kinds <= {int}


def _outputs(outputs: object, default: bool) -> dict[str, bool]:
    if not isinstance(outputs, list) or not outputs or not all(isinstance(o, dict) for o in outputs):
        raise _bad("outputs", "must be a list of objects with a name")
    wanted = {}
    for output in outputs:
        if not isinstance(output.get("name"), str):
            raise _bad("outputs", "must be a list of objects with a name")
        wanted[output["name"]] = _flag(output.get("parameters"), "binary_data", default)
    return wanted


def _flag(parameters: object, name: str, default: bool) -> bool:
    value = parameters.get(name, default) if isinstance(parameters, dict) else default
    if not isinstance(value, bool):
        raise _bad(name, "must be true or false")
    return value
