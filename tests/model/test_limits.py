"""The documented limits are the ones in the code."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import fields

from docs.generate.tables import described
from gateway import Limits
from gateway.model.constants import CLOCK_STEP
from gateway.model.limits import MAX_COMPARE_INTERVAL, MAX_LEASE_CHECK_INTERVAL


def test_each_limit_is_in_the_table_with_its_reason() -> None:
    rows = dict(described())
    assert list(rows) == [field.name for field in fields(Limits)]
    assert all(len(why) > 30 for why in rows.values())


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("lease_check_interval", MAX_LEASE_CHECK_INTERVAL),
        ("compare_interval", MAX_COMPARE_INTERVAL),
    ],
)
def test_an_interval_has_a_bound(name: str, most: float) -> None:
    bounded: dict[str, Any] = {name: most}
    Limits(**bounded)
    with pytest.raises(ValueError, match=name):
        Limits(**{name: bounded[name] + 0.001})


def test_the_lease_check_interval_is_below_the_step_that_means_a_clock_change() -> None:
    assert 2 * MAX_LEASE_CHECK_INTERVAL <= CLOCK_STEP
