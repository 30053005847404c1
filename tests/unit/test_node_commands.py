"""`madclip-node status | audit | retry` as a person calls them, on a queue without Orthanc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from madclip_runtime.node.ledger import Ledger
from madclip_runtime.node.state import ledger_path, open_folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """One job done, one set aside; its rule and the reason have letters that not every terminal shows."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    ledger = Ledger(ledger_path(open_folder(state)))
    ledger.seen("study", "1")
    ledger.looked_at("study", 2, [("a" * 8, "series1", "Schädel"), ("b" * 8, "series2", "Schädel")])
    for key in ("a" * 8, "b" * 8):
        assert ledger.begin() is not None, key
    ledger.done("a" * 8, {"wrote": {"sc": 1}, "left_out": {}})
    ledger.set_aside("b" * 8, "InputRefused", "the série: no pixels")
    ledger.close()
    path = tmp_path / "node.ini"
    lines = [
        f"[node]\nbundle = x.madclip\nstate = {state}",
        "[orthanc]\nurl = http://127.0.0.1:1",
        "[rule Schädel]\nmodality = *",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def node(config: Path, command: str, *options: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "-m", "madclip_runtime.node.cli", command, "--config", str(config), *options]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    return subprocess.run(words, capture_output=True, env=environment, timeout=60, check=False)


def test_status_counts_and_says_why(config: Path) -> None:
    text = node(config, "status").stdout.decode()
    assert "done 1" in text and "aside 1" in text and "Schädel: InputRefused: the série: no pixels" in text
    found = json.loads(node(config, "status", "--json").stdout)
    assert found["counts"]["done"] == 1 and found["aside"][0]["name"] == "InputRefused"


def test_a_terminal_that_knows_only_ascii_gets_escapes_not_a_fault(config: Path) -> None:
    done = node(config, "status", encoding="ascii")
    assert done.returncode == 0 and b"Sch\\xe4del" in done.stdout, done.stderr


def test_retry_takes_back_and_audit_tells_of_the_study_once(config: Path) -> None:
    (line,) = node(config, "audit").stdout.splitlines()
    assert json.loads(line)["picked"] == 2 and not node(config, "audit", "--after", "1").stdout
    assert b"1 job(s) taken back" in node(config, "retry").stderr
    assert json.loads(node(config, "status", "--json").stdout)["counts"]["aside"] == 0


def test_a_config_that_is_not_there_is_one_line_and_exit_2(tmp_path: Path) -> None:
    done = node(tmp_path / "none.ini", "status")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not done.stdout
