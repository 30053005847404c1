"""The pipeline: in order, in bounded memory, and a fault anywhere stops all of it after what came before is written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from madclip_runtime import Detector
from madclip_runtime.errors import EngineRefused, InputRefused, OutputNotWritten
from madclip_runtime.imaging import DecodedImage
from madclip_runtime.inputs import Job
from madclip_runtime.pipeline import Done, run_pipeline


def frame(level: int) -> DecodedImage:
    if level == 13:
        raise InputRefused(str(level), "an unlucky number")
    return DecodedImage(np.full((20, 20, 3), level, np.uint8), "L")


def jobs(count: int) -> Iterator[Job]:
    for level in range(count):
        yield Job(Path(str(level)), str(level), Path(str(level)), partial(frame, level))


@pytest.fixture
def detector(tiny_bundle: Path) -> Detector:
    return Detector.load(tiny_bundle)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_results_come_in_the_order_of_the_inputs_refusals_too(detector: Detector, batch: int) -> None:
    done: list[Done] = []
    run_pipeline(jobs(40), detector, done.append, batch=batch)
    assert [item.job.name for item in done] == [str(level) for level in range(40)]
    assert [item.job.name for item in done if item.refusal is not None] == ["13"]
    for item in done:
        for result in item.results:
            assert result.score == detector(np.full((20, 20), int(item.job.name), np.uint8)).score


def test_reading_ahead_is_bounded(detector: Detector) -> None:
    """With the writer stopped, only what the queues hold has been read."""
    go, read = threading.Event(), []

    def counted() -> Iterator[Job]:
        for job in jobs(100):
            read.append(job)
            yield job

    def write(done: Done) -> None:
        if done.job.name == "0":
            go.wait(timeout=1.0)
            assert len(read) <= 16

    run_pipeline(counted(), detector, write)
    assert len(read) == 100


def test_one_image_larger_than_the_limit_still_goes_through(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("madclip_runtime.pipeline._MOST_BYTES", 100)
    done: list[Done] = []
    run_pipeline(jobs(5), detector, done.append)
    assert len(done) == 5


@pytest.mark.parametrize("where", ["read", "compute", "write"])
def test_a_fault_anywhere_is_raised_here_and_ends_every_thread(
    detector: Detector, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()
    written = []
    fault = {"read": RuntimeError, "compute": EngineRefused, "write": OutputNotWritten}[where]

    def stop(*_: object, **__: object) -> None:
        raise fault("x", "broken")

    def feed() -> Iterator[Job]:
        yield from jobs(3)
        if where == "read":
            stop()
        yield from jobs(50)

    def write(done: Done) -> None:
        written.append(done)
        if where == "write" and len(written) == 3:
            stop()

    if where == "compute":
        real, calls = detector.engine.run, []

        def run(*arguments: object) -> object:
            calls.append(arguments)
            return real(*arguments) if len(calls) <= 3 else stop()  # type: ignore[arg-type, func-returns-value]

        monkeypatch.setattr(detector.engine, "run", run)
    with pytest.raises(fault):
        run_pipeline(feed(), detector, write)
    assert len(written) <= 3 if where == "read" else len(written) == 3
    for thread in threading.enumerate():
        if thread.name.startswith("madclip-"):
            thread.join(timeout=5)
    assert threading.active_count() == before


def test_a_thousand_repeats_give_one_score_bit_for_bit(detector: Detector) -> None:
    scores = set()
    level = [Job(Path("x"), "x", Path("x"), partial(frame, 77))] * 1000
    run_pipeline(level, detector, lambda done: scores.add(done.results[0].score), batch=4)
    assert len(scores) == 1
