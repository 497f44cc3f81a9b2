from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.errors import InvalidInput
from gateway.model.ids import is_job_id, is_job_id_prefix
from gateway.model.patterns import EVERY_JOB, NO_JOB, Patterns

texts = st.text("aZ09_.:/@-", max_size=12)
job_ids = texts.filter(is_job_id)
pattern_lists = st.lists(
    job_ids.map(lambda job: (job, False))
    | texts.filter(is_job_id_prefix).map(lambda prefix: (prefix, True)),
    max_size=5,
)


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
        (["batch/*"], "batch/7", True),
        (["batch/*"], "batch", False),
        (["batch/.*"], "batch/.hidden", True),
        ([], "anything", False),
    ],
)
def test_patterns_match_the_expected_jobs(patterns: list[str], job: str, allowed: bool) -> None:
    assert (job in Patterns.parse(patterns)) is allowed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "**",
        "a*b",
        "*a",
        "a b",
        "a?",
        "[a]*",
        "a\n",
        "a*\n",
        "ü*",
        "a" * 201,
        "a" * 201 + "*",
        "a//*",
        "../*",
        "a/./*",
        "/",
        "/*",
        "a/",
    ],
)
def test_an_invalid_pattern_is_named_in_the_error(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Patterns.parse(["fine:*", text])
    assert repr(text) in str(caught.value)


@given(pattern_lists, job_ids)
def test_matching_agrees_with_a_simple_implementation(
    parts: list[tuple[str, bool]], job: str
) -> None:
    patterns = Patterns.parse([text + "*" * star for text, star in parts])
    expected = any(job.startswith(text) if star else job == text for text, star in parts)
    assert (job in patterns) is expected


@given(pattern_lists, st.text("aZ09", max_size=3), job_ids)
def test_a_pattern_covers_a_prefix(parts: list[tuple[str, bool]], prefix: str, job: str) -> None:
    patterns = Patterns.parse([text + "*" * star for text, star in parts])
    for job_below in (job, prefix + job):
        assert (job_below in patterns.within(prefix)) is (
            job_below in patterns and job_below.startswith(prefix)
        )


def test_no_pattern_remains_outside_the_allowed_ones() -> None:
    mine = Patterns.parse(["user:7:*", "user:8:shared"])
    for prefix in ("user:9:", "user:5:", "user:8:s3", "user:77", "v"):
        assert not mine.within(prefix)
    for prefix in ("", "user:", "user:7:", "user:7:video:", "user:8:sh"):
        assert mine.within(prefix)


@given(st.text())
def test_any_text_is_a_valid_pattern_or_raises(text: str) -> None:
    try:
        patterns = Patterns.parse([text])
    except InvalidInput:
        assert not is_job_id(text)
    else:
        assert patterns


def test_the_patterns_for_all_jobs_and_for_none() -> None:
    assert "a" in EVERY_JOB
    assert "a" not in NO_JOB
    assert not NO_JOB
