"""Beyond loopback: only with TLS and a token, and the token is nowhere to be read."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_files import noise, saved
from service_peer import Service, running

from madclip_runtime.cli import main

TOKEN = "0123456789abcdef" * 4


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """--tls-cert, --tls-key and --token-file with real files."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: TLS was NOT tried (apt-get install openssl)")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "1"]
    made = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*command, *names, *made], check=True, capture_output=True)
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN + "\n")
    told = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    return [*told, "--token-file", str(token)]


@pytest.fixture
def remote(tiny_bundle: Path, files: list[str], tmp_path: Path) -> Iterator[Service]:
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with running(tiny_bundle, "--serve", "0.0.0.0:0", "--allow-remote", *files, context=context) as service:
        yield service


def test_without_the_token_only_the_page_and_health_answer(remote: Service) -> None:
    assert remote.url.startswith("https://0.0.0.0:")
    data = saved(noise(), "PNG")
    for path in ("/", "/viewer.js", "/viewer.css", "/docs", "/openapi.json", "/health/live", "/v2/health/ready"):
        assert remote.ask("GET", path).status == 200, path
    for method, path in (("POST", "/v1/detect"), ("POST", "/v1/view"), ("GET", "/v1/model"), ("GET", "/metrics")):
        for given in ({}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = remote.ask(method, path, data if method == "POST" else None, **given)
            assert (answer.status, answer.json["refused"]["name"]) == (401, "no-token"), path
            assert answer.headers["www-authenticate"] == "Bearer"
    answer = remote.ask("POST", "/v1/detect", data, Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200 and answer.json["decision"] == "abnormal"
    assert remote.ask("GET", "/v1/model", Authorization="Bearer é").status == 401
    said = "".join(remote.said)
    assert TOKEN not in said and TOKEN[:-1] not in said


def test_old_tls_and_plain_http_are_not_answered(remote: Service) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", remote.port), timeout=20) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert not plain.recv(100).startswith(b"HTTP/1.1 200")
    assert remote.context is not None
    with pytest.warns(DeprecationWarning):
        remote.context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        remote.ask("GET", "/health/live")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--serve", "0.0.0.0:0"], "other machines could reach it"),
        (["--serve", "[::]:0"], "other machines could reach it"),
        (["--serve", "example.org:0"], "other machines could reach it"),
        (["--serve", "0.0.0.0:0", "--allow-remote"], "only under TLS"),
        (["--serve", "127.0.0.1"], "no HOST:PORT"),
        (["--serve", "127.0.0.1:99999"], "no HOST:PORT"),
        (["--serve", "127.0.0.1:0", "--tls-cert", "x"], "give both"),
        (["--serve", "127.0.0.1:0", "--tls-cert", "none", "--tls-key", "none"], "can't be used"),
        (["--serve", "127.0.0.1:0", "--token-file", "none"], "No such file"),
        (["--serve", "127.0.0.1:0", "--csv", "t.csv"], "writes no files"),
        (["--serve", "127.0.0.1:0", "--queue", "0"], "must be in"),
        (["--serve", "127.0.0.1:0", "--max-body", "nan"], "must be in"),
        (["--serve", "127.0.0.1:0", "--batch", "0"], "must be in"),
    ],
)
def test_what_would_open_it_or_means_nothing_is_refused_before_anything_is_loaded(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--bundle", "none.madclip", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_remote_needs_each_of_its_files(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for some in (files[:4], files[4:]):
        assert main(["--bundle", "none.madclip", "--serve", "0.0.0.0:0", "--allow-remote", *some]) == 2
        assert "only under TLS" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "mode"), [("short", 0o600), (TOKEN, 0o644), ("a b" * 20, 0o600), ("", 0o600)])
def test_a_poor_token_is_refused(text: str, mode: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    assert main(["--bundle", "none.madclip", "--serve", "127.0.0.1:0", "--token-file", str(path)]) == 2
    said = capsys.readouterr().err
    assert ("others on this machine" in said or "holds no token" in said) and (not text or text not in said)


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--bundle", "none.madclip", "--serve", f"127.0.0.1:{port}"]) == 2
    assert "in use" in capsys.readouterr().err


def test_without_uvicorn_there_is_one_line_with_the_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["--bundle", "none.madclip", "--serve", "127.0.0.1:0"]) == 2
    assert 'pip install "madclip-runtime[serve]"' in capsys.readouterr().err
