from __future__ import annotations

import pytest

from gateway.cli.frames import Goaway, Ping, Progress, Welcome, parse_frames
from gateway.cli.known import Known
from gateway.job import State


def running(percent: float, *, status: str = "running") -> State:
    return State(status=status, attempt=1, percent=percent, created_at=1, updated_at=2)  # type: ignore[arg-type]


def frame(prev: int | None, seq: int, *, epoch: int = 7, status: str = "running") -> Progress:
    return Progress("a", epoch, prev, seq, running(seq, status=status), snapshot=prev is None)


def test_what_continues_is_taken() -> None:
    known = Known(["a"])
    assert known.apply(frame(None, 3))
    assert known.apply(frame(3, 9))
    assert known.positions() == {"a": (7, 9)}
    assert known.states["a"] == running(9)


@pytest.mark.parametrize("wrong", [frame(2, 4), frame(4, 5), frame(3, 4, epoch=8)])
def test_what_does_not_is_a_violation_and_forgets_the_position(wrong: Progress) -> None:
    known = Known(["a"])
    known.apply(frame(None, 3))
    assert not known.apply(wrong)
    assert known.violations == 1
    assert known.positions() == {}
    assert known.states["a"] == running(3)  # still the best that is known
    assert not known.apply(frame(3, 4))  # from nowhere nothing continues
    assert known.apply(frame(None, 5))


def test_a_snapshot_replaces_whatever_there_is() -> None:
    known = Known(["a"])
    known.apply(frame(None, 30))
    assert known.apply(Progress("a", None, None, 0, None, snapshot=True))
    assert known.states == {"a": None}
    assert known.positions() == {"a": (None, 0)}


def test_jobs_nobody_asked_for_change_nothing() -> None:
    known = Known(["b"])
    assert known.apply(frame(3, 4))
    assert known.states == {}


def test_it_is_over_when_all_have_ended() -> None:
    known = Known(["a", "b"])
    known.apply(frame(None, 1, status="succeeded"))
    assert (known.finished, known.succeeded) == (False, False)
    known.apply(Progress("b", 1, None, 1, running(5, status="failed"), snapshot=True))
    assert (known.finished, known.succeeded) == (True, False)


def test_frames_are_read_and_unknown_ones_passed_over() -> None:
    text = '{"type":"ping"}\n{"type":"news","x":1}\n{"type":"goaway","code":1001,"retry":[1,2]}'
    assert [f for _, f in parse_frames(text)] == [Ping(), Goaway(retry=(1, 2))]
    (pair,) = parse_frames('{"type":"welcome","node":"n","more":[]}')
    assert pair == ('{"type":"welcome","node":"n","more":[]}', Welcome(node="n"))


@pytest.mark.parametrize("text", ["", "no", "[]", '{"type":"progress"}', '{"type":"ping"}\n'])
def test_what_is_no_frame_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's texts are its own
        parse_frames(text)
