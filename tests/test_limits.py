"""The documented limits are the ones in the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from attrs import fields

from gateway import Limits

ROOT = Path(__file__).parent.parent


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", generator().PAGES)
def test_generated_pages_are_up_to_date(page: str) -> None:
    assert (ROOT / page).read_text() == generator().written(page), "run docs/generate.py"


def test_each_limit_is_in_the_table_with_its_reason() -> None:
    rows = dict(generator().described())
    assert list(rows) == [field.name for field in fields(Limits)]
    assert all(len(why) > 30 for why in rows.values())


@pytest.mark.parametrize("name", [field.name for field in fields(Limits) if field.name != "retry"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    nothing: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=name):
        Limits(**nothing)
