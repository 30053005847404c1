"""The OpenAPI 3.1 document: what the service answers, said once; the page at /docs is made from it."""

from __future__ import annotations

import html
import json
from importlib import resources
from typing import Any

from madclip_runtime import __version__
from madclip_runtime.serve.exchange import JSON, PNG

__all__ = ["describe", "describe_page"]

_NOTICE = "Research use, not a medical device."
_HEAD = {
    "name": "head",
    "in": "query",
    "required": False,
    "schema": {"type": "string"},
    "description": "Which head; needed where several are served.",
}
_FILE = {
    "required": True,
    "description": "The file itself: PNG, JPEG, TIFF, BMP, PPM, WebP or DICOM, told by what it holds.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_TENSORS = {
    "required": True,
    "description": "image, UINT8 [N, S, S, 3], as JSON or by the binary extension (Inference-Header-Content-Length).",
    "content": {JSON: {"schema": {"type": "object", "required": ["inputs"]}}},
}
_PATHS: dict[str, dict[str, tuple[str, dict[str, Any], str]]] = {
    "/v1/detect": {
        "post": ("A file in; its Result, or, with Accept: image/png, its overlay.", {"200": "Result"}, "file"),
    },
    "/v1/view": {
        "post": ("A file in; its Result with the pictures that the page lays over each other.", {"200": JSON}, "file"),
    },
    "/health/live": {"get": ("Whether the process answers.", {"200": JSON}, "free")},
    "/health/ready": {"get": ("Whether there is room in the queue.", {"200": JSON, "503": JSON}, "free")},
    "/metrics": {"get": ("Prometheus' text format.", {"200": "text/plain"}, "")},
    "/v1/model": {"get": ("The model card: the bundle's manifest, and what runs it.", {"200": JSON}, "")},
    "/": {"get": ("The viewer page.", {"200": "text/html"}, "free")},
    "/viewer.js": {"get": ("Its script.", {"200": "text/javascript"}, "free")},
    "/viewer.css": {"get": ("Its style.", {"200": "text/css"}, "free")},
    "/docs": {"get": ("This document as a page.", {"200": "text/html"}, "free")},
    "/openapi.json": {"get": ("This document.", {"200": JSON}, "free")},
    "/v2": {"get": ("Open Inference Protocol: the server.", {"200": JSON}, "")},
    "/v2/health/live": {"get": ("Open Inference Protocol: as /health/live.", {"200": JSON}, "free")},
    "/v2/health/ready": {"get": ("Open Inference Protocol: as /health/ready.", {"200": JSON, "503": JSON}, "free")},
} | {
    path + end: {method: (f"Open Inference Protocol: {told}", {"200": JSON}, kind)}
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    for end, method, told, kind in (
        ("", "get", "inputs and outputs of the model.", ""),
        ("/ready", "get", "whether the model is ready.", ""),
        ("/infer", "post", "squares in; scores and maps out, no decision.", "tensors"),
    )
}
_REFUSALS = {"400", "401", "403", "408", "413", "415", "422", "500", "503"}


def describe() -> dict[str, Any]:
    """The document, as JSON takes it."""
    schema = json.loads((resources.files("madclip_runtime") / "schemas" / "result-2.json").read_text("utf-8"))
    return {
        "openapi": "3.1.0",
        "info": {"title": "madclip-run --serve", "version": __version__, "description": _NOTICE},
        "paths": {
            path: {method: _operation(path, *told) for method, told in methods.items()}
            for path, methods in _PATHS.items()
        },
        "components": {
            "schemas": {"Result": schema["$defs"]["result"], "Refusal": _refusal_schema()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def describe_page(document: dict[str, Any]) -> bytes:
    """The same for a person, as one HTML page that loads only the viewer's style."""
    parts = []
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            answers = ", ".join(f"{status} {', '.join(a['content'])}" for status, a in told["responses"].items())
            needs = "" if told["security"] == [] else " · needs the token where one is set"
            parts.append(
                f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2>"
                f"<p>{html.escape(told['summary'])}{needs}</p><p class=small>{html.escape(answers)}</p></section>"
            )
    page = (resources.files(__package__) / "pages" / "docs.html").read_text("utf-8")
    refusal = html.escape(json.dumps(_refusal_example(), indent=1))
    return page.replace("SECTIONS", "\n".join(parts)).replace("REFUSAL", refusal).encode()


def _operation(path: str, summary: str, answers: dict[str, str], kind: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": [
            {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
            for part in path.split("/")
            if part.startswith("{")
        ],
        "responses": {status: _answer(media) for status, media in answers.items()},
        "security": [] if kind == "free" else [{"token": []}, {}],
    }
    if kind in ("file", "tensors"):
        operation["requestBody"] = _FILE if kind == "file" else _TENSORS
        for status in sorted(_REFUSALS):
            operation["responses"][status] = _answer("Refusal")
    if kind == "file":
        operation["parameters"].append(_HEAD)
    return operation


def _answer(media: str) -> dict[str, Any]:
    if media == "Refusal":
        schema: dict[str, Any] = {"$ref": "#/components/schemas/Refusal"}
        return {"description": "a refusal, by name", "content": {JSON: {"schema": schema}}}
    if media == "Result":
        content = {JSON: {"schema": {"$ref": "#/components/schemas/Result"}}, PNG: {}}
        return {"description": "the result", "content": content}
    return {"description": "the answer", "content": {media: {}}}


def _refusal_schema() -> dict[str, Any]:
    text = {"type": "string"}
    refused = {
        "type": "object",
        "required": ["name", "why", "do"],
        "properties": dict.fromkeys(("name", "why", "do"), text),
    }
    return {"type": "object", "required": ["error", "refused"], "properties": {"error": text, "refused": refused}}


def _refusal_example() -> dict[str, Any]:
    why, do = "damaged or truncated (image file is truncated)", "re-export the image from its source"
    return {"error": f"request: {why} ({do})", "refused": {"name": "InputRefused", "why": why, "do": do}}
