"""What the node asks of others: an Orthanc that answers nonsense, and certificates."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madclip_runtime.errors import PeerRefused, UsageError
from madclip_runtime.node.certificates import _end, first_end
from madclip_runtime.node.config import OrthancAccess
from madclip_runtime.node.doctor import checks
from madclip_runtime.node.orthanc import Gone, Orthanc, SaidNo, Unreachable

ANSWERS: dict[str, tuple[int, bytes]] = {}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path from ANSWERS; a status of 0 hangs up."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = ANSWERS.get(self.path, (404, b""))
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def orthanc() -> Iterator[Orthanc]:
    ANSWERS.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Orthanc(OrthancAccess(f"http://127.0.0.1:{server.server_port}", timeout_s=5))
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (0, b"", Unreachable),
        (401, b"", Unreachable),
        (503, b"", Unreachable),
        (200, b"<html>", Unreachable),
        (200, b"[1]", Unreachable),
        (200, b"[" * 100_000, Unreachable),
        (404, b"", Gone),
        (500, b"", SaidNo),
        (302, b"", SaidNo),
    ],
)
def test_nonsense_is_one_of_three_refusals(orthanc: Orthanc, status: int, body: bytes, error: type[Exception]) -> None:
    ANSWERS["/system"] = (status, body)
    with pytest.raises(error) as refused:
        orthanc.system()
    assert type(refused.value) is error


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="refused"):
        Orthanc(OrthancAccess("http://127.0.0.1:1")).system()


def test_ids_never_stand_in_a_refusal_nor_leave_their_place_in_a_path(orthanc: Orthanc) -> None:
    with pytest.raises(Gone) as refused:
        orthanc.series("01234567-89abcdef-01234567-89abcdef-01234567")
    assert "89abcdef" not in refused.value.line()
    ANSWERS["/series/..%2Fsystem"] = (200, b"{}")
    assert orthanc.series("../system") == {}


def test_a_store_that_was_not_done_is_a_refusal(orthanc: Orthanc) -> None:
    ANSWERS["/instances"] = (200, b'{"Status": "FilteredOut", "ID": "x"}')
    with pytest.raises(SaidNo):
        orthanc.store(b"x")
    ANSWERS["/instances"] = (200, b'{"Status": "AlreadyStored", "ID": "x"}')
    assert orthanc.store(b"x") == "x"


def test_every_refusal_is_a_peer_refused() -> None:
    assert all(issubclass(kind, PeerRefused) for kind in (Unreachable, SaidNo, Gone))


def certificate(folder: Path, days: int, *options: str) -> Path:
    """A new one, by openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: the end of certificates was NOT compared with it")
    path = folder / f"{days}.pem"
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(folder / "key")]
    command = ["openssl", "req", "-x509", *new, "-subj", "/CN=x", "-days", str(days), "-out", str(path), *options]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.mark.parametrize("days", [1, 400, 40_000])  # the last one beyond 2049, where the kind of time changes
def test_the_end_is_what_openssl_says(days: int, tmp_path: Path) -> None:
    path = certificate(tmp_path, days)
    told = subprocess.run(
        ["openssl", "x509", "-enddate", "-noout", "-in", path], capture_output=True, text=True, check=True
    )
    wanted = datetime.strptime(told.stdout.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=timezone.utc)
    assert first_end(path) == wanted


def test_of_a_chain_the_first_end_counts(tmp_path: Path) -> None:
    short, long = certificate(tmp_path, 3), certificate(tmp_path, 300)
    (tmp_path / "chain.pem").write_bytes(long.read_bytes() + short.read_bytes())
    assert first_end(tmp_path / "chain.pem") == first_end(short)


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        (tmp_path / "x.pem").write_bytes(content)
        with pytest.raises(UsageError):
            first_end(tmp_path / "x.pem")
    with pytest.raises(UsageError):
        first_end(tmp_path / "nowhere.pem")


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_no_bytes_end_in_anything_but_a_time_or_a_value_error(der: bytes) -> None:
    with contextlib.suppress(ValueError):
        _end(der)


def test_the_doctor_names_all_that_is_wrong_at_once(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "node.ini").write_text(
        f"[node]\nbundle = {tiny_bundle}\nstate = {tmp_path / 'state'}\nfree-gb = 1e9\nengine = cpu\n"
        f"certificates = {certificate(tmp_path, 3)} {tmp_path / 'none.pem'}\ncache = {tmp_path / 'cache'}\n"
        "[orthanc]\nurl = http://127.0.0.1:1\n[rule r]\nmodality = CT\nhead = brightness\n"
    )
    found = {check.name: (check.verdict, code) for check, code in checks(tmp_path / "node.ini")}
    assert found["config"] == found["rule r"] == ("ok", 0)
    assert found["state"] == ("bad", 7) and found["orthanc"] == ("bad", 8) and found["certificate"] == ("bad", 2)
    (tmp_path / "node.ini").write_text((tmp_path / "node.ini").read_text().replace("head = brightness", "head = x"))
    assert {check.name: check.verdict for check, _ in checks(tmp_path / "node.ini")}["bundle"] == "bad"
