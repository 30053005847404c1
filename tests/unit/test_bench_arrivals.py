"""Arrivals and queues against formulas of queueing theory."""

import itertools

import numpy as np
import pytest
from bench_fakes import fake_bench
from hypothesis import given, settings
from hypothesis import strategies as st

from madclip_bench.arrivals import exam_arrivals, lindley_waits, poisson_arrivals, predicted_rate
from madclip_bench.trial import open_loop


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_a_simulated_server_queue_waits_as_m_d_1_says(busy: float) -> None:
    """Mean wait of M/D/1 (Pollaczek–Khinchine): s·ρ / (2·(1 − ρ)). The loop itself is run, on a made-up clock."""
    service_ms, count = 10.0, 40_000
    bench, _ = fake_bench(lambda call, images: service_ms)
    trial = open_loop(bench, "server", poisson_arrivals(1e3 * busy / service_ms, count, seed=1))
    waits = np.array(trial.latency_ms) - service_ms
    assert waits.mean() == pytest.approx(service_ms * busy / (2 * (1 - busy)), rel=0.06)
    assert (waits < 1e-3).mean() == pytest.approx(1 - busy, abs=0.01)  # who comes to an idle server waits for nothing
    assert np.allclose(waits, trial.waited_ms, atol=1e-3)


@pytest.mark.parametrize("busy", [0.5, 0.8])
def test_lindleys_recursion_waits_as_m_m_1_says(busy: float) -> None:
    """Mean wait of M/M/1: s·ρ / (1 − ρ)."""
    generator = np.random.default_rng(3)
    arrivals = np.cumsum(generator.exponential(1 / busy, 200_000))
    waits = lindley_waits(arrivals, generator.exponential(1.0, 200_000))
    assert waits.mean() == pytest.approx(busy / (1 - busy), rel=0.06)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=60))
@settings(deadline=None)
def test_waits_are_those_of_a_queue_played_by_hand(pairs: list[tuple[float, float]]) -> None:
    arrivals = np.cumsum([gap for gap, _ in pairs])
    services = np.array([service for _, service in pairs])
    free, expected = 0.0, []
    for arrival, service in zip(arrivals, services, strict=True):
        begin = max(free, arrival)
        expected.append(begin - arrival)
        free = begin + service
    assert lindley_waits(arrivals, services) == pytest.approx(expected, abs=1e-6)


def test_poisson_gaps_are_exponential_and_seeded() -> None:
    arrivals = poisson_arrivals(50.0, 20_000, seed=4)
    gaps = np.diff(arrivals)
    assert gaps.mean() == pytest.approx(20.0, rel=0.03)
    assert gaps.std() == pytest.approx(20.0, rel=0.03)
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0.0, abs=0.03)
    assert arrivals == poisson_arrivals(50.0, 20_000, seed=4) != poisson_arrivals(50.0, 20_000, seed=5)


def test_each_room_sends_an_exam_a_period() -> None:
    exams = exam_arrivals(rooms=5, exams_a_room=4, period_s=240.0, seed=2)
    assert len(exams) == 20 and exams[0][1] == 0.0
    assert [when for _, when in exams] == sorted(when for _, when in exams)
    for room in range(5):
        times = [when for who, when in exams if who == room]
        assert np.diff(times) == pytest.approx([240e3] * 3)
        assert times[0] < 240e3
    assert len({when for _, when in exams}) == 20  # phases differ


def test_the_predicted_rate_is_where_the_simulated_p99_meets_the_bound() -> None:
    rate = predicted_rate([10.0], 50.0, 0.99, seed=0)
    generator = np.random.default_rng(9)

    def p99(per_s: float) -> float:
        arrivals = np.cumsum(generator.exponential(1e3 / per_s, 200_000))
        return float(np.quantile(10.0 + lindley_waits(arrivals, np.full(200_000, 10.0)), 0.99))

    assert p99(rate * 0.95) < 50.0 < p99(rate * 1.06)
    assert predicted_rate([60.0], 50.0, 0.99, seed=0) == 0.0
    assert all(a < b for a, b in itertools.pairwise(predicted_rate([10.0], b, 0.99, 0) for b in (15.0, 30.0, 90.0)))
