from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.watch.format import LOOKS, describe, duration, single_line
from gateway.model.state import Children, State

NOW = 1_000_000.0


def state(**fields: Any) -> State:
    fields_known: dict[str, Any] = {"status": "running", "attempt": 1, "created_at": NOW - 10}
    fields_known |= {"updated_at": NOW, "started_at": NOW - 10}
    return State(**(fields_known | fields))


def test_a_running_job_is_formatted() -> None:
    view = describe(state(percent=37.9, phase="encode", message="frame 3", eta=80.0), now=NOW + 20)
    assert (view.word, view.percent_text, view.attempt_text) == ("running", "37%", "")
    assert view.text == "encode · frame 3"
    assert view.time == "1 min left"
    assert describe(state(percent=99.99), now=NOW).percent_text == "99%"


@pytest.mark.parametrize(
    ("percent", "after", "time"),
    [
        (64, 0, "10 s left"),
        (64, 8, "2 s left"),
        (64, 9.5, ""),
        (None, 9.5, ""),
        (94.9, 12, ""),
        (95, 8, "2 s left"),
        (95, 9.5, "almost done"),
        (99, 14, "almost done"),
        (99, 16, ""),
    ],
)
def test_the_eta_counts_down_and_then_disappears(
    percent: float | None, after: float, time: str
) -> None:
    assert describe(state(eta=10.0, percent=percent), now=NOW + after).time == time


def test_health_is_shown_only_while_the_job_runs() -> None:
    assert describe(state(health="stalled"), now=NOW + 5).word == "stalled"
    assert describe(state(health="lost"), now=NOW + 300).time == "silent for 5 min"
    assert describe(state(status="succeeded", health="lost"), now=NOW).word == "succeeded"


@pytest.mark.parametrize(
    ("active", "after", "time"),
    [
        ({}, 59, "9 min left"),
        ({}, 300, "silent for 5 min"),
        ({"running": 1}, 300, "5 min left"),
        ({"queued": 1}, 300, "silent for 5 min"),
    ],
)
def test_a_group_without_running_children_is_silent(
    active: dict[str, int], after: float, time: str
) -> None:
    group = state(eta=600.0, children=Children(9, succeeded=3, **active))
    assert describe(group, now=NOW + after).time == time


def test_the_end_is_formatted() -> None:
    failed = describe(
        state(status="failed", error="ValueError: no", message="m", finished_at=NOW), now=NOW + 9
    )
    assert (failed.text, failed.time) == ("ValueError: no", "after 10 s")
    well = describe(state(status="succeeded", finished_at=NOW, message="m", phase="p"), now=NOW)
    assert (well.text, well.time) == ("m", "took 10 s")


def test_a_retry_and_an_unknown_percentage_are_shown() -> None:
    assert describe(state(attempt=3), now=NOW).attempt_text == "attempt 3"
    assert describe(None, now=NOW).word == "not known yet"
    assert describe(None, answered=False, now=NOW).word == "loading"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "less than 1 s"), (0.4, "less than 1 s"), (8, "8 s"), (59.6, "1 min"),
        (80, "1 min 20 s"), (840, "14 min"), (3600, "1 h"), (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_are_formatted(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text())
def test_control_characters_are_removed_from_texts(text: str) -> None:
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in single_line(text))


optional = st.none() | st.floats(0, 100)


@given(
    st.builds(
        state,
        status=st.sampled_from(["queued", "running", "succeeded", "failed", "cancelled"]),
        health=st.sampled_from(["ok", "stalled", "lost"]),
        percent=optional, eta=optional, finished_at=optional, message=st.none() | st.text(),
        error=st.none() | st.text(), phase=st.none() | st.text(),
    ),
    st.floats(0, 2e6),
)  # fmt: skip
def test_every_state_can_be_formatted(any_state: State, now: float) -> None:
    view = describe(any_state, now=now)
    assert view.look in LOOKS
    assert "\n" not in view.text + view.time
