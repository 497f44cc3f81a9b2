from __future__ import annotations

import pytest

from gateway.cli.watch.frames import Goaway, JobSet, Ping, Progress, Welcome, parse_frames
from gateway.cli.watch.job_states import JobStates
from gateway.model.state import State
from gateway.model.statuses import STATUSES


def running(percent: float, *, status: str = "running") -> State:
    return State(status=status, attempt=1, percent=percent, created_at=1, updated_at=2)  # type: ignore[arg-type]  # any text


def frame(prev: int | None, seq: int, *, epoch: int = 7, status: str = "running") -> Progress:
    return Progress("a", epoch, prev, seq, running(seq, status=status), snapshot=prev is None)


def test_a_contiguous_frame_is_accepted() -> None:
    states = JobStates(["a"])
    assert states.apply(frame(None, 3))
    assert states.apply(frame(3, 9))
    assert states.positions() == {"a": (7, 9)}
    assert states.states["a"] == running(9)


@pytest.mark.parametrize("wrong", [frame(2, 4), frame(4, 5), frame(3, 4, epoch=8)])
def test_a_frame_with_a_gap_is_a_violation_and_drops_the_position(wrong: Progress) -> None:
    states = JobStates(["a"])
    states.apply(frame(None, 3))
    assert not states.apply(wrong)
    assert states.violations == 1
    assert states.positions() == {}
    assert states.states["a"] == running(3)  # still the newest known state
    assert not states.apply(frame(3, 4))  # without a position no frame continues
    assert states.apply(frame(None, 5))


def test_a_snapshot_replaces_any_state() -> None:
    states = JobStates(["a"])
    states.apply(frame(None, 30))
    assert states.apply(Progress("a", None, None, 0, None, snapshot=True))
    assert states.states == {"a": None}
    assert states.positions() == {"a": (None, 0)}


def test_frames_of_other_jobs_change_nothing() -> None:
    states = JobStates(["b"])
    assert states.apply(frame(3, 4))
    assert states.states == {}


def test_it_is_finished_when_all_jobs_have_ended() -> None:
    states = JobStates(["a", "b"])
    states.apply(frame(None, 1, status="succeeded"))
    assert (states.finished, states.succeeded) == (False, False)
    states.apply(Progress("b", 1, None, 1, running(5, status="failed"), snapshot=True))
    assert (states.finished, states.succeeded) == (True, False)


def test_frames_are_parsed_and_unknown_ones_ignored() -> None:
    text = '{"type":"ping"}\n{"type":"news","x":1}\n{"type":"goaway","code":1001,"retry":[1,2]}'
    assert [f for _, f in parse_frames(text)] == [Ping(), Goaway(retry=(1, 2))]
    (pair,) = parse_frames('{"type":"welcome","node":"n","more":[]}')
    assert pair == ('{"type":"welcome","node":"n","more":[]}', Welcome(node="n"))


@pytest.mark.parametrize("text", ["", "no", "[]", '{"type":"progress"}', '{"type":"ping"}\n'])
def test_an_invalid_frame_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's texts are its own
        parse_frames(text)


def set_frame(*jobs: str) -> JobSet:
    counts = dict.fromkeys(STATUSES, 0)
    return JobSet("a", epoch=1, prev=None, seq=1, total=len(jobs), counts=counts, jobs=list(jobs))


def test_a_set_has_its_jobs_and_never_ends() -> None:
    states = JobStates(["b"], prefixes=["a"])
    assert states.jobs == ["b"]
    states.apply_set(set_frame("a2", "a1"))
    assert states.jobs == ["b", "a2", "a1"]
    for job in ("a1", "a2", "b"):
        assert states.apply(Progress(job, 7, None, 1, running(100, status="failed"), snapshot=True))
    assert not states.finished
    assert states.positions() == {"b": (7, 1), "a2": (7, 1), "a1": (7, 1)}
    states.apply_set(set_frame("a3", "a2"))
    assert "a1" not in states.states, "it has ended, and is not shown"
    assert states.positions() == {"b": (7, 1), "a2": (7, 1)}


def test_a_job_that_left_a_set_while_it_was_active_is_followed_to_its_end() -> None:
    states = JobStates([], prefixes=["a"])
    states.apply_set(set_frame("a1"))
    assert states.apply(Progress("a1", 7, None, 1, running(50), snapshot=True))
    states.apply_set(set_frame("a2"))
    end = Progress("a1", 7, None, 9, running(100, status="succeeded"), snapshot=True)
    assert states.apply(end)
    assert states.states["a1"] == end.state
