"""A real service in a process of its own, and a plain client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Answer", "Service", "running"]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        """The body."""
        content = json.loads(self.body)
        assert isinstance(content, dict)
        return content


@dataclass
class Service:
    """url: where it answers. said: its lines on stderr so far."""

    process: subprocess.Popen[str]
    url: str
    context: ssl.SSLContext | None
    said: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Of url."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        """A connection of one's own."""
        if self.context is not None:
            return http.client.HTTPSConnection("localhost", self.port, timeout=timeout, context=self.context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; header names may be written with _."""
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def metric(self, line: str) -> float:
        """The value of one line of /metrics, labels included; 0 where there is none."""
        text = self.ask("GET", "/metrics").body.decode()
        values = [found.rpartition(" ")[2] for found in text.splitlines() if found.rpartition(" ")[0] == line]
        return float(values[0]) if values else 0.0


@contextlib.contextmanager
def running(bundle: Path, *options: str, context: ssl.SSLContext | None = None) -> Iterator[Service]:
    """Started with --serve on a free port, unless `options` say where; stopped at the end, if it still runs."""
    where = () if "--serve" in options else ("--serve", "127.0.0.1:0")
    command = [sys.executable, "-m", "madclip_runtime.cli", "--bundle", str(bundle), "--engine", "cpu", "--no-cache"]
    process = subprocess.Popen(
        [*command, "--json", *where, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    said: list[str] = []
    assert process.stdout is not None and process.stderr is not None
    errors = process.stderr
    listener = threading.Thread(target=lambda: said.extend(errors), daemon=True)
    listener.start()
    try:
        line = process.stdout.readline()
        assert line, f"it did not start: {said}"
        yield Service(process, json.loads(line)["serving"], context, said)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)
        listener.join(timeout=10)
        process.stdout.close()
        process.stderr.close()
