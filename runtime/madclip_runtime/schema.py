"""JSON ↔ frozen dataclasses, strictly: the border where a file from outside becomes typed values.

Kept here, and small, because a validation library would be one more package on every edge box.
Unknown keys are ignored (a later minor version may add some); missing, mistyped or non-finite ones are refused.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

__all__ = ["SchemaError", "decode", "encode"]

T = TypeVar("T")


class SchemaError(ValueError):
    """A value is missing or of another type than the format says; the message names its path."""


def decode(kind: type[T], data: object, where: str = "$") -> T:
    """Build the dataclass `kind` from parsed JSON. Raises: SchemaError naming the path of the first fault."""
    if not isinstance(data, dict):
        raise SchemaError(f"{where} must be an object")
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in data:
            values[field.name] = _value(hints[field.name], data[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SchemaError(f"{where}.{field.name} is missing")
    try:
        return kind(**values)
    except SchemaError:
        raise
    except ValueError as error:  # a dataclass's own __post_init__ check
        raise SchemaError(f"{where}: {error}") from None


def encode(value: object) -> Any:
    """The reverse: dataclasses, tuples and dicts to what `json.dumps(..., allow_nan=False)` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def _value(kind: Any, data: object, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(kind, data, where)
    if origin is tuple:
        return _tuple(typing.get_args(kind), data, where)
    if origin is dict:
        if not isinstance(data, dict):
            raise SchemaError(f"{where} must be an object")
        return {k: _value(typing.get_args(kind)[1], v, f"{where}.{k}") for k, v in data.items()}
    if dataclasses.is_dataclass(kind):
        return decode(typing.cast("type[Any]", kind), data, where)
    return _scalar(kind, data, where)


def _optional(kind: Any, data: object, where: str) -> Any:
    if data is None:
        return None
    (inner,) = [arm for arm in typing.get_args(kind) if arm is not type(None)]
    return _value(inner, data, where)


def _tuple(arms: tuple[Any, ...], data: object, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise SchemaError(f"{where} must be a list")
    if len(arms) == 2 and arms[1] is Ellipsis:
        arms = (arms[0],) * len(data)
    if len(arms) != len(data):
        raise SchemaError(f"{where} must have {len(arms)} items")
    return tuple(_value(arm, item, f"{where}[{i}]") for i, (arm, item) in enumerate(zip(arms, data, strict=True)))


def _scalar(kind: Any, data: object, where: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        data = float(data) if abs(data) < 2**1000 else math.inf  # float() of a longer one overflows
    if type(data) is not kind:
        raise SchemaError(f"{where} must be {getattr(kind, '__name__', kind)}, got {type(data).__name__}")
    if isinstance(data, float) and not math.isfinite(data):
        raise SchemaError(f"{where} must be finite")
    return data
