"""Real DICOM peers on loopback: Debian's Orthanc by our own config, dcmtk's senders and receivers, and the node."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Node", "Peers", "audit_of", "dicom_errors", "need", "receiving", "until"]

ROOT = Path(__file__).resolve().parents[1]
AET, SENDER = "MADCLIP", "SENDER"
_WHERE = {
    "Orthanc": "orthanc orthanc-dicomweb",
    "storescu": "dcmtk",
    "findscu": "dcmtk",
    "storescp": "dcmtk",
    "dciodvfy": "dicom3tools",
}
_MAY = {"AllowGet": False, "AllowMove": False, "AllowFindWorklist": False, "AllowStorageCommitment": False}


def need(*programs: str) -> None:
    """A loud skip where one is missing."""
    missing = [name for name in programs if not (shutil.which(name) or Path("/usr/sbin", name).exists())]
    if "Orthanc" in programs and not Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists():
        missing.append("Orthanc")
    if missing:
        packages = " ".join(dict.fromkeys(_WHERE[name] for name in missing))
        pytest.skip(
            f"{', '.join(dict.fromkeys(missing))} missing: real DICOM peers were NOT tried (apt-get install {packages})"
        )


def until(true: Callable[[], Any], within_s: float, what: str) -> Any:
    """What `true()` gives once it gives something."""
    end = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < end, f"not within {within_s} s: {what}"
        time.sleep(0.1)
    return found


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Peers:
    """One Orthanc, which may be stopped and started again."""

    def __init__(self, folder: Path, pacs_by_tls: bool = False, **settings: str) -> None:
        """pacs_by_tls: whether results are sent on so. settings: MADCLIP_ORTHANC_… of orthanc.json."""
        self.folder, self._settings = folder, settings
        self.http, self.dicom, self.pacs = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        config = folder / "config"
        config.mkdir(parents=True)
        shutil.copy(ROOT / "runtime" / "orthanc" / "config" / "orthanc.json", config)
        allowed = {"Host": "127.0.0.1", "AllowEcho": True, "AllowStore": True, "AllowFind": True, **_MAY}
        neighbours = {
            "sender": {"AET": SENDER, "Port": 104, **allowed},
            "pacs": {"AET": "PACS", "Port": self.pacs, "UseDicomTls": pacs_by_tls, **allowed},
        }
        (config / "site.json").write_text(json.dumps({"DicomModalities": neighbours}))
        self.password = folder / "password"
        self.password.write_text(secrets.token_hex(24))
        self.password.chmod(0o600)

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {
            **os.environ,
            "MADCLIP_ORTHANC_CONFIG": str(self.folder / "config"),
            "MADCLIP_ORTHANC_STORAGE": str(self.folder / "storage"),
            "MADCLIP_ORTHANC_PASSWORD_FILE": str(self.password),
            "MADCLIP_ORTHANC_DICOM_PORT": str(self.dicom),
            "MADCLIP_ORTHANC_HTTP_PORT": str(self.http),
            **{f"MADCLIP_ORTHANC_{name}": value for name, value in self._settings.items()},
        }
        with (self.folder / "orthanc.log").open("ab") as log:
            command = ["sh", str(ROOT / "runtime" / "orthanc" / "start.sh")]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        until(self._answers, 30, "Orthanc answers")

    def stop(self, kill: bool = False) -> None:
        """kill: as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self._process.wait(timeout=60)
            self._process = None

    def get(self, path: str, body: bytes | None = None) -> bytes:
        """Over HTTP, with the node's password. body: of a POST."""
        login = base64.b64encode(f"madclip-node:{self.password.read_text()}".encode()).decode()
        headers = {"Authorization": f"Basic {login}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        """Of an answer."""
        return json.loads(self.get(path))

    def send(self, files: Sequence[Path], *options: str) -> None:
        """C-STORE, as a modality does. options: of storescu."""
        done = self.try_to_send(files, *options)
        assert done.returncode == 0, done.stderr

    def try_to_send(self, files: Sequence[Path], *options: str, aet: str = SENDER) -> subprocess.CompletedProcess[str]:
        """The same, whatever comes of it."""
        command = ["storescu", *options, "-aet", aet, "-aec", AET, "127.0.0.1", str(self.dicom), *map(str, files)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def send_on(self, instance: str) -> None:
        """From Orthanc to the PACS, as the node asks for it."""
        body = json.dumps({"Resources": [instance], "Synchronous": True}).encode()
        self.get("/modalities/pacs/store", body)

    def results(self) -> dict[str, dict[str, list[str]]]:
        """StudyInstanceUID → modality → Orthanc's ids of the instances that the node has stored there."""
        found: dict[str, dict[str, list[str]]] = {}
        for series in self.json("/series?expand"):
            tags = series["MainDicomTags"]
            if tags.get("Manufacturer") == "madclip":
                study = self.json(f"/studies/{series['ParentStudy']}")["MainDicomTags"]["StudyInstanceUID"]
                kept = found.setdefault(study, {})
                assert tags["Modality"] not in kept, "two series of one kind"
                kept[tags["Modality"]] = sorted(series["Instances"])
        return found

    def found_by_findscu(self, study: str) -> list[str]:
        """Modalities of a study's series, by C-FIND."""
        command = ["findscu", "-S", "-aet", SENDER, "-aec", AET, "127.0.0.1", str(self.dicom)]
        keys = ["QueryRetrieveLevel=SERIES", f"StudyInstanceUID={study}", "SeriesInstanceUID=", "Modality="]
        for key in keys:
            command += ["-k", key]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = (done.stdout + done.stderr).splitlines()
        return sorted(
            line.split("[")[1].split("]")[0].strip() for line in lines if "(0008,0060)" in line and "[" in line
        )

    def found_by_qido(self, study: str) -> list[str]:
        """The same, by QIDO-RS."""
        found = self.json(f"/dicom-web/studies/{study}/series")
        return sorted(one["00080060"]["Value"][0] for one in found)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "orthanc.log").read_text()[-2000:]
        with contextlib.suppress(OSError):
            return bool(self.get("/system"))
        return False


class Node:
    """`madclip-node` in a process of its own."""

    def __init__(self, peers: Peers, bundle: Path, *, rules: str, send_to: str = "", sweep_s: float = 5.0) -> None:
        self.config = peers.folder / "node.ini"
        self.state = peers.folder / "state"
        self.config.write_text(
            f"[node]\nbundle = {bundle}\nstate = {self.state}\nengine = cpu\npoll-s = 0.2\nsweep-s = {sweep_s}\n"
            f"free-gb = 0.1\ncache = {peers.folder / 'cache'}\n"
            f"[orthanc]\nurl = http://127.0.0.1:{peers.http}\npassword-file = {peers.password}\n"
            f"send-to = {send_to}\n{rules}"
        )
        self.log = peers.folder / "node.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        """wait: until it is at work."""
        self.log.touch()
        before = self.log.read_text().count("at work for")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command("run"), stdout=log, stderr=log)
        if wait:
            until(lambda: self._works(before), 60, "the node is at work")

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As systemd does; its exit code."""
        return self._end(signal.SIGTERM)

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command of it."""
        return subprocess.run(self._command(*arguments), capture_output=True, text=True, check=False)

    def counts(self) -> dict[str, int]:
        """Of its queue."""
        counts: dict[str, int] = json.loads(self.call("status", "--json").stdout)["counts"]
        return counts

    def _works(self, before: int) -> bool:
        said = self.log.read_text()
        assert self._process is None or self._process.poll() is None, said[-2000:]
        return said.count("at work for") > before

    def _command(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "madclip_runtime.node.cli", name, "--config", str(self.config), *arguments]

    def _end(self, number: signal.Signals) -> int:
        code = 0
        if self._process is not None:
            self._process.send_signal(number)
            code = self._process.wait(timeout=60)
            self._process = None
        return code


def audit_of(node: Node) -> list[dict[str, Any]]:
    """All audit lines."""
    return [json.loads(line) for line in node.call("audit").stdout.splitlines()]


def dicom_errors(file: Path) -> list[str]:
    """What dciodvfy calls an error in a DICOM file."""
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@contextlib.contextmanager
def receiving(port: int, folder: Path, *options: str) -> Iterator[None]:
    """dcmtk's storescp as the hospital's PACS, keeping what comes in `folder`."""
    folder.mkdir()
    command = ["storescp", *options, "-aet", "PACS", "-od", str(folder), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _listens(port), 10, "storescp listens")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
