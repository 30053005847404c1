"""kill -9 of the node, of Orthanc, and an Orthanc that is away: nothing is lost, nothing is there twice.

Minutes, so only `make test-pacs` runs them: it sets MADCLIP_PACS=1. MADCLIP_PACS_AWAY_S: how long Orthanc is away.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pacs_peers import Node, Peers, audit_of, need, until
from phantom_dicom import phantom_series, study_uid

pytestmark = pytest.mark.slow

KILLS = 20
RULES = "[rule all]\nmodality = MR\nwindow = 0,4095\noverlays = 3\n"
WHOLE = {"OT": 3, "SEG": 1, "SR": 1}


@pytest.fixture
def peers(tiny: Any, tmp_path: Path) -> Iterator[tuple[Peers, Node]]:
    if os.environ.get("MADCLIP_PACS") != "1":
        pytest.skip("MADCLIP_PACS is not 1: kill -9 and an absent Orthanc were NOT tried (make test-pacs)")
    need("Orthanc", "storescu")
    peers = Peers(tmp_path / "peers", STABLE_AGE="1")
    node = Node(peers, tiny.write_tiny_bundle(tmp_path / "tiny.madclip"), rules=RULES)
    peers.start()
    try:
        yield peers, node
    finally:
        node.stop()
        peers.stop()


def send(peers: Peers, number: int) -> None:
    """One study of ten images, bright enough for a segmentation."""
    files = []
    for place, content in enumerate(phantom_series(number, count=10, abnormal=True, size=256)):
        files.append(peers.folder / f"{number}-{place}.dcm")
        files[-1].write_bytes(content)
    peers.send(files)


def begun(node: Node) -> bool:
    """Whether a job was begun and not ended."""
    with contextlib.closing(sqlite3.connect(node.state / "ledger.sqlite")) as ledger:
        sql = "SELECT COUNT(*) FROM jobs WHERE starts > 0 AND state IN ('waiting', 'sending')"
        return bool(ledger.execute(sql).fetchone()[0])


def check_whole(peers: Peers, node: Node, numbers: range) -> None:
    """All of them done, once each."""
    until(lambda: sum(node.counts()[name] for name in ("done", "aside")) == len(numbers), 120, "all jobs at their end")
    until(lambda: node.counts()["studies"] == 0, 30, "nothing to look at")
    found = peers.results()
    kinds = {study: {kind: len(instances) for kind, instances in of.items()} for study, of in found.items()}
    assert kinds == {study_uid(number): WHOLE for number in numbers}
    jobs = [job for line in audit_of(node) for job in line["jobs"]]
    assert [job["end"] for job in jobs] == ["done"] * len(numbers)
    assert len({job["key"] for job in jobs}) == len(numbers)


def test_kill_9_at_random_moments_loses_and_doubles_nothing(peers: tuple[Peers, Node]) -> None:
    orthanc, node = peers
    moment = random.Random(8)
    at_work = 0
    for number in range(1, KILLS + 1):
        send(orthanc, number)
        node.start()  # what it does to begin with is shorter than what it does then
        time.sleep(moment.uniform(0.0, 2.0))
        node.kill()
        at_work += begun(node)
    node.start()
    check_whole(orthanc, node, range(1, KILLS + 1))
    print(f"{KILLS} kills, {at_work} of them in the middle of a job")
    assert not (node.state / "work").exists()


def test_an_orthanc_that_is_away_is_waited_for(peers: tuple[Peers, Node]) -> None:
    orthanc, node = peers
    away_s = float(os.environ.get("MADCLIP_PACS_AWAY_S", "5"))
    node.start()
    send(orthanc, 1)
    until(lambda: node.counts()["done"] == 1, 30, "the first study is done")
    send(orthanc, 2)
    orthanc.stop()  # before it has called the second one stable, which it never will again
    time.sleep(away_s)
    assert "waiting: Orthanc" in node.log.read_text()
    orthanc.start()
    back = time.monotonic()
    send(orthanc, 3)
    check_whole(orthanc, node, range(1, 4))
    print(f"Orthanc away for {away_s:g} s: all done {time.monotonic() - back:.1f} s after it was back")
    assert "all is well again" in node.log.read_text()
    assert node.stop() == 130


def test_kill_9_of_orthanc_itself(peers: tuple[Peers, Node]) -> None:
    orthanc, node = peers
    node.start()
    moment = random.Random(9)
    for number in range(1, 6):
        send(orthanc, number)
        time.sleep(moment.uniform(0.5, 3.0))
        orthanc.stop(kill=True)
        orthanc.start()
    check_whole(orthanc, node, range(1, 6))
