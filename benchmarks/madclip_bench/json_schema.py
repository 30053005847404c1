"""The published JSON schemas of what the bench writes, made from the dataclasses that read it, so neither can drift.

    python -m madclip_bench.json_schema      # writes schemas/*.schema.json

Descriptions are the dataclasses' own docstrings. Unknown keys are allowed: a later minor version may add some.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any

from madclip_bench.compare.comparison import Comparison
from madclip_bench.raw import Raw
from madclip_bench.report import Report

__all__ = ["FOLDER", "SCHEMAS", "schema_of", "text_of"]

FOLDER = Path(__file__).parent / "schemas"
SCHEMAS: dict[str, type] = {
    "report-2.schema.json": Report,
    "report-2-samples.schema.json": Raw,  # of the JSON inside the report's `raw`
    "comparison-1.schema.json": Comparison,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS = {str: "string", float: "number", int: "integer", bool: "boolean"}


def schema_of(kind: type) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of one dataclass and all it holds."""
    definitions: dict[str, Any] = {}
    root = _reference(kind, definitions)
    return {"$schema": _DIALECT, "title": kind.__name__, **root, "$defs": dict(sorted(definitions.items()))}


def text_of(kind: type) -> str:
    """As the file holds it."""
    return json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"


def _reference(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}  # stands while its own fields are described
        definitions[name] = _object(kind, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    properties = {field.name: _value(hints[field.name], definitions) for field in fields}
    for field in fields:
        if field.name == "format":
            properties["format"] = {"const": field.default}
    return {
        "type": "object",
        "description": inspect.cleandoc(kind.__doc__ or ""),
        "properties": properties,
        "required": [field.name for field in fields],
    }


def _value(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_value(one, definitions) for one in arguments]}
    if origin is tuple:
        return _list(arguments, definitions)
    if origin is dict:
        return {"type": "object", "additionalProperties": _value(arguments[1], definitions)}
    if kind is type(None):
        return {"type": "null"}
    if dataclasses.is_dataclass(kind):
        return _reference(typing.cast("type", kind), definitions)
    return {"type": _SCALARS[kind]}


def _list(arguments: tuple[Any, ...], definitions: dict[str, Any]) -> dict[str, Any]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _value(arguments[0], definitions)}
    items = [_value(one, definitions) for one in arguments]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


if __name__ == "__main__":
    for file, described in SCHEMAS.items():
        (FOLDER / file).write_text(text_of(described), encoding="utf-8")
