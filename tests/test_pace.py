"""The estimate is right for a steady job, adapts, and is absent when it would be a guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pace import SETTLED, Pace


def run(*reports: tuple[float, float]) -> Pace:
    (at, percent), *rest = reports
    pace = Pace(at, at, percent)
    for now, reported in rest:
        pace = pace.seen(reported, now=now)
    return pace


def test_a_steady_job_is_told_exactly() -> None:
    pace = run(*((second, second * 2.0) for second in range(11)))
    assert pace.eta(now=10) == 40.0


def test_a_resumed_job_is_not_credited_for_what_was_there() -> None:
    assert run((0, 60), (4, 64)).eta(now=4) == 36.0


def test_it_adapts_to_a_change_of_speed() -> None:
    slow = run((0, 0), *((second, 1.0 * second) for second in range(1, 21)))
    assert slow.rate == pytest.approx(1.0)
    for second in range(1, 61):
        slow = slow.seen(20 + second * 1.3, now=20 + second)
    assert slow.rate == pytest.approx(1.3, rel=0.05)


def test_a_first_quick_step_does_not_promise_too_much() -> None:
    pace = run((0, 0), (0.1, 2), *((0.1 + second, 2 + 5.0 * second) for second in range(1, 6)))
    assert pace.eta(now=5.1) == pytest.approx((100 - 27) / 5, abs=1.5)


def test_absent_while_it_would_be_a_guess() -> None:
    assert run((0, 0)).eta(now=100) is None
    assert run((0, 0), (SETTLED / 2, 10)).eta(now=SETTLED / 2) is None
    assert run((0, 0), (10, 100)).eta(now=10) is None


def test_it_counts_down_between_reports_and_gives_up_when_overdue() -> None:
    pace = run((0, 0), (10, 50))
    assert pace.eta(now=13) == 7.0
    assert pace.eta(now=21) is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=30))
def test_any_reports_give_no_nonsense(reports: list[tuple[float, float]]) -> None:
    pace = run(*reports)
    assert pace.rate >= 0
    eta = pace.eta(now=reports[-1][0])
    assert eta is None or eta > 0
