from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.patterns import EVERY_JOB, NO_JOB, Patterns
from gateway.errors import InvalidInput
from gateway.job import is_job_id

job_ids = st.text("aZ09_.:/@-", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("patterns", "job", "allowed"),
    [
        (["video:*"], "video:42", True),
        (["video:*"], "video:", True),
        (["video:*"], "video", False),
        (["video:*"], "xvideo:42", False),
        (["video:*"], "VIDEO:42", False),
        (["user:7:*"], "user:7:a:b", True),
        (["user:7:*"], "user:77:a", False),
        (["user:7"], "user:7", True),
        (["user:7"], "user:7:a", False),
        (["a", "b*"], "bc", True),
        (["a.c"], "abc", False),
        (["*"], "anything", True),
        ([], "anything", False),
    ],
)
def test_what_a_pattern_stands_for(patterns: list[str], job: str, allowed: bool) -> None:
    assert (job in Patterns.parse(patterns)) is allowed


@pytest.mark.parametrize(
    "text",
    ["", "**", "a*b", "*a", "a b", "a?", "[a]*", "a\n", "a*\n", "ü*", "a" * 201, "a" * 201 + "*"],
)
def test_what_is_no_pattern_is_named(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Patterns.parse(["fine:*", text])
    assert repr(text) in str(caught.value)


@given(st.lists(st.tuples(job_ids, st.booleans()), max_size=5), job_ids)
def test_it_is_the_comparison_it_says(parts: list[tuple[str, bool]], job: str) -> None:
    patterns = Patterns.parse([text + "*" * star for text, star in parts])
    expected = any(job.startswith(text) if star else job == text for text, star in parts)
    assert (job in patterns) is expected


@given(
    st.lists(st.tuples(job_ids, st.booleans()), max_size=5), st.text("aZ09", max_size=3), job_ids
)
def test_within_a_prefix(parts: list[tuple[str, bool]], prefix: str, job: str) -> None:
    patterns = Patterns.parse([text + "*" * star for text, star in parts])
    for one in (job, prefix + job):
        assert (one in patterns.within(prefix)) is (one in patterns and one.startswith(prefix))


def test_nothing_is_left_beside_what_is_allowed() -> None:
    mine = Patterns.parse(["user:7:*", "user:8:shared"])
    for prefix in ("user:9:", "user:5:", "user:8:s3", "user:77", "v"):
        assert not mine.within(prefix)
    for prefix in ("", "user:", "user:7:", "user:7:video:", "user:8:sh"):
        assert mine.within(prefix)


@given(st.text())
def test_any_text_is_a_pattern_or_an_error(text: str) -> None:
    try:
        patterns = Patterns.parse([text])
    except InvalidInput:
        assert not is_job_id(text)
    else:
        assert patterns


def test_all_and_nothing() -> None:
    assert "a" in EVERY_JOB
    assert "a" not in NO_JOB
    assert not NO_JOB


def test_the_room_is_pure() -> None:
    """What decides must be readable in one sitting: no clock, socket, log or library."""
    from tests.test_layers import MAY_BE_USED_BY_PURE, ROOT, imports

    for name in ("patterns", "rights", "origins"):
        path: Path = ROOT / "auth" / f"{name}.py"
        foreign = {what.partition(".")[0] for what, ours in imports(path) if not ours}
        assert foreign <= MAY_BE_USED_BY_PURE | {"os", "ipaddress"}
