"""Starting and stopping: the socket, the model, uvicorn, and the order in which they go."""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from madclip_runtime.errors import EXIT_OK, UsageError
from madclip_runtime.serve.settings import Settings

if TYPE_CHECKING:
    from madclip_runtime.detector import Detector
    from madclip_runtime.serve.models import Model

__all__ = ["serve"]

Say = Callable[[str], None]


def serve(arguments: argparse.Namespace, emit: Say, talk: Say) -> int:
    """Answer until stopped; what was taken is finished first.

    emit: takes one JSON line, with --json, once requests are answered: {"serving": URL}. talk: lines for a person.
    Raises: UsageError, BundleRefused, EngineRefused; KeyboardInterrupt where a signal ended it.
    """
    settings = Settings.of(arguments)
    _import_uvicorn()
    listener = _bind(settings)  # a port that is taken is told before the model's seconds, not after them
    with listener:
        from madclip_runtime.serve.app import App

        model = _load(arguments, talk)
        app = App(model, settings, _batch(settings, model), talk)
        try:
            _run(app, settings, listener, arguments.json, emit, talk)
        finally:
            app.desk.end()
    return EXIT_OK


def _load(arguments: argparse.Namespace, talk: Say) -> Model:
    from madclip_runtime.run import load_detector
    from madclip_runtime.serve.models import Model

    detector = load_detector(arguments, talk)
    return Model(detector, {head: _one_head(detector, head, arguments) for head in detector.heads})


def _one_head(detector: Detector, head: str, arguments: argparse.Namespace) -> Detector:
    from madclip_runtime.detector import Detector
    from madclip_runtime.window import parse_window

    return Detector(
        detector.bundle,
        detector.engine,
        head=head,
        threshold=arguments.threshold,
        operating_point=arguments.operating_point,
        window=None if arguments.window is None else parse_window(arguments.window),
    )


def _batch(settings: Settings, model: Model) -> int:
    """Where nothing was asked for: on the CPU larger batches gain nothing (docs/engine.md), on a GPU what it takes."""
    from madclip_runtime.engines.ort import GPU_BATCH

    return settings.limits.batch or (1 if model.engine.info.device == "CPU" else GPU_BATCH)


def _run(app: Any, settings: Settings, listener: socket.socket, as_json: bool, emit: Say, talk: Say) -> None:
    import json

    import uvicorn

    from madclip_runtime.serve.guard import timed_protocol

    limits = settings.limits
    config = uvicorn.Config(
        app,
        http=timed_protocol(limits),
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,  # it would tell what clients ask for
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=int(limits.receive_s + limits.answer_s + limits.send_s) + 1,
        h11_max_incomplete_event_size=32 * 2**10,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    _hear(talk)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            scheme = "https" if settings.certificate else "http"
            url = f"{scheme}://{settings.url_host}:{listener.getsockname()[1]}"
            talk(f"serving {url} (page: /, answers: /docs)")
            if as_json:
                emit(json.dumps({"serving": url}))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            talk("stopping: requests that were taken are finished")
            await super().shutdown(sockets)

    Server(config).run([listener])


def _import_uvicorn() -> None:
    try:
        import uvicorn  # noqa: F401
    except ImportError:
        raise UsageError("--serve", "uvicorn is not installed", 'pip install "madclip-runtime[serve]"') from None


def _bind(settings: Settings) -> socket.socket:
    with contextlib.ExitStack() as stack:
        try:
            found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = found[0]
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            what = f"--serve {settings.url_host}:{settings.port}"
            raise UsageError(what, error.strerror or str(error), "choose another address or port") from None
        stack.pop_all()
        return listener


def _hear(talk: Say) -> None:
    """uvicorn's own warnings, a broken request say, as lines of ours."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            talk(record.getMessage().splitlines()[0])

    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [Handler(level=logging.WARNING)], False
