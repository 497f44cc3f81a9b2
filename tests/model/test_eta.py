"""The estimate is correct for a steady job, adapts to changes, and is absent without enough
data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.constants import ETA_WARM_UP
from gateway.model.eta import RateEstimator


def run(*reports: tuple[float, float]) -> RateEstimator:
    (at, percent), *rest = reports
    pace = RateEstimator(at, at, percent)
    for now, reported in rest:
        pace = pace.observe(reported, now=now)
    return pace


def test_the_eta_of_a_steady_job_is_exact() -> None:
    pace = run(*((second, second * 2.0) for second in range(11)))
    assert pace.eta(now=10) == 40.0


def test_progress_before_the_first_report_does_not_count_for_the_rate() -> None:
    assert run((0, 60), (4, 64)).eta(now=4) == 36.0


def test_the_eta_adapts_to_a_change_of_rate() -> None:
    slow = run((0, 0), *((second, 1.0 * second) for second in range(1, 21)))
    assert slow.rate == pytest.approx(1.0)
    for second in range(1, 61):
        slow = slow.observe(20 + second * 1.3, now=20 + second)
    assert slow.rate == pytest.approx(1.3, rel=0.05)


def test_a_quick_first_step_gives_no_optimistic_eta() -> None:
    pace = run((0, 0), (0.1, 2), *((0.1 + second, 2 + 5.0 * second) for second in range(1, 6)))
    assert pace.eta(now=5.1) == pytest.approx((100 - 27) / 5, abs=1.5)


def test_there_is_no_eta_before_enough_progress_was_observed() -> None:
    assert run((0, 0)).eta(now=100) is None
    assert run((0, 0), (ETA_WARM_UP / 2, 10)).eta(now=ETA_WARM_UP / 2) is None
    assert run((0, 0), (10, 100)).eta(now=10) is None


def test_the_eta_counts_down_between_reports_and_is_absent_when_overdue() -> None:
    pace = run((0, 0), (10, 50))
    assert pace.eta(now=13) == 7.0
    assert pace.eta(now=21) is None


MILLISECONDS = st.integers(0, 10**9).map(lambda count: count / 1000)  # as the reducer rounds times


@given(st.lists(st.tuples(MILLISECONDS, st.floats(0, 100)), min_size=1, max_size=30))
def test_any_reports_give_a_valid_eta_or_none(reports: list[tuple[float, float]]) -> None:
    pace = run(*reports)
    assert pace.rate >= 0
    eta = pace.eta(now=reports[-1][0])
    assert eta is None or eta > 0
