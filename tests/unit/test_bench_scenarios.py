"""Scenarios on a made-up clock: the server's rate search, the scanner's rooms, the sweep, and the two sets of rules."""

import math

import pytest
from bench_fakes import fake_bench, open_trial, rooms_trial

from madclip_bench.rules import EXTRA, SCENARIOS, Limits, Rules, ScannerRules, ServerRules
from madclip_bench.scanner import RoomsPoint, ScannerFigures, find_rooms
from madclip_bench.scenarios import run_scenarios
from madclip_bench.server import MISSED, UNDECIDED, RatePoint, RateTrial, ServerFigures, find_rate

FULL = Rules.full(seed=0)


def test_the_server_search_ends_between_a_rate_that_held_and_one_that_missed() -> None:
    """A constant 10 ms leaves 40 ms to wait. By the tail of M/D/1, P(W > w) ≈ e^(−θw) with λ(e^(θs) − 1) = θ, one in a
    hundred waits longer at ρ ≈ 0.54, far below the 100 images a second that an offline run would report.
    """
    bench, _ = fake_bench(lambda call, images: 10.0)
    rules = ServerRules(50.0, Limits(600.0, 3600.0, least_queries=662), most_trials=12)
    found = ServerFigures.of(find_rate(bench, rules, (10.0,) * 700), rules)
    assert found.held_per_s is not None and found.missed_per_s is not None
    assert 51 < found.held_per_s < 55 < found.missed_per_s < 58
    held = next(point for point in found.tried if point.rate_per_s == found.held_per_s)
    assert held.percentile.early_stopping_ms is not None and held.percentile.early_stopping_ms <= 50.0
    assert held.busy_share == pytest.approx(held.rate_per_s / 100, abs=0.02)
    assert found.note == ""


def test_a_rate_only_counts_where_its_estimate_holds_not_just_its_own_percentile() -> None:
    trial = open_trial(10.0, 700)
    slow = list(trial.latency_ms)
    for index in range(6):  # 0.86 % over the bound: the sample's p99 holds, the estimate does not
        slow[index] = 500.0
    worse = type(trial)(**{**vars(trial), "latency_ms": tuple(slow)})
    point = RatePoint.of(RateTrial(10.0, worse), ServerRules(100.0, FULL.server.limits))
    assert point.percentile.value_ms == 20.0 and point.percentile.early_stopping_ms == 500.0
    assert (point.verdict, point.over_bound) == (MISSED, 6)


def test_too_few_queries_decide_nothing() -> None:
    rules = ServerRules(100.0, FULL.server.limits)
    found = ServerFigures.of((RateTrial(10.0, open_trial(10.0, 661)),), rules)
    assert (found.tried[0].verdict, found.held_per_s) == (UNDECIDED, None)
    assert found.note == "not supported, needs 662 queries"


def test_a_bound_below_one_images_time_is_lost_without_a_trial() -> None:
    bench, _ = fake_bench(lambda call, images: 80.0)
    rules = ServerRules(50.0, FULL.server.limits)
    trials = find_rate(bench, rules, (80.0,) * 700)
    assert trials == ()
    assert ServerFigures.of(trials, rules).note == "one image alone already takes as long, or nearly"


def test_a_lost_rate_is_cut_short_and_the_search_goes_down() -> None:
    """The box is slower under load than single stream was: the prediction is too high."""
    bench, _ = fake_bench(lambda call, images: 14.0)
    rules = ServerRules(100.0, Limits(600.0, 3600.0, least_queries=662), most_trials=8)
    found = ServerFigures.of(find_rate(bench, rules, (10.0,) * 700), rules)
    worst = max(found.tried, key=lambda point: point.rate_per_s)
    assert worst.cut and worst.verdict == MISSED and worst.percentile.value_ms is None
    assert worst.queries < 600 * worst.rate_per_s
    assert found.held_per_s is not None and found.held_per_s < 1e3 / 14


def test_a_held_rate_never_came_from_a_stretch_shorter_than_the_rules() -> None:
    bench, _ = fake_bench(lambda call, images: 10.0)
    rules = ServerRules(1000.0, FULL.server.limits)
    for tried in find_rate(bench, rules, (10.0,) * 700):
        assert tried.trial.queries >= 662
        assert tried.trial.cut or tried.trial.duration_s >= 600


@pytest.mark.parametrize(
    ("rate", "arrivals"), [(10.0, 6000), (0.5, 662), (0.1, 360), (1e-9, 1)], ids=["time", "queries", "an hour", "one"]
)
def test_a_stretch_has_as_many_arrivals_as_its_limits_ask_for(rate: float, arrivals: int) -> None:
    assert FULL.server.limits.arrivals(rate) == arrivals


@pytest.mark.parametrize(("image_ms", "rooms"), [(100.0, 5), (50.0, 11), (500.0, 1)])
def test_rooms_are_what_the_boxs_speed_allows(image_ms: float, rooms: int) -> None:
    """400 slices every 240 s are 1.67 a second: at 100 ms an image 6 rooms would need all of it, 5 leave a rest."""
    bench, _ = fake_bench(lambda call, images: image_ms * images)
    rules = ScannerRules()
    trials = find_rooms(bench, rules, images_per_s=1e3 / image_ms, batch=4)
    found = ScannerFigures.of(trials, rules)
    assert found.rooms == rooms
    kept = next(point for point in found.tried if point.rooms == rooms)
    assert kept.busy_share == pytest.approx(rooms * image_ms / 600, abs=0.02)
    assert kept.exams == rooms * 3


def test_a_box_too_slow_for_one_room_says_so() -> None:
    bench, _ = fake_bench(lambda call, images: 700.0 * images)
    rules = ScannerRules()
    found = ScannerFigures.of(find_rooms(bench, rules, images_per_s=1 / 0.7, batch=1), rules)
    assert (found.rooms, found.falls_behind_at) == (0, 1)
    assert found.tried[0].slowest_s == pytest.approx(280.0)


def test_fewer_rooms_are_tried_where_the_measured_throughput_promised_too_much() -> None:
    bench, _ = fake_bench(lambda call, images: 100.0 * images)
    rules = ScannerRules()
    found = ScannerFigures.of(find_rooms(bench, rules, images_per_s=12.0, batch=1), rules)
    assert found.rooms == 5
    assert found.falls_behind_at == 6


def test_a_box_with_no_rest_does_not_keep_up_even_if_no_exam_was_late_yet() -> None:
    rules = ScannerRules()
    assert RoomsPoint.of(rooms_trial(30, 200.0, busy_s=600.0), rules).keeps_up
    assert not RoomsPoint.of(rooms_trial(30, 200.0, busy_s=700.0), rules).keeps_up
    late = RoomsPoint.of(rooms_trial(30, 241.0, busy_s=600.0), rules)
    assert (late.keeps_up, late.late) == (False, 90)


def test_a_scaled_pattern_sends_the_same_images_a_second() -> None:
    small = ScannerRules().scaled_to(4)
    assert small.images_per_s == pytest.approx(ScannerRules().images_per_s)
    assert (small.slices, small.period_s, small.scale) == (4, pytest.approx(2.4), 0.01)
    assert ScannerRules(slices=3, period_s=1.0).scaled_to(4).slices == 3
    figures = ScannerFigures.of((), small)
    assert (figures.slices, figures.period_s, figures.deadline_s) == (400, 240.0, 240.0)


def test_the_sweep_finds_the_batch_that_pays_and_offline_runs_with_it() -> None:
    """A fixed cost a call makes batches pay, until 16 at once cost more than they save."""
    bench, _ = fake_bench(lambda call, images: 10.0 + 5.0 * images + (200.0 if images == 16 else 0.0))
    trials = run_scenarios(bench, Rules.full(0, scenarios=("single", "offline")))
    assert [trial.batch for trial in trials.sweep] == [1, 2, 4, 8, 16]
    assert trials.offline is not None and trials.offline.batch == 8
    assert trials.offline.images_per_s == pytest.approx(160.0)


def test_a_batch_whose_one_query_would_fill_its_stretch_is_not_tried() -> None:
    bench, _ = fake_bench(lambda call, images: 500.0 * images)
    trials = run_scenarios(bench, Rules.fast(0, scenarios=("single", "offline")))
    assert [trial.batch for trial in trials.sweep] == [1]


def test_a_quick_run_of_a_slow_box_stays_within_a_minute() -> None:
    bench, clock = fake_bench(lambda call, images: 500.0 * images)
    start = clock.ns
    run_scenarios(bench, Rules.fast(0))
    assert (clock.ns - start) / 1e9 < 40.0


def test_a_rate_that_would_give_no_query_in_all_the_time_is_not_tried() -> None:
    bench, clock = fake_bench(lambda call, images: 1000.0 * images)
    start = clock.ns
    assert find_rate(bench, Rules.fast(0).server, (1000.0,) * 15) == ()
    assert clock.ns == start


def test_a_full_run_gives_every_scenario_its_ten_minutes() -> None:
    bench, _ = fake_bench(lambda call, images: 50.0 * images)
    trials = run_scenarios(bench, FULL)
    for trial in (trials.single, trials.multi, trials.offline):
        assert trial is not None and trial.duration_s >= 600.0
    assert all(one.trial.duration_s >= 600.0 or one.trial.cut for one in trials.server)
    assert all(one.duration_s > 480.0 for one in trials.scanner)


def test_what_was_not_asked_for_is_not_run() -> None:
    bench, _ = fake_bench(lambda call, images: 5.0 * images)
    trials = run_scenarios(bench, Rules.fast(0, scenarios=("single", "multi")))
    assert trials.multi is not None
    assert (trials.sweep, trials.offline, trials.server, trials.scanner) == ((), None, (), ())
    assert ("single", *EXTRA) == SCENARIOS


def test_both_sets_of_rules_say_all_they_need() -> None:
    for rules in (Rules.fast(3), FULL):
        assert math.isfinite(rules.single.most_s) and rules.server.bound_ms == 1000.0
        assert rules.style == "MLPerf-style; not an MLPerf result"
    assert Rules.fast(3).quick and not FULL.quick
