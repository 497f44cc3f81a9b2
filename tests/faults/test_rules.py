"""Tests of the rules: they detect each kind of violation and accept every correct log. A history is
the sequence of a job's real states. A correct client log of it breaks no rule, whatever was
conflated, missed in a disconnection, or dropped from the history. Each kind of falsified log is
detected, at any place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from . import rules
from .client_logs import ClientLog, Connected, Disconnected, Json, Observation, Received
from .rules import Violation

JOB = "video:42"
Mode = Literal["latest", "every"]
Event = tuple[int, int, Json]
"""Epoch, seq, state."""
draws = st.data()
without_deadline = settings(deadline=None)
"""No deadline for an example, because the machine may be busy."""


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Returns a job's events, in up to three epochs, with rising attempts, until its end."""
    events: list[Event] = []
    attempt, done = 1, 0
    for epoch in range(1, draw(st.integers(1, 3)) + 1):
        for seq in range(1, draw(st.integers(1, 8)) + 1):
            if draw(st.integers(0, 9)) == 0:
                attempt, done = attempt + 1, 0
            done += draw(st.integers(1, 3))
            events.append(
                (epoch * 10, seq, {"status": "running", "attempt": attempt, "done": done})
            )
    epoch, seq, last = events.pop()
    return [*events, (epoch, seq, last | {"status": "succeeded"})]


def progress_frame(event: Event, prev: int | None) -> Json:
    epoch, seq, state = event
    message = {"type": "progress", "job": JOB, "epoch": epoch, "prev": prev, "seq": seq}
    return message | ({"snapshot": True} if prev is None else {}) | {"state": state}


UNSEEN = progress_frame((0, 0, {}), None) | {"epoch": None, "state": None}


def truthful(draw: Callable[[Any], Any], history: Sequence[Event], mode: Mode) -> list[Json]:
    """Returns one of the many correct logs of a history, from its start or later."""
    messages: list[Json] = [UNSEEN] if draw(st.booleans()) else []
    position = (0, 0) if messages else None
    for number, event in enumerate(history):
        epoch, seq, _ = event
        skipped = number < len(history) - 1 and draw(st.booleans())
        if position and 0 < position[0] < epoch and draw(st.booleans()):
            messages.append(UNSEEN)  # for a moment the job was unknown
            position = (0, 0)
        if skipped:
            continue
        if position is None:
            messages.append(progress_frame(event, None))
        elif mode == "latest":
            messages.append(progress_frame(event, position[1] if position[0] == epoch else None))
        else:
            first_seq = position[1] + 1 if position[0] == epoch else 1
            if seq > first_seq:
                gap = {"type": "gap", "job": JOB, "epoch": epoch, "from": first_seq, "to": seq - 1}
                messages += [gap, progress_frame(event, None)]
            else:
                messages.append(progress_frame(event, seq - 1 or None))
        position = epoch, seq
    return messages


def client_log(
    messages: Sequence[Json], mode: Mode = "latest", client: str = "client"
) -> ClientLog:
    return ClientLog(
        client, mode, [Received(float(at), object_) for at, object_ in enumerate(messages)]
    )


def broken_rules(messages: Sequence[Json], mode: Mode = "latest") -> set[str]:
    """Returns the names of the rules that this client log breaks."""
    return {violation.rule for violation in rules.violations(client_log(messages, mode))}


def one_of(data: st.DataObject, numbers: Sequence[int]) -> int:
    assume(numbers)
    return data.draw(st.sampled_from(numbers))


modes = st.sampled_from(["latest", "every"])


@without_deadline
@given(histories(), modes, draws)
def test_a_correct_client_log_breaks_no_rule(
    history: list[Event], mode: Mode, data: st.DataObject
) -> None:
    messages = truthful(data.draw, history, mode)
    assert broken_rules(messages, mode) == set()
    ends = {JOB: history[-1][2]}
    assert not list(rules.missing_ends(client_log(messages, mode), ends, deadline=len(messages)))
    others = [client_log(truthful(data.draw, history, mode), mode, client=str(n)) for n in range(3)]
    assert not list(rules.disagreements(others))


@without_deadline
@given(histories(), modes, draws)
def test_a_missing_frame_is_a_silent_gap(
    history: list[Event], mode: Mode, data: st.DataObject
) -> None:
    """The next frame continues the missing one, or the gap must be reported."""
    messages = truthful(data.draw, history, mode)
    needed = [
        number
        for number, object_ in enumerate(messages[:-1])
        if object_["type"] == "gap" or messages[number + 1].get("prev")
    ]
    del messages[one_of(data, needed)]
    assert "silent gap" in broken_rules(messages, mode)


@without_deadline
@given(histories(), modes, draws)
def test_a_repeated_frame_is_a_duplicate(
    history: list[Event], mode: Mode, data: st.DataObject
) -> None:
    messages = truthful(data.draw, history, mode)
    frames = [n for n, object_ in enumerate(messages) if object_["type"] == "progress"]
    number = one_of(data, frames)
    messages.insert(number, messages[number])
    assert "duplicate" in broken_rules(messages, mode)


@without_deadline
@given(histories(), modes, draws)
def test_a_frame_before_its_event_is_detected(
    history: list[Event], mode: Mode, data: st.DataObject
) -> None:
    messages = truthful(data.draw, history, mode)
    pairs = [
        number
        for number in range(len(messages) - 1)
        if messages[number]["type"] == messages[number + 1]["type"] == "progress"
        and UNSEEN not in messages[number : number + 2]
    ]
    number = one_of(data, pairs)
    messages[number], messages[number + 1] = messages[number + 1], messages[number]
    assert "reordering" in broken_rules(messages, mode)


@without_deadline
@given(histories(), draws)
def test_several_events_in_one_frame_are_a_gap_in_mode_every(
    history: list[Event], data: st.DataObject
) -> None:
    messages = truthful(data.draw, history, "every")
    pairs = [
        number
        for number in range(1, len(messages))
        if messages[number].get("prev") and messages[number - 1].get("prev")
    ]
    number = one_of(data, pairs)
    messages[number] = messages[number] | {"prev": messages[number - 1]["prev"]}
    del messages[number - 1]
    assert broken_rules(messages, "every") == {"silent gap"}


@without_deadline
@given(histories(), modes, draws)
def test_an_unnecessary_snapshot_is_detected(
    history: list[Event], mode: Mode, data: st.DataObject
) -> None:
    messages = truthful(data.draw, history, mode)
    continued = [number for number, object_ in enumerate(messages) if object_.get("prev")]
    number = one_of(data, continued)
    messages[number] = messages[number] | {"prev": None, "snapshot": True}
    assert broken_rules(messages, mode) == {"needless snapshot"}


@without_deadline
@given(histories(), modes, draws)
def test_an_end_that_is_taken_back_is_detected(
    history: list[Event], mode: Mode, data: st.DataObject
) -> None:
    messages = truthful(data.draw, history, mode)
    epoch, _, state = history[-1]
    again = progress_frame((epoch + 10, 1, state | {"status": "running"}), None)
    assert broken_rules([*messages, UNSEEN], mode) == {"end taken back"}
    assert broken_rules([*messages, again], mode) == {"end taken back"}
    retried = again | {"state": state | {"status": "running", "attempt": state["attempt"] + 1}}
    assert broken_rules([*messages, retried], mode) == set()


@without_deadline
@given(histories(), draws)
def test_two_states_at_one_position_are_detected(history: list[Event], data: st.DataObject) -> None:
    first_log = truthful(data.draw, history, "latest")
    second_log = [*first_log]
    number = one_of(data, [n for n, object_ in enumerate(second_log) if object_["state"]])
    second_log[number] = second_log[number] | {
        "state": second_log[number]["state"] | {"message": "forged"}
    }
    found = list(
        rules.disagreements([client_log(first_log, client="a"), client_log(second_log, client="b")])
    )
    assert [violation.client for violation in found] == ["b"]


@without_deadline
@given(histories(), modes, draws)
def test_a_missing_or_late_end_is_detected(
    history: list[Event], mode: Mode, data: st.DataObject
) -> None:
    messages = truthful(data.draw, history, mode)
    ends = {JOB: history[-1][2]}
    late = rules.missing_ends(client_log(messages, mode), ends, deadline=len(messages) - 1.5)
    assert [violation.rule for violation in late] == ["late end"]
    missing = rules.missing_ends(client_log(messages[:-1], mode), ends, deadline=len(messages))
    assert [violation.rule for violation in missing] == ["missing end"]


def running(seq: int, prev: int | None = None, *, epoch: int = 10, **fields: Any) -> Json:
    return progress_frame(
        (epoch, seq, {"status": "running", "attempt": 1, "done": seq} | fields), prev
    )


GAP = {"type": "gap", "job": JOB, "epoch": 10, "from": 2, "to": 4}


@pytest.mark.parametrize(
    ("messages", "mode", "rule"),
    [
        ([running(1), running(2, 1, done=0)], "latest", "backwards"),
        ([running(1, attempt=2), running(2, 1)], "latest", "backwards"),
        ([running(1, status="failed"), running(2, 1)], "latest", "backwards"),
        ([running(1, epoch=20), running(9, epoch=10)], "latest", "reordering"),
        ([running(5), running(6, 4)], "latest", "duplicate"),
        ([running(1), running(2, 1, epoch=20)], "latest", "silent gap"),
        ([running(1), running(3, epoch=20)], "every", "silent gap"),
        ([running(1), GAP | {"to": 3}, running(5)], "every", "silent gap"),
        ([running(1), GAP, GAP, running(5)], "every", "malformed"),
        ([running(1), GAP], "latest", "malformed"),
        ([running(1) | {"snapshot": False}], "latest", "malformed"),
        ([running(1) | {"state": None}], "latest", "malformed"),
        ([{"type": "error", "code": "invalid_json"}], "latest", "malformed"),
    ],
)
def test_each_rule_has_an_example(messages: list[Json], mode: Mode, rule: str) -> None:
    assert rule in broken_rules(messages, mode)


def test_a_client_of_an_unaffected_node_must_not_reconnect() -> None:
    observations: list[Observation] = [
        Connected(1, "A"),
        Disconnected(2, "A", "1011"),
        Connected(3, "B"),
        Disconnected(4, "B", ""),
    ]
    seen = ClientLog("client", "latest", observations)
    assert [v.at for v in rules.unexpected_disconnects(seen, faulted=["A"])] == [4]


def test_a_time_of_another_clock_is_detected() -> None:
    seen = client_log([running(1, created_at=1_000.0, updated_at=4_600.0)])
    breaches = list(rules.times_out_of_range(seen, first=1_000, last=1_010))
    assert len(breaches) == 1
    assert "updated_at is +3600.000 s" in breaches[0].what


@pytest.mark.parametrize(
    ("messages", "left"),
    [
        ([{"type": "welcome"}], False),
        ([{"type": "welcome", "stale": True}], True),
        ([{"type": "welcome", "stale": True}, {"type": "feed", "stale": False}], False),
        ([{"type": "welcome"}, {"type": "feed", "stale": True}, running(1)], True),
    ],
)
def test_clients_that_stay_stale_are_detected(messages: list[Json], left: bool) -> None:
    assert bool(list(rules.left_stale(client_log(messages)))) == left


def test_a_summary_has_no_duplicates() -> None:
    same = [Violation(f"client {n}", float(9 - n), "duplicate", "it") for n in range(3)]
    other = Violation("client 9", 1.0, "unexpected disconnect", "that")
    assert rules.summary([*same, other]) == [
        "   1.000 client 9 unexpected disconnect: that",
        "   7.000 client 2 duplicate: it (and 2 more)",
    ]
