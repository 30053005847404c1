"""The loop on a made-up clock and engine: what is counted, what is not, and when it ends."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from madclip_bench.bench import time_detector
from madclip_bench.images import ImageSet, synthetic_images
from madclip_bench.report import Report
from madclip_bench.run import Rules, measure
from madclip_runtime.bundle import Bundle
from madclip_runtime.detector import Detector
from madclip_runtime.engines import Answer, Answers, EngineInfo
from madclip_runtime.errors import EngineRefused


class Clock:
    """Time passes only where a test says so."""

    def __init__(self) -> None:
        self.ns = 10**12

    def __call__(self) -> int:
        return self.ns

    def pass_ms(self, milliseconds: float) -> None:
        self.ns += round(milliseconds * 1e6)


class FakeEngine:
    """Takes as long as it is told, the n-th call `cost_ms(n)`, and notes what it was given."""

    info = EngineInfo("fake", "fake 1", "none", "fp32", 1)

    def __init__(self, clock: Clock, cost_ms: Callable[[int], float]) -> None:
        self.clock, self.cost_ms, self.calls = clock, cost_ms, 0

    def run(self, images: npt.NDArray[np.uint8], heads: Sequence[str] | None = None) -> Answers:
        assert images.shape == (1, 32, 32, 3)
        self.clock.pass_ms(self.cost_ms(self.calls))
        self.calls += 1
        return {"brightness": Answer(np.full(1, 0.5, np.float32), np.full((1, 32, 32), 0.5, np.float32))}


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Small ones, so that real decoding costs the test little."""
    patch = pytest.MonkeyPatch()
    patch.setattr("madclip_bench.images._SIDE", 48)
    made = synthetic_images(seed=1)
    patch.undo()
    return made


@pytest.fixture
def time_fake(tiny_bundle: Path, images: ImageSet) -> Callable[..., Report]:
    """Run the bench on an engine of the given cost; `tick_ms` passes in each tick."""

    def run(cost_ms: Callable[[int], float], rules: Rules, tick_ms: float = 0.0) -> Report:
        clock = Clock()
        detector = Detector(Bundle.load(tiny_bundle), FakeEngine(clock, cost_ms))
        tick = lambda queries, elapsed_s: clock.pass_ms(tick_ms)  # noqa: E731
        return time_detector(detector, images, rules, load_ms=1.0, clock_ns=clock, tick=tick)

    return run


def test_latency_is_the_engines_cost(time_fake: Callable[..., Report]) -> None:
    report = time_fake(lambda call: 20.0, Rules.fast(seed=0))
    assert report.samples is not None
    assert set(report.samples.latency_ms) == {20.0}
    assert report.figures.images_per_s == 50.0
    assert report.setting.duration_s == pytest.approx(13.24)
    assert report.figures.outside_share == 0.0


def test_a_stalled_engines_waiting_time_is_counted(time_fake: Callable[..., Report]) -> None:
    """Seven seconds of nothing in the middle of a run is somebody's seven seconds."""
    report = time_fake(lambda call: 7000.0 if call == 300 else 20.0, Rules.fast(seed=0))
    figures = report.figures
    assert figures.latency.max_ms == 7000.0
    assert figures.latency.percentiles[-1].early_stopping_ms == 7000.0
    assert figures.images_per_s == pytest.approx(662 / (661 * 0.02 + 7), abs=1e-3)


def test_a_slow_onlooker_falls_outside_every_latency_and_is_shown(time_fake: Callable[..., Report]) -> None:
    report = time_fake(lambda call: 20.0, Rules.fast(seed=0), tick_ms=5.0)
    assert report.figures.latency.max_ms == 20.0
    assert report.figures.outside_share == pytest.approx(0.2)
    assert any("outside every latency" in warning for warning in report.warnings)


@pytest.mark.parametrize(("cost_ms", "queries"), [(250.0, 3), (90.0, 3), (66.7, 3), (66.6, 4), (20.0, 10)])
def test_warm_up_is_200_ms_and_three_queries(time_fake: Callable[..., Report], cost_ms: float, queries: int) -> None:
    warmup = time_fake(lambda call: cost_ms, Rules.fast(seed=0)).setting.warmup
    assert warmup.queries == queries
    assert warmup.total_ms == pytest.approx(warmup.queries * cost_ms)
    assert warmup.first_result_ms == cost_ms


def test_a_slow_first_result_is_a_figure_of_its_own(time_fake: Callable[..., Report]) -> None:
    report = time_fake(lambda call: 900.0 if call == 0 else 20.0, Rules.fast(seed=0))
    assert report.setting.warmup.first_result_ms == 900.0
    assert report.figures.latency.max_ms == 20.0


@pytest.mark.parametrize(("cost_ms", "queries"), [(1.0, 662), (45.0, 662), (100.0, 300), (1000.0, 64)])
def test_quick_ends_at_662_queries_or_30_s_but_not_before_64(
    time_fake: Callable[..., Report], cost_ms: float, queries: int
) -> None:
    assert time_fake(lambda call: cost_ms, Rules.fast(seed=0)).figures.latency.queries == queries


@pytest.mark.parametrize(("cost_ms", "queries", "seconds"), [(500.0, 1200, 600.0), (2000.0, 662, 1324.0)])
def test_full_needs_600_s_and_662_queries(
    time_fake: Callable[..., Report], cost_ms: float, queries: int, seconds: float
) -> None:
    report = time_fake(lambda call: cost_ms, Rules.full(seed=0))
    assert (report.figures.latency.queries, report.setting.duration_s) == (queries, seconds)
    assert "quick run" not in report.marks


def test_order_and_stages_are_recorded_for_every_query(time_fake: Callable[..., Report], images: ImageSet) -> None:
    one, again, other = (time_fake(lambda call: 20.0, Rules.fast(seed)).samples for seed in (4, 4, 5))
    assert one is not None and again is not None and other is not None
    assert one.order == again.order != other.order
    assert one.image_sha256 == images.hashes
    assert {stage: len(values) for stage, values in one.stage_ms.items()} == dict.fromkeys(
        ("decode", "preprocess", "compute"), 662
    )


def test_an_engine_that_fails_ends_the_run(tiny_bundle: Path, images: ImageSet) -> None:
    def fail(call: int) -> float:
        if call == 50:
            raise EngineRefused("fake", "lost its device")
        return 20.0

    clock = Clock()
    detector = Detector(Bundle.load(tiny_bundle), FakeEngine(clock, fail))
    with pytest.raises(EngineRefused, match="lost its device"):
        measure(detector, images, Rules.fast(seed=0), clock_ns=clock)
