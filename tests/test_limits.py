"""The documented limits are the ones in the code."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import fields

from docs.generate.tables import described
from gateway import Limits


def test_each_limit_is_in_the_table_with_its_reason() -> None:
    rows = dict(described())
    assert list(rows) == [field.name for field in fields(Limits)]
    assert all(len(why) > 30 for why in rows.values())


@pytest.mark.parametrize("name", [field.name for field in fields(Limits) if field.name != "retry"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    nothing: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=name):
        Limits(**nothing)
