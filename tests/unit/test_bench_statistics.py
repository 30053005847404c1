"""Percentiles and early stopping against known answers, an independent library, and simulation."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from madclip_bench.statistics import (
    CONFIDENCE,
    PERCENTILES,
    early_stopping_rank,
    least_queries,
    nearest_rank,
    stability,
    summarise,
)

LATENCIES = st.lists(st.floats(0.0, 1e6, allow_subnormal=False), min_size=1, max_size=1500)


@pytest.mark.parametrize(("percentile", "queries"), [(0.9, 64), (0.99, 662), (0.999, 6636), (0.5, 11)])
def test_least_queries_are_the_published_ones(percentile: float, queries: int) -> None:
    assert least_queries(percentile) == queries
    assert early_stopping_rank(queries, percentile) == 1
    assert early_stopping_rank(queries - 1, percentile) == 0


@pytest.mark.parametrize(("queries", "discarded"), [(2048, 172), (2145, 181), (2116, 178), (4_776_846, 476_158)])
def test_rank_agrees_with_published_result_logs(queries: int, discarded: int) -> None:
    """MLPerf's single-stream summaries print how many of the highest p90 latencies they would discard."""
    assert early_stopping_rank(queries, 0.9) - 1 == discarded


@given(st.integers(1, 30_000), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
@settings(deadline=None)
def test_rank_is_the_largest_that_the_incomplete_beta_allows(queries: int, percentile: float) -> None:
    def chance(t: int) -> float:
        return float(special.betainc(queries - t, t + 1, percentile)) if t < queries else 1.0

    rank = early_stopping_rank(queries, percentile)
    assert chance(rank + 1) > 1 - CONFIDENCE
    assert rank == 0 or chance(rank) <= 1 - CONFIDENCE
    assert (rank >= 1) == (queries >= least_queries(percentile))


@given(LATENCIES)
@settings(deadline=None)
def test_estimate_is_a_seen_latency_and_never_below_the_percentile(latencies: list[float]) -> None:
    for percentile in summarise(latencies).percentiles:
        if percentile.value_ms is None:
            assert percentile.early_stopping_ms is None
            assert len(latencies) < percentile.least_queries
            assert percentile.note == f"not supported, needs {percentile.least_queries} queries"
        else:
            assert percentile.early_stopping_ms in latencies
            assert percentile.early_stopping_ms >= percentile.value_ms


@given(LATENCIES, st.sampled_from(PERCENTILES))
def test_nearest_rank_is_numpys_inverted_cdf(latencies: list[float], percentile: float) -> None:
    assert nearest_rank(sorted(latencies), percentile) == np.quantile(latencies, percentile, method="inverted_cdf")


@pytest.mark.parametrize("hundredths", [50, 90, 99])
def test_nearest_rank_loses_nothing_to_binary_fractions(hundredths: int) -> None:
    for count in range(1, 3000):
        exact = math.ceil(Fraction(hundredths, 100) * count)
        assert nearest_rank(range(1, count + 1), hundredths / 100) == exact


def test_estimate_covers_the_true_percentile_99_times_in_100() -> None:
    """2,000 simulated boxes with a heavy tail: the promise is about the box, not about the sample."""
    draws = np.sort(np.random.default_rng(0).lognormal(0.0, 1.0, (2000, 700)), axis=1)
    true_p99 = math.exp(2.3263478740408408)
    estimates = draws[:, -early_stopping_rank(700, 0.99)]
    assert (estimates >= true_p99).mean() >= 0.99
    assert (np.quantile(draws, 0.99, axis=1, method="inverted_cdf") >= true_p99).mean() < 0.7  # why it is needed


def test_nothing_is_clipped() -> None:
    summary = summarise([1.0] * 999 + [5000.0])
    assert (summary.max_ms, summary.queries, summary.mean_ms) == (5000.0, 1000, 5.999)


def test_windows_within_ten_percent_are_stable() -> None:
    steady = stability(list(itertools.chain([10.0] * 50, [10.5] * 50, [11.0] * 50)))
    assert (steady.verdict, steady.window_medians_ms) == ("stable", (10.0, 10.5, 11.0))
    drifting = stability(list(itertools.chain([10.0] * 50, [10.5] * 50, [11.6] * 50)))
    assert drifting.verdict == "unstable"
    assert drifting.window_spread == pytest.approx(1.6 / 10.5, abs=1e-6)


def test_variation_is_sd_over_mean() -> None:
    values = np.random.default_rng(1).gamma(9.0, 2.0, 500)
    assert stability(list(values)).coefficient_of_variation == pytest.approx(values.std() / values.mean(), abs=1e-6)
    assert stability([0.0, 0.0, 0.0]).coefficient_of_variation == 0.0


def test_too_few_for_three_windows_show_no_steadiness() -> None:
    assert stability([1.0, 1.0]).verdict == "unstable"
    assert stability([1.0, 1.0, 1.0]).verdict == "stable"


@pytest.mark.parametrize("percentile", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_percentiles_are_refused(percentile: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        least_queries(percentile)
