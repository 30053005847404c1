"""The ASGI application: who answers what, what every answer carries, and one line about each on stderr.

A line names the route, never what a client sent: no query, no header, no name.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import resources
from typing import Any

from madclip_runtime.errors import MadclipError
from madclip_runtime.serve import metrics as metrics_format
from madclip_runtime.serve.access import Access
from madclip_runtime.serve.describe import describe, describe_page
from madclip_runtime.serve.desk import Desk
from madclip_runtime.serve.detect import Detection
from madclip_runtime.serve.exchange import HTML, Handler, Request, Response, Route, find, kind_of, refusal
from madclip_runtime.serve.inference import Inference
from madclip_runtime.serve.intake import Disconnected, Intake
from madclip_runtime.serve.metrics import Metrics
from madclip_runtime.serve.models import Model
from madclip_runtime.serve.settings import Settings

__all__ = ["App"]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-store"),  # a browser must keep no image of anybody
)
_PAGES = {
    "/": ("index.html", HTML),
    "/viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "/viewer.css": ("viewer.css", "text/css; charset=utf-8"),
}
_ONE, _ONE_VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"


class App:
    """Everything between uvicorn and the model. routes: what it answers; desk: the requests at work."""

    def __init__(self, model: Model, settings: Settings, batch: int, talk: Callable[[str], None]) -> None:
        info = model.engine.info
        self.metrics = Metrics(bundle=model.name, digest=model.version, engine=info.name, precision=info.precision)
        self.desk = Desk(settings.limits, batch, self.metrics)
        self._limits, self._talk = settings.limits, talk
        self._access = Access(settings)
        intake = Intake(settings.limits)
        detection = Detection(model, self.desk, intake, self.metrics)
        inference = Inference(model, self.desk, intake, self.metrics)
        self.routes = (*self._own_routes(model), *_detection(detection), *_protocol(inference, self._ready))

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """ASGI, HTTP only."""
        start = time.perf_counter()
        path = "none"
        try:
            request = Request.of(scope, receive)
            route, parameters = find(self.routes, request.method, request.path)
            path = route.path
            self._access.check(request, route.free)
            response = await route.handler(
                Request(request.method, request.path, request.query, request.headers, receive, parameters)
            )
        except Disconnected:
            self._talk(f"{path}: the client went away before its request was whole")
            return
        except MadclipError as error:
            response = self._refused(error)
        except Exception as error:  # a fault of ours; its text may hold what a client sent, so only its kind is told
            self._talk(f"{path}: internal fault, please report it: {type(error).__name__}")
            response = self._refused(MadclipError("the request", "met a fault of ours", "please report it"))
        seconds = time.perf_counter() - start
        self.metrics.request(path, response.status)
        if response.status == 200 and path.startswith(("/v1/detect", "/v1/view", "/v2/models")):
            self.metrics.time("total", seconds)
        self._talk(f"{scope['method'] if path != 'none' else '?'} {path} {response.status} {seconds * 1e3:.0f} ms")
        await _send(response, send)

    def _refused(self, error: MadclipError) -> Response:
        self.metrics.refusal(kind_of(error))
        return refusal(error)

    def _own_routes(self, model: Model) -> tuple[Route, ...]:
        card = Response.of(model.card())
        document = describe()
        pages = [Route("GET", path, _still(_page(*page)), free=True) for path, page in _PAGES.items()]
        return (
            *pages,
            Route("GET", "/docs", _still(Response(describe_page(document), HTML)), free=True),
            Route("GET", "/openapi.json", _still(Response.of(document)), free=True),
            Route("GET", "/health/live", _still(Response.of({"live": True})), free=True),
            Route("GET", "/health/ready", self._ready, free=True),
            Route("GET", "/metrics", self._tell_metrics),
            Route("GET", "/v1/model", _still(card)),
        )

    async def _ready(self, request: Request) -> Response:
        self.desk.check_room()
        return Response.of({"ready": True})

    async def _tell_metrics(self, request: Request) -> Response:
        text = self.metrics.text(self.desk.depth, self._limits.waiting)
        return Response(text.encode(), metrics_format.MEDIA)


def _detection(detection: Detection) -> tuple[Route, ...]:
    return (Route("POST", "/v1/detect", detection.detect), Route("POST", "/v1/view", detection.view))


def _protocol(inference: Inference, ready: Handler) -> tuple[Route, ...]:
    return (
        Route("GET", "/v2", inference.server),
        Route("GET", "/v2/health/live", _still(Response.of({"live": True})), free=True),
        Route("GET", "/v2/health/ready", ready, free=True),
        *(Route("GET", path, inference.model) for path in (_ONE, _ONE_VERSION)),
        *(Route("GET", f"{path}/ready", inference.model_ready) for path in (_ONE, _ONE_VERSION)),
        *(Route("POST", f"{path}/infer", inference.infer) for path in (_ONE, _ONE_VERSION)),
    )


def _still(response: Response) -> Handler:
    async def answer(request: Request) -> Response:
        return response

    return answer


def _page(name: str, media: str) -> Response:
    return Response((resources.files(__package__) / "pages" / name).read_bytes(), media)


async def _send(response: Response, send: Callable[[Any], Awaitable[None]]) -> None:
    own = (("content-type", response.media), ("content-length", str(len(response.body))))
    headers = [(name.encode(), value.encode("latin-1")) for name, value in (*own, *_ALWAYS, *response.headers)]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
