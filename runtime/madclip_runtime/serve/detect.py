"""`/v1/detect`: the bytes of a picture or a DICOM file → its Result, or its overlay; `/v1/view`: what the page shows.

A request's result is called "request": names of files may hold names of persons, so none is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from madclip_runtime.decision import Point
from madclip_runtime.detector import Detector, Prepared
from madclip_runtime.errors import RequestRefused
from madclip_runtime.frames import read_frame
from madclip_runtime.overlay import overlay_png
from madclip_runtime.result import Result
from madclip_runtime.serve.desk import Desk
from madclip_runtime.serve.exchange import JSON, PNG, Request, Response
from madclip_runtime.serve.intake import Intake
from madclip_runtime.serve.metrics import Metrics
from madclip_runtime.serve.models import Model
from madclip_runtime.serve.pictures import pictures_of

__all__ = ["Detection"]

NAME = "request"
_UNREAD = ("multipart/", "application/json")
"""Kinds of body that hold a file at best; here the body is the file."""


class Detection:
    """Both routes."""

    def __init__(self, model: Model, desk: Desk, intake: Intake, metrics: Metrics) -> None:
        self._model, self._desk, self._intake, self._metrics = model, desk, intake, metrics

    async def detect(self, request: Request) -> Response:
        """JSON or PNG, as Accept says. Raises: RequestRefused, InputRefused, EngineRefused."""
        media = wanted(request.headers.get("accept", ""), (JSON, PNG))
        return await self._answer(request, _as_png if media == PNG else _as_json)

    async def view(self, request: Request) -> Response:
        """The Result with its pictures. Raises: as detect."""
        return await self._answer(request, self._as_view)

    async def _answer(self, request: Request, draw: Callable[[Result], Response]) -> Response:
        detector = self._model.detector(request.query.get("head"))
        _check_media(request)
        start = time.perf_counter()
        async with self._intake.body(request) as data:
            self._metrics.time("receive", time.perf_counter() - start)
            with self._desk.place():
                response: Response = await self._desk.in_time(lambda: self._work(detector, data, draw))
                return response

    async def _work(self, detector: Detector, data: bytes, draw: Callable[[Result], Response]) -> Response:
        def decode() -> Prepared:
            start = time.perf_counter()
            return detector.prepare(read_frame(data, NAME), NAME, started=start)

        async with self._desk.decoded(decode, lambda prepared: prepared.size_bytes) as prepared:
            for stage in ("decode", "preprocess"):
                self._metrics.time(stage, prepared.times_ms[stage] / 1e3)
            result = await self._desk.compute(self._model.detection(detector, prepared))
            response = await self._desk.hand("draw", lambda: draw(result))
        self._metrics.decision(result.head, result.decision)
        return response

    def _as_view(self, result: Result) -> Response:
        """With what each operating point would say of this score."""
        head = self._model.bundle.manifest.heads[result.head]
        points = {
            name: Point(point.threshold, name).decide(result.score, result.score_error)
            for name, point in head.calibration.points.items()
        }
        return Response.of({"result": result.to_json(), "pictures": pictures_of(result), "points": points})


def wanted(accept: str, offered: tuple[str, ...]) -> str:
    """The first of `offered` where Accept has no other wish. Raises: RequestRefused where it takes none of them."""
    best, choice = 0.0, ""
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = _quality(parameters)
        for offer in offered:
            if quality > best and media in (offer, "*/*", f"{offer.partition('/')[0]}/*"):
                best, choice = quality, offer
                break
    if not choice:
        raise RequestRefused(
            "not-acceptable", "Accept", "names nothing that is made here", f"use {' or '.join(offered)}"
        )
    return choice


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def _check_media(request: Request) -> None:
    media = request.headers.get("content-type", "").lower()
    if media.startswith(_UNREAD):
        do = "send the file itself: curl --data-binary @scan.png"
        raise RequestRefused("wrong-type", f"a body of {media.partition(';')[0]}", "is no image or DICOM file", do)


def _as_json(result: Result) -> Response:
    return Response.of(result.to_json())


def _as_png(result: Result) -> Response:
    return Response(overlay_png(result), PNG)
