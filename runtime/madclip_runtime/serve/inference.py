"""`/v2/…`: the Open Inference Protocol, version 2. The graph's own face: image in, scores and maps out, no decision.

Squares come ready: who wants files decoded, windowed and resized asks /v1/detect.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from madclip_runtime import __version__
from madclip_runtime.errors import RequestRefused
from madclip_runtime.manifest import output_names
from madclip_runtime.serve import tensors
from madclip_runtime.serve.desk import Desk, Work
from madclip_runtime.serve.exchange import Request, Response
from madclip_runtime.serve.intake import Intake
from madclip_runtime.serve.metrics import Metrics
from madclip_runtime.serve.models import Model

__all__ = ["Inference"]

_MOST_IMAGES = 64


class Inference:
    """All routes of the protocol but health."""

    def __init__(self, model: Model, desk: Desk, intake: Intake, metrics: Metrics) -> None:
        self._model, self._desk, self._intake, self._metrics = model, desk, intake, metrics
        every = output_names(model.bundle.manifest.heads)
        self._outputs = {head: every[head] for head in model.heads}

    async def server(self, request: Request) -> Response:
        """Metadata of the server."""
        return Response.of({"name": "madclip-run", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def model(self, request: Request) -> Response:
        """Metadata of the model. Raises: RequestRefused."""
        self._check_name(request)
        size = self._model.size
        outputs = []
        for score, heat in self._outputs.values():
            outputs += [_described(score, "FP32", -1), _described(heat, "FP32", -1, size, size)]
        content = {
            "name": self._model.name,
            "versions": [self._model.version],
            "platform": self._model.engine.info.name,
            "inputs": [_described("image", "UINT8", -1, size, size, 3)],
            "outputs": outputs,
        }
        return Response.of(content)

    async def model_ready(self, request: Request) -> Response:
        """Raises: RequestRefused."""
        self._check_name(request)
        return Response.of({"name": self._model.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        """Raises: RequestRefused, EngineRefused."""
        self._check_name(request)
        start = time.perf_counter()
        async with self._intake.body(request) as body:
            self._metrics.time("receive", time.perf_counter() - start)
            with self._desk.place():
                header = request.headers.get(tensors.HEADER)
                response: Response = await self._desk.in_time(lambda: self._work(body, header))
                return response

    async def _work(self, body: bytes, header: str | None) -> Response:
        asked = await self._desk.hand("decode", lambda: tensors.parse(body, header))
        self._check_shape(asked)
        heads = self._heads(asked)
        work = Work(("infer", heads), lambda batch: self._run(batch, heads), asked.images, len(asked.images))
        answers = await self._desk.compute(work)
        return await self._desk.hand("draw", lambda: self._response(asked, answers))

    def _run(self, batch: Sequence[Any], heads: tuple[str, ...]) -> list[Any]:
        together = self._model.engine.run(batch[0] if len(batch) == 1 else np.concatenate(batch), heads)
        answers, at = [], 0
        for images in batch:
            rows = slice(at, at + len(images))
            answers.append({head: (answer.scores[rows], answer.maps[rows]) for head, answer in together.items()})
            at = rows.stop
        return answers

    def _response(self, asked: tensors.InferRequest, answers: dict[str, Any]) -> Response:
        values = {name: v for head, pair in answers.items() for name, v in zip(self._outputs[head], pair, strict=True)}
        if asked.outputs is not None:
            values = {name: values[name] for name in asked.outputs}
        body, length = tensors.respond(self._model.name, self._model.version, asked, values)
        if length is None:
            return Response(body)
        return Response(body, "application/octet-stream", headers=((tensors.HEADER, str(length)),))

    def _heads(self, asked: tensors.InferRequest) -> tuple[str, ...]:
        """Those whose outputs are wanted; the others cost nothing."""
        if asked.outputs is None:
            return tuple(self._outputs)
        known = {name: head for head, names in self._outputs.items() for name in names}
        unknown = [name for name in asked.outputs if name not in known]
        if unknown:
            raise RequestRefused("malformed", "outputs", "name one that is none", f"they are {', '.join(known)}")
        return tuple(dict.fromkeys(known[name] for name in asked.outputs))

    def _check_shape(self, asked: tensors.InferRequest) -> None:
        count, *shape = asked.images.shape
        size = self._model.size
        if shape != [size, size, 3]:
            why = f"is {list(asked.images.shape)}, not [N, {size}, {size}, 3]"
            raise RequestRefused("malformed", "the input's shape", why, "for images of any size use /v1/detect")
        if count > _MOST_IMAGES:
            raise RequestRefused("too-large", f"{count} images", f"are more than {_MOST_IMAGES}", "send fewer at once")

    def _check_name(self, request: Request) -> None:
        version = request.parameters.get("version", self._model.version)
        if (request.parameters["model"], version) != (self._model.name, self._model.version):
            do = f"it is {self._model.name}, version {self._model.version}"
            raise RequestRefused("not-found", "the model", "is none of this service", do)


def _described(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}
