"""Who may speak with Orthanc as our config sets it up: known neighbours, TLS with certificates, no stranger."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pacs_peers import Peers, need, receiving
from phantom_dicom import phantom_series

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.dcm"
    path.write_bytes(phantom_series(1, count=1, size=64)[0])
    return path


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    need("Orthanc", "storescu")
    peers = Peers(tmp_path_factory.mktemp("doors"))
    peers.start()
    yield peers
    peers.stop()


def stored(peers: Peers) -> int:
    return len(peers.json("/instances"))


def test_only_neighbours_may_store(peers: Peers, scan: Path) -> None:
    assert peers.try_to_send([scan], aet="STRANGER").returncode != 0 and stored(peers) == 0
    peers.send([scan])
    assert stored(peers) == 1


def test_http_needs_the_password_and_runs_no_scripts(peers: Peers) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{peers.http}/system", timeout=10)
    assert refused.value.code == 401
    refused.value.close()
    with pytest.raises(urllib.error.HTTPError) as refused:
        peers.get("/app/explorer.html")
    refused.value.close()


def test_a_poor_password_or_none_and_it_does_not_start(tmp_path: Path) -> None:
    need("Orthanc")
    peers = Peers(tmp_path / "peers")
    for poor in ("short", 'long enough "but quoted"', ""):
        peers.password.write_text(poor)
        with pytest.raises(AssertionError, match="password"):
            peers.start()


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A key and its own certificate."""
    key, made = folder / f"{name}.key", folder / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    return key, made


def test_with_tls_only_who_has_a_trusted_certificate_may_store(tmp_path: Path, scan: Path) -> None:
    need("Orthanc", "storescu")
    keys = {name: certificate(tmp_path, name) for name in ("orthanc", "modality", "stranger")}
    own = {"KEY": str(keys["orthanc"][0]), "CERTIFICATE": str(keys["orthanc"][1])}
    peers = Peers(tmp_path / "peers", DICOM_TLS="true", TRUSTED=str(keys["modality"][1]), **own)
    peers.start()
    try:
        assert peers.try_to_send([scan]).returncode != 0
        for name, stores in (("stranger", 0), ("modality", 1)):
            key, made = keys[name]
            trusts = ["+cf", str(keys["orthanc"][1])]
            peers.try_to_send([scan], "+tls", str(key), str(made), *trusts)
            assert stored(peers) == stores, name
    finally:
        peers.stop()


def test_results_go_on_by_tls_to_a_pacs_that_wants_it(tmp_path: Path, scan: Path) -> None:
    need("Orthanc", "storescu", "storescp")
    keys = {name: certificate(tmp_path, name) for name in ("orthanc", "pacs")}
    own = {"KEY": str(keys["orthanc"][0]), "CERTIFICATE": str(keys["orthanc"][1])}
    peers = Peers(tmp_path / "peers", pacs_by_tls=True, TRUSTED=str(keys["pacs"][1]), **own)
    peers.start()
    try:
        peers.send([scan])
        (instance,) = peers.json("/instances")
        key, made = keys["pacs"]
        with receiving(peers.pacs, tmp_path / "got", "+tls", str(key), str(made), "+cf", str(keys["orthanc"][1])):
            peers.send_on(instance)
        assert len(list((tmp_path / "got").iterdir())) == 1
    finally:
        peers.stop()
