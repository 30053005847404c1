"""The node's queue: each step whole or not at all, each job once, each study with its audit line; across kills."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madclip_runtime.errors import OutputNotWritten
from madclip_runtime.node.ledger import ASIDE, DONE, SENDING, WAITING, Ledger


class Clock:
    """Seconds, moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite", clock)


def fill(ledger: Ledger, *keys: str, study: str = "study") -> None:
    ledger.read_to(ledger.cursor + 1, [study])
    ledger.looked_at(study, 1, [(key, "series", "rule") for key in keys])


def test_the_feeds_place_goes_in_with_what_it_told_of(ledger: Ledger) -> None:
    ledger.read_to(7, ["a", "b", "a"])
    assert ledger.cursor == 7 and ledger.counts()["studies"] == 2
    ledger.read_to(9, [])
    assert ledger.cursor == 9 and ledger.next_study() == "a"


def test_a_job_is_known_by_its_key_and_made_once(ledger: Ledger) -> None:
    ledger.read_to(1, ["study"])
    assert ledger.looked_at("study", 1, [("key", "series", "rule")]) == 1
    ledger.read_to(2, ["study"])
    assert ledger.looked_at("study", 1, [("key", "series", "rule")]) == 0
    assert ledger.open_work() == 1


def test_a_study_without_work_gets_one_line_however_often_it_is_looked_at(ledger: Ledger) -> None:
    for place in (1, 2, 3):
        ledger.read_to(place, ["study"])
        ledger.looked_at("study", 4, [])
    (line,) = [json.loads(line) for _, line in ledger.audit_after(0)]
    assert (line["study"], line["series"], line["picked"], line["jobs"]) == ("study", 4, 0, [])


def test_the_line_comes_with_the_end_of_the_last_job(ledger: Ledger) -> None:
    fill(ledger, "one", "two")
    ledger.done("one", {"wrote": {"sc": 1}})
    assert ledger.audit_after(0) == []
    ledger.set_aside("two", "InputRefused", "told of a patient")
    ((number, text),) = ledger.audit_after(0)
    line = json.loads(text)
    assert number == 1 == ledger.last_audit and "patient" not in text
    assert [(job["key"], job["end"]) for job in line["jobs"]] == [("one", "done"), ("two", "aside")]
    assert line["jobs"][1]["refused"] == "InputRefused" and line["jobs"][0]["wrote"] == {"sc": 1}


def test_what_was_sent_and_not_sent_on_goes_on_from_there(ledger: Ledger) -> None:
    fill(ledger, "one")
    assert ledger.begin() is not None
    ledger.stored("one", {"wrote": {"sr": 1}})
    job = ledger.begin()
    assert job is not None and (job.state, job.outcome) == (SENDING, {"wrote": {"sr": 1}})


def test_one_that_was_begun_and_never_ended_goes_last_and_its_starts_are_counted(ledger: Ledger, clock: Clock) -> None:
    fill(ledger, "poison", study="a")
    clock.now += 1
    fill(ledger, "good", study="b")
    begun = [job.key for job in (ledger.begin() for _ in range(4)) if job is not None]
    assert begun == ["poison", "poison", "poison", "good"]
    ledger.done("good", {})
    job = ledger.begin()
    assert job is not None and (job.key, job.starts) == ("poison", 4)
    ledger.give_back("poison")
    job = ledger.begin()
    assert job is not None and job.starts == 4


def test_a_fault_that_may_pass_waits_its_time(ledger: Ledger, clock: Clock) -> None:
    fill(ledger, "one")
    ledger.begin()
    ledger.put_off("one", "SaidNo", "why", 5.0)
    assert ledger.begin() is None
    clock.now += 5
    job = ledger.begin()
    assert job is not None and (job.fails, job.starts, job.name) == (1, 1, "SaidNo")


def test_what_was_set_aside_can_be_taken_back_one_or_all(ledger: Ledger) -> None:
    fill(ledger, "one", "two")
    for key in ("one", "two"):
        ledger.set_aside(key, "InputRefused", "why")
    assert [job.key for job in ledger.jobs(ASIDE)] == ["one", "two"]
    assert ledger.try_again("one") == 1 and ledger.try_again("one") == 0 and ledger.try_again(None) == 1
    assert ledger.counts() == {WAITING: 2, SENDING: 0, DONE: 0, ASIDE: 0, "studies": 0}


def test_a_job_whose_images_changed_sends_its_study_back_to_be_looked_at(ledger: Ledger) -> None:
    fill(ledger, "old")
    ledger.superseded("old")
    assert ledger.next_study() == "study" and ledger.begin() is None


def test_a_sweep_takes_what_is_new_or_changed_only(ledger: Ledger) -> None:
    assert ledger.seen("study", "monday")
    ledger.looked_at("study", 1, [])
    assert not ledger.seen("study", "monday") and ledger.seen("study", "tuesday")


def test_its_file_is_for_this_user_alone_and_a_later_version_is_refused(tmp_path: Path, ledger: Ledger) -> None:
    path = tmp_path / "ledger.sqlite"
    assert path.stat().st_mode & 0o077 == 0
    ledger.close()
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 9")
    later.close()
    with pytest.raises(OutputNotWritten, match="version 9"):
        Ledger(path)


def test_a_file_that_is_no_ledger_is_one_named_refusal(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no database at all" * 100)
    with pytest.raises(OutputNotWritten):
        Ledger(tmp_path / "x")


STEPS = st.lists(
    st.tuples(st.sampled_from(["feed", "look", "begin", "done", "put off", "aside", "kill"]), st.integers(0, 3)),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_each_job_ends_once_and_is_told_once(steps: list[tuple[str, int]]) -> None:
    """Steps in any order, with kills (the file opened anew) between them; then all that is left is done."""
    with tempfile.TemporaryDirectory() as folder:
        clock, path = Clock(), Path(folder) / "ledger.sqlite"
        ledger = Ledger(path, clock)
        known: set[str] = set()
        for step, number in steps:
            clock.now += 1
            study = f"study{number}"
            if step == "kill":
                ledger.close()
                ledger = Ledger(path, clock)
            elif step == "feed":
                ledger.read_to(ledger.cursor + 1, [study])
                known.add(study)
            elif step == "look":
                _look(ledger)
            elif (job := ledger.begin()) is not None:
                if step == "done":
                    ledger.done(job.key, {})
                elif step == "aside":
                    ledger.set_aside(job.key, "InputRefused", "")
                elif step == "put off":
                    ledger.put_off(job.key, "SaidNo", "", 3.0)
        clock.now += 1000
        while _look(ledger):
            pass
        while (job := ledger.begin()) is not None:
            ledger.done(job.key, {})
        assert ledger.open_work() == 0
        told = [job["key"] for _, line in ledger.audit_after(0) for job in json.loads(line)["jobs"]]
        assert sorted(told) == sorted(f"{study}-{part}" for study in known for part in "ab")
        ledger.close()


def _look(ledger: Ledger) -> bool:
    study = ledger.next_study()
    if study is not None:
        ledger.looked_at(study, 2, [(f"{study}-{part}", part, "rule") for part in "ab"])
    return study is not None
