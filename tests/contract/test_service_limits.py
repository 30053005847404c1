"""Requests that are broken, too large, too slow or cut off: answered or closed within the limits, and it lives on."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import noise, saved
from service_peer import Service, running

PATIENCE_S = 20
"""Far beyond the limits below: a connection that is still open then hangs."""


@pytest.fixture(scope="module")
def service(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    bundle = tiny.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.madclip")
    with running(bundle, "--receive-timeout", "1", "--max-body", "8") as started:
        yield started
        assert started.ask("POST", "/v1/detect", saved(noise(), "PNG")).status == 200
        assert started.metric("madclip_queue_depth") == 0
        assert not [line for line in started.said if "internal fault" in line]


def opened(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_S)


def head(length: int, path: str = "/v1/detect", more: str = "") -> bytes:
    lines = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{more}\r\n"
    return lines.encode()


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def trickle(connection: socket.socket, data: bytes, stop: threading.Event) -> None:
    for byte in data:
        if stop.wait(0.1):
            return
        try:
            connection.sendall(bytes([byte]))
        except OSError:
            return


def answer_to_trickle(service: Service, first: bytes, slowly: bytes) -> bytes:
    stop = threading.Event()
    with opened(service) as connection:
        connection.sendall(first)
        thread = threading.Thread(target=trickle, args=(connection, slowly, stop))
        thread.start()
        try:
            return rest(connection)
        finally:
            stop.set()
            thread.join()


def test_a_body_that_trickles_is_refused_in_time(service: Service) -> None:
    answer = answer_to_trickle(service, head(5000), b"x" * 5000)
    assert answer.startswith(b"HTTP/1.1 408 ") and b'"too-slow"' in answer


def test_a_head_that_trickles_and_a_client_that_says_nothing_are_closed(service: Service) -> None:
    assert answer_to_trickle(service, b"", head(10) * 20) == b""
    with opened(service) as silent:
        assert rest(silent) == b""


def test_a_client_that_never_reads_its_answer_is_closed(service: Service) -> None:
    body = saved(np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), dtype=np.uint8), "PNG")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(head(len(body), "/v1/view") + body)
        deadline = time.monotonic() + PATIENCE_S
        while open_sockets(service) > 0 and time.monotonic() < deadline:
            time.sleep(0.1)  # reading nothing
        assert open_sockets(service) == 0


def open_sockets(service: Service) -> int:
    """Connections the service holds open on its side, as the system tells."""
    table = Path(f"/proc/{service.process.pid}/net/tcp").read_text().splitlines()[1:]
    here = f":{service.port:04X}"
    return sum(line.split()[1].endswith(here) and line.split()[3] == "01" for line in table)


def test_a_body_that_is_too_large_is_refused_promised_or_not(service: Service) -> None:
    with opened(service) as connection:
        connection.sendall(head(10**12, more="Expect: 100-continue\r\n"))
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"too-large"' in answer
    with opened(service) as connection:
        connection.sendall(b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
        for _ in range(9):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "broken",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS client at the wrong door
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"GET /" + b"a" * 600_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"\0" * 5000,
    ],
)
def test_what_is_no_http_is_told_so_and_closed(service: Service, broken: bytes) -> None:
    with opened(service) as connection:
        try:
            connection.sendall(broken)
        except ConnectionError:
            return
        answer = rest(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_clients_that_go_away_in_the_middle_harm_nobody(service: Service) -> None:
    body = saved(noise(500, 500), "PNG")
    for sent in (10, 300, len(body) // 2, len(body) + 200):
        connection = opened(service)
        connection.sendall((head(len(body)) + body)[:sent])
        connection.close()
    assert service.ask("POST", "/v1/detect", body).status == 200


@pytest.mark.parametrize("path", ["/v2/models/tiny-brightness/infer"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b"null",
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [1, 2]}]}',
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 65535, 65535, 3], "data": []}]}',
    ],
)
def test_broken_tensors_are_refused_by_name(service: Service, path: str, body: bytes) -> None:
    answer = service.ask("POST", path, body)
    assert (answer.status, answer.json["refused"]["name"]) == (400, "malformed")


def test_stopping_finishes_what_was_taken(tiny_bundle: Path) -> None:
    body = saved(noise(300, 300), "PNG")
    with running(tiny_bundle) as service, opened(service) as connection, opened(service) as resting:
        resting.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        heard = b""
        while not heard.endswith(b"}"):
            heard += resting.recv(4096)
        connection.sendall(head(len(body)) + body[:1000])
        assert service.ask("GET", "/health/ready").status == 200
        service.process.send_signal(signal.SIGTERM)
        assert rest(resting) == b""  # nothing was asked of it: closed at once
        with pytest.raises(OSError), opened(service) as late:
            late.sendall(head(0))
            assert late.recv(10) == b""
            raise OSError
        connection.sendall(body[1000:])
        answer = rest(connection)
        assert answer.startswith(b"HTTP/1.1 200 ") and b'"decision": "abnormal"' in answer
        assert service.process.wait(timeout=30) == 130
    assert any("requests that were taken are finished" in line for line in service.said)
