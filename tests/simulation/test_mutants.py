"""The list of mutants matches the code: each replaces a text that occurs exactly once."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from .mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_of_a_mutant_occurs_once(mutant: Mutant) -> None:
    text = (ROOT / "gateway" / mutant.file).read_text("utf-8")
    assert text.count(mutant.old) == 1
    assert mutant.new != mutant.old


def test_mutants_have_different_names() -> None:
    repeated = [name for name, times in Counter(m.name for m in MUTANTS).items() if times > 1]
    assert repeated == []


@pytest.mark.parametrize("test", sorted({mutant.test for mutant in MUTANTS if mutant.test}))
def test_the_test_that_a_mutant_names_exists(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text("utf-8")


def test_the_verification_page_names_mutants_that_exist_and_their_number() -> None:
    page = (ROOT / "docs/proof.md").read_text("utf-8")
    section = page.partition("## Mutants")[2].partition("## Model")[0]
    listed = re.findall(r"^\| [\w ]+ \| ([a-z]+-[a-z-]+) \|", section, re.MULTILINE)
    assert len(listed) > 50
    assert set(listed) <= {mutant.name for mutant in MUTANTS}
    assert f"puts {len(MUTANTS)} defects into" in section
