from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observability.counters import DURATION_BOUNDS, Histogram

values = st.lists(st.floats(0, 20) | st.sampled_from(DURATION_BOUNDS))


@given(values, values)
def test_observing_a_batch_equals_observing_each_value(
    first: list[float], second: list[float]
) -> None:
    one_by_one, at_once = Histogram(), Histogram()
    for value in first + second:
        one_by_one.observe(value)
    at_once.observe_all(list(first))
    at_once.observe_all(list(second))
    assert at_once.counts == one_by_one.counts
    assert at_once.total == pytest.approx(one_by_one.total)
