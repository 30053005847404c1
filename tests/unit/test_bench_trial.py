"""Both loops on a made-up clock: what is counted, what is not, when they end, and that no waiting hides."""

from pathlib import Path

import pytest
from bench_fakes import Clock, FakeEngine, fake_bench

from madclip_bench.bench import time_detector
from madclip_bench.images import ImageSet, synthetic_images
from madclip_bench.rules import Limits, Rules
from madclip_bench.streams import StreamFigures
from madclip_bench.subject import AnswerBook, subject_of
from madclip_bench.trial import closed_loop, open_loop, warm_up
from madclip_runtime.bundle import Bundle
from madclip_runtime.detector import Detector
from madclip_runtime.errors import EngineRefused

FAST = Rules.fast(seed=0)
FULL = Rules.full(seed=0)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Small ones, so that real decoding costs the test little."""
    patch = pytest.MonkeyPatch()
    patch.setattr("madclip_bench.images._SIDE", 48)
    made = synthetic_images(seed=1)
    patch.undo()
    return made


def test_latency_is_what_a_query_takes() -> None:
    bench, _ = fake_bench(lambda call, images: 20.0)
    trial = closed_loop(bench, "single", FAST.single)
    figures = StreamFigures.of(trial)
    assert set(trial.latency_ms) == {20.0}
    assert (figures.images_per_s, figures.outside_share) == (50.0, 0.0)
    assert trial.duration_s == pytest.approx(13.24)
    assert figures.stage_median_ms == {"decode": 5.0, "compute": 10.0, "other": 5.0}


def test_a_stalled_query_is_charged_for_all_of_it() -> None:
    bench, _ = fake_bench(lambda call, images: 7000.0 if call == 300 else 20.0)
    figures = StreamFigures.of(closed_loop(bench, "single", FULL.single))
    assert figures.latency.max_ms == 7000.0
    assert figures.latency.percentile("p99").value_ms == 20.0
    assert figures.latency.mean_ms > 20.0


def test_whoever_arrives_during_a_stall_is_charged_for_the_wait() -> None:
    """Coordinated omission: a loop that waits politely sees one slow query; those who came meanwhile see seventy."""
    bench, _ = fake_bench(lambda call, images: 7000.0 if call == 300 else 20.0)
    arrivals = [100.0 * i for i in range(1000)]  # ten a second
    trial = open_loop(bench, "server", arrivals)
    assert trial.latency_ms[300] == 7000.0
    assert trial.latency_ms[301] == pytest.approx(7000.0 - 100.0 + 20.0)
    slow = sum(latency > 1000.0 for latency in trial.latency_ms)
    assert slow == pytest.approx(76, abs=2)  # until the backlog of 7 s is worked off at 80 ms a query
    assert trial.waited_ms[301] == pytest.approx(6900.0)
    assert trial.latency_ms[299] == 20.0 == trial.latency_ms[999]


def test_a_query_is_never_issued_before_it_arrives() -> None:
    bench, clock = fake_bench(lambda call, images: 20.0)
    start = clock.ns
    trial = open_loop(bench, "server", [0.0, 500.0, 501.0])
    assert trial.latency_ms == (20.0, 20.0, 39.0)
    assert clock.ns - start == pytest.approx(540e6)
    assert trial.scheduled_ms == (0.0, 500.0, 501.0)


def test_waking_up_late_counts() -> None:
    class Sleepy(Clock):
        def sleep_until_ns(self, when_ns: int) -> None:
            self.ns = max(self.ns, when_ns + 3_000_000)

    bench, _ = fake_bench(lambda call, images: 20.0)
    sleepy = Sleepy()
    ask = bench.ask

    class Bench(type(bench)):  # type: ignore[misc]
        def ask(self, indices):  # type: ignore[no-untyped-def]
            sleepy.pass_ms(20.0)
            return ask(indices)

    late = Bench(bench.subject, bench.images, sleepy, 0)
    assert open_loop(late, "server", [10.0]).latency_ms == (23.0,)


def test_a_hopeless_stretch_ends_and_says_so() -> None:
    bench, _ = fake_bench(lambda call, images: 20.0)
    trial = open_loop(bench, "server", [0.0] * 50, hopeless=lambda latency_ms: latency_ms > 100.0)
    assert trial.cut and trial.queries == 6
    assert not open_loop(bench, "server", [0.0] * 5, hopeless=lambda latency_ms: latency_ms > 100.0).cut


def test_a_slow_onlooker_falls_outside_every_latency_and_is_shown() -> None:
    bench, clock = fake_bench(lambda call, images: 20.0)
    watched = type(bench)(bench.subject, bench.images, clock, 0, tick=lambda *_: clock.pass_ms(5.0))
    figures = StreamFigures.of(closed_loop(watched, "single", FAST.single))
    assert figures.latency.max_ms == 20.0
    assert figures.outside_share == pytest.approx(0.2)


@pytest.mark.parametrize(("cost_ms", "queries"), [(250.0, 3), (90.0, 3), (66.7, 3), (66.6, 4), (20.0, 10)])
def test_warm_up_is_200_ms_and_three_queries(cost_ms: float, queries: int) -> None:
    bench, _ = fake_bench(lambda call, images: cost_ms)
    warmup = warm_up(bench, 200.0, 3)
    assert (warmup.queries, warmup.first_result_ms) == (queries, cost_ms)
    assert warmup.total_ms == pytest.approx(queries * cost_ms)


@pytest.mark.parametrize(("cost_ms", "queries"), [(1.0, 662), (20.0, 662), (100.0, 150), (20_000.0, 1)])
def test_a_quick_stretch_ends_at_662_queries_or_15_s_but_has_one(cost_ms: float, queries: int) -> None:
    bench, _ = fake_bench(lambda call, images: cost_ms)
    assert closed_loop(bench, "single", FAST.single).queries == queries


@pytest.mark.parametrize(
    ("cost_ms", "queries", "seconds"), [(500.0, 1200, 600.0), (2000.0, 662, 1324.0), (10_000.0, 360, 3600.0)]
)
def test_a_full_stretch_needs_600_s_and_662_queries_within_an_hour(
    cost_ms: float, queries: int, seconds: float
) -> None:
    bench, _ = fake_bench(lambda call, images: cost_ms)
    trial = closed_loop(bench, "single", FULL.single)
    assert (trial.queries, trial.duration_s) == (queries, seconds)


def test_a_batch_is_one_query_of_several_images() -> None:
    bench, _ = fake_bench(lambda call, images: 5.0 * images)
    trial = closed_loop(bench, "multi", Limits(1.0, 1.0), batch=8)
    assert (trial.batch, set(trial.latency_ms), trial.queries) == (8, {40.0}, 25)
    assert len(trial.order) == 200 and trial.images_per_s == 200.0


def test_order_is_seeded_and_recorded() -> None:
    one, again, other = (
        closed_loop(fake_bench(lambda c, i: 20.0, seed=seed)[0], "single", FAST.single).order for seed in (4, 4, 5)
    )
    assert one == again != other
    assert sorted(one[:64]) == list(range(64))


def test_a_stage_that_some_queries_lack_took_them_no_time() -> None:
    from madclip_bench.subject import Answered

    bench, clock = fake_bench(lambda call, images: 0.0)
    turns = iter([{"compute": 1.0}, {"compute": 1.0, "copy_in": 0.5}])

    def ask(encoded: object) -> Answered:
        clock.pass_ms(2.0)
        return Answered((0.5,), next(turns))

    trial = closed_loop(type(bench)(ask, bench.images, clock, 0), "single", Limits(0.004, 0.004))
    assert trial.stage_ms == {"compute": (1.0, 1.0), "copy_in": (0.0, 0.5)}


def test_the_book_keeps_each_images_lowest_and_highest_answer() -> None:
    book = AnswerBook()
    book.note([3, 1], [0.5, 0.2])
    book.note([3], [0.4])
    assert book.columns(4) == ((None, 0.2, None, 0.4), (None, 0.2, None, 0.5))


def test_a_detector_is_asked_alone_or_in_a_batch(tiny_bundle: Path, images: ImageSet) -> None:
    clock = Clock()
    detector = Detector(Bundle.load(tiny_bundle), FakeEngine(clock, lambda call: 1.0))
    ask = subject_of(detector)
    alone, together = ask(images.encoded[:1]), ask(images.encoded[:3])
    assert alone.scores == (0.5,) and together.scores == (0.5, 0.5, 0.5)
    assert set(alone.stage_ms) == set(together.stage_ms) == {"decode", "preprocess", "compute"}


def test_a_batch_is_answered_as_its_images_alone(tiny_bundle: Path, images: ImageSet) -> None:
    ask = subject_of(Detector.load(tiny_bundle))
    alone = [ask([data]).scores[0] for data in images.encoded[:5]]
    assert list(ask(images.encoded[:5]).scores) == pytest.approx(alone, abs=1e-6)
    assert len(set(alone)) > 1


def test_a_run_without_a_sampler_says_that_nothing_watched(tiny_bundle: Path, images: ImageSet) -> None:
    clock = Clock()
    detector = Detector(Bundle.load(tiny_bundle), FakeEngine(clock, lambda call: 20.0))
    raw = time_detector(detector, images, Rules.fast(0, scenarios=("single",)), clock=clock)
    assert raw.monitor.absent == {"everything": "no sampler was asked for"}
    assert raw.idle.length_s == 1.0
    assert raw.trials.multi is None and raw.trials.server == ()
    assert raw.score_low.count(0.5) == 64


def test_an_engine_that_fails_ends_the_run(tiny_bundle: Path, images: ImageSet) -> None:
    def fail(call: int) -> float:
        if call == 50:
            raise EngineRefused("fake", "lost its device")
        return 20.0

    clock = Clock()
    detector = Detector(Bundle.load(tiny_bundle), FakeEngine(clock, fail))
    with pytest.raises(EngineRefused, match="lost its device"):
        time_detector(detector, images, FAST, clock=clock)
