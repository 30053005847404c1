"""The node against an Orthanc in memory: what is taken, done, put off and set aside, whatever fails between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_orthanc import FakeOrthanc
from phantom_dicom import phantom_series

from madclip_runtime.detector import Detector
from madclip_runtime.errors import EngineRefused
from madclip_runtime.node import worker as worker_module
from madclip_runtime.node.feed import Feed
from madclip_runtime.node.ledger import ASIDE, Ledger
from madclip_runtime.node.loop import Loop
from madclip_runtime.node.orthanc import Gone, Unreachable
from madclip_runtime.node.rules import Rule
from madclip_runtime.node.state import DiskLow
from madclip_runtime.node.worker import MOST_STARTS, SEND_TRIES, Worker, wait_s
from madclip_runtime.window import parse_window

pytest.importorskip("highdicom", reason="highdicom is not installed: the node's objects were NOT made")
WHOLE = ["OT", "OT", "OT", "SEG", "SR"]


class Node:
    """All of it but the network. now: its clock. said, audit: what it told."""

    def __init__(self, bundle: Path, folder: Path, **options: Any) -> None:
        self.orthanc, self.now, self.said, self.audit = FakeOrthanc(), 1000.0, [], []
        self.rule = Rule("all", "MR|CR", window="0,4095")
        self.detector = Detector.load(bundle, window=parse_window("0,4095"))
        self.folder, self.options = folder, options
        self.disk: Callable[[], None] = lambda: None
        self.begin()

    def begin(self) -> None:
        """Also what a start after a kill is."""
        self.ledger = Ledger(self.folder / "ledger.sqlite", lambda: self.now)
        orthanc: Any = self.orthanc
        self.worker = Worker(
            orthanc,
            self.ledger,
            {self.rule.name: (self.rule, self.detector)},
            self.folder / "work",
            check_disk=lambda: self.disk(),
            talk=self.said.append,
            tries=self.options.get("tries", 3),
            send_to=self.options.get("send_to", ""),
        )
        self.feed = Feed(orthanc, self.ledger, queue=self.options.get("queue", 100), sweep_s=60, clock=lambda: self.now)
        loop = {"poll_s": 1.0, "emit": self.audit.append, "talk": self.said.append, "sleep": self.sleep}
        self.loop = Loop(self.feed, self.worker, self.ledger, **loop)  # type: ignore[arg-type]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def settle(self, steps: int = 30) -> None:
        for _ in range(steps):
            self.loop.step()

    def jobs(self) -> list[dict[str, Any]]:
        return [job for line in self.audit for job in json.loads(line)["jobs"]]


@pytest.fixture
def node(tiny_bundle: Path, tmp_path: Path) -> Node:
    return Node(tiny_bundle, tmp_path)


def receive(node: Node, number: int = 1, **fields: Any) -> str:
    for content in phantom_series(number, count=fields.pop("count", 3), abnormal=True, size=64, **fields):
        study = node.orthanc.receive(content)
    return study


def test_a_study_is_done_and_told_once_however_often_it_is_fed(node: Node) -> None:
    receive(node)
    receive(node)
    node.settle()
    assert node.orthanc.results() == WHOLE and node.orthanc.stores == 5
    assert [job["end"] for job in node.jobs()] == ["done"]
    assert not (node.folder / "work").exists()


def test_a_study_the_feed_never_told_of_is_found_by_the_sweep(node: Node) -> None:
    for content in phantom_series(1, abnormal=True, size=64):
        node.orthanc.receive(content, tell=False)
    node.settle()
    assert node.orthanc.results() == WHOLE


def test_nothing_is_begun_while_images_still_come(node: Node) -> None:
    study = receive(node)
    node.orthanc.unstable.add(study)
    node.settle(5)
    assert node.orthanc.results() == [] and node.audit == []
    node.orthanc.unstable.clear()
    node.settle()
    assert node.orthanc.results() == WHOLE


def test_series_that_no_rule_wants_are_told_of_and_left_alone(node: Node) -> None:
    receive(node, Modality="US")
    node.settle()
    (line,) = [json.loads(line) for line in node.audit]
    assert (line["series"], line["picked"], node.orthanc.stores) == (1, 0, 0)


def test_images_that_come_late_are_a_new_job(node: Node) -> None:
    receive(node, count=2)
    node.settle()
    receive(node, count=3)
    node.settle()
    assert len({job["key"] for job in node.jobs()}) == 2 and len(node.orthanc.results()) == 4 + 5


def test_images_that_come_between_look_and_work_are_in_the_one_job(node: Node) -> None:
    receive(node, count=2)
    node.feed.look()
    node.worker.look_at_one()
    receive(node, count=3)
    node.settle()
    assert node.orthanc.results() == WHOLE and len(node.jobs()) == 1


@pytest.mark.parametrize("stored", [1, 3, 4, 5])
def test_cut_off_after_any_store_it_ends_with_the_same_objects(node: Node, stored: int, monkeypatch: Any) -> None:
    receive(node)
    really = node.orthanc.store

    def store(file: bytes) -> str:
        if node.orthanc.stores == stored:
            raise KeyboardInterrupt
        return really(file)

    monkeypatch.setattr(node.orthanc, "store", store)
    if stored == 5:  # all are there, and only the ledger doesn't know
        monkeypatch.setattr(node.ledger, "done", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        node.settle()
    before = set(node.orthanc.files)
    monkeypatch.setattr(node.orthanc, "store", really)
    node.begin()
    node.settle()
    assert before <= set(node.orthanc.files) and node.orthanc.results() == WHOLE
    assert node.orthanc.stores == (5 if stored == 5 else stored + 5)
    (job,) = node.jobs()
    assert job["wrote"] == {"sc": 3, "seg": 1, "sr": 1}


def test_results_go_on_to_the_neighbour_until_it_takes_them(tiny_bundle: Path, tmp_path: Path) -> None:
    node = Node(tiny_bundle, tmp_path, send_to="pacs")
    receive(node)
    node.orthanc.fault["send"] = FakeOrthanc.no()
    node.settle()
    assert node.orthanc.stores == 5
    ((neighbour, instances),) = node.orthanc.sent
    assert neighbour == "pacs" and len(instances) == 5 and [job["end"] for job in node.jobs()] == ["done"]


def test_a_pacs_that_is_away_for_hours_is_waited_for_and_one_that_never_takes_it_is_not(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    node = Node(tiny_bundle, tmp_path, send_to="pacs")
    receive(node, count=1)
    asked = []

    def away(*_: object) -> None:
        asked.append(node.now)
        raise FakeOrthanc.no()

    with monkeypatch.context() as patched:
        patched.setattr(node.orthanc, "send", away)
        for _ in range(60):  # an hour
            node.now += 59
            node.loop.step()
        assert 8 < len(asked) < 20 and node.ledger.open_work() == 1 and node.jobs() == []
        for _ in range(SEND_TRIES):
            node.now += 601
            node.worker.do_one()
    assert [job.name for job in node.ledger.jobs(ASIDE)] == ["SaidNo"] and node.orthanc.stores == 3
    assert len(asked) == SEND_TRIES


def test_where_nothing_was_to_be_written_nothing_is_sent(tiny_bundle: Path, tmp_path: Path) -> None:
    node = Node(tiny_bundle, tmp_path, send_to="pacs")
    node.rule = Rule("all", "MR", window="0,4095", objects=("seg",))
    node.begin()
    receive(node, count=1, PixelData=bytes(64 * 64 * 2))
    node.settle()
    (job,) = node.jobs()
    assert (job["end"], job["wrote"], node.orthanc.sent) == ("done", {}, [])
    assert "no pixel" in job["left_out"]["seg"]


def test_a_poisonous_study_is_set_aside_by_name_and_holds_up_nobody(node: Node) -> None:
    receive(node, 1, NumberOfFrames=2)
    receive(node, 2)
    node.settle()
    assert sorted(job["end"] for job in node.jobs()) == ["aside", "done"] and node.orthanc.results() == WHOLE
    (aside,) = node.ledger.jobs(ASIDE)
    assert aside.name == "InputRefused" and "more than one frame" in aside.why
    assert all("frame" not in text for text in (*node.audit, *node.said))  # it may quote what stands in a file


def test_a_series_with_more_images_than_the_rule_allows_is_not_fetched(node: Node) -> None:
    node.rule = Rule("all", "MR", window="0,4095", images=2)
    node.begin()
    receive(node)
    node.orthanc.fault["file"] = AssertionError("fetched")
    node.settle()
    assert [job["refused"] for job in node.jobs()] == ["InputRefused"]


def test_one_that_kills_the_process_each_time_is_set_aside(node: Node) -> None:
    receive(node)
    node.feed.look()
    node.worker.look_at_one()
    for _ in range(MOST_STARTS):
        assert node.ledger.begin() is not None  # and then the power went
    node.begin()
    node.settle()
    assert [(job["end"], job["refused"]) for job in node.jobs()] == [("aside", "EndsTheNode")]


@pytest.mark.parametrize("call", ["series", "file", "store", "find"])
def test_what_may_pass_is_tried_again_and_at_last_set_aside(node: Node, call: str, monkeypatch: Any) -> None:
    receive(node)
    node.orthanc.fault[call] = FakeOrthanc.no()
    node.settle()
    assert node.orthanc.results() == WHOLE and [job["end"] for job in node.jobs()] == ["done"]
    receive(node, 2)
    for name in ("find", "store"):
        monkeypatch.setattr(node.orthanc, name, lambda _: (_ for _ in ()).throw(FakeOrthanc.no()))
    node.settle(60)
    assert [job["refused"] for job in node.jobs() if job["end"] == "aside"] == ["SaidNo"]


def test_a_study_deleted_in_between_is_named_gone(node: Node) -> None:
    receive(node)
    node.feed.look()
    node.worker.look_at_one()
    node.orthanc.fault["file"] = Gone("Orthanc", "is not there any more")
    node.settle()
    assert [job["refused"] for job in node.jobs()] == ["Gone"]
    node.orthanc.feed.append({"Seq": len(node.orthanc.feed) + 1, "ChangeType": "StableStudy", "ID": "nowhere"})
    node.settle()
    assert node.ledger.open_work() == 0


def test_an_internal_fault_ends_no_other_work_and_quotes_nothing(node: Node, monkeypatch: Any) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Doe^Jane")

    receive(node)
    with monkeypatch.context() as patched:
        patched.setattr(worker_module, "make_objects", broken)
        node.settle(40)
    assert [job["refused"] for job in node.jobs()] == ["InternalFault"]
    assert all("Doe" not in text for text in (*node.audit, *node.said))


def test_an_engine_that_fails_ends_the_node_and_the_job_is_not_lost(node: Node, monkeypatch: Any) -> None:
    def broken(*_: object) -> None:
        raise EngineRefused("the engine", "is gone")

    receive(node)
    with monkeypatch.context() as patched, pytest.raises(EngineRefused):
        patched.setattr(worker_module, "examine", broken)
        node.settle()
    node.begin()
    node.settle()
    assert node.orthanc.results() == WHOLE


def test_an_orthanc_that_is_away_is_waited_out_and_told_of_once(node: Node) -> None:
    receive(node)
    node.orthanc.away = True
    start = node.now
    node.settle(20)
    assert node.now - start < 20 * 10 + 1 and sum("waiting: Orthanc" in line for line in node.said) == 1
    node.orthanc.away = False
    node.settle()
    assert node.orthanc.results() == WHOLE and "all is well again" in node.said


def test_orthanc_going_away_in_the_middle_of_a_job_costs_it_nothing(node: Node) -> None:
    receive(node)
    for _ in range(2 * MOST_STARTS):
        node.orthanc.fault["store"] = Unreachable("Orthanc", "is away")
        node.settle(2)
    node.orthanc.fault.clear()
    node.settle()
    assert [job["end"] for job in node.jobs()] == ["done"]


def test_without_room_on_the_disk_nothing_is_begun(node: Node) -> None:
    def low() -> None:
        raise DiskLow("state", "0.1 GB are free")

    receive(node)
    node.disk = low
    node.settle(10)
    assert node.orthanc.stores == 0 and any("0.1 GB" in line for line in node.said)
    node.disk = lambda: None
    node.settle()
    assert node.orthanc.results() == WHOLE


def test_a_full_queue_takes_nothing_new_from_the_feed(tiny_bundle: Path, tmp_path: Path) -> None:
    node = Node(tiny_bundle, tmp_path, queue=1)
    for number in range(1, 5):
        receive(node, number, count=1)
    most = 0
    for _ in range(40):
        node.feed.look()
        most = max(most, node.ledger.open_work())
        node.loop.step()
    assert most == 1 and len(node.jobs()) == 4 and node.ledger.open_work() == 0


def test_another_orthanc_in_its_place_is_read_from_its_beginning(node: Node) -> None:
    receive(node)
    node.settle()
    node.orthanc = FakeOrthanc()
    node.begin()
    receive(node, 2, count=1)
    node.settle()
    assert node.ledger.cursor == 1 and len(node.jobs()) == 2


def test_waits_grow_and_end() -> None:
    waits = [wait_s(fails) for fails in range(12)]
    assert waits == sorted(waits) and (waits[0], waits[-1]) == (5.0, 600.0)
