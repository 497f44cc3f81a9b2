"""The fold, rule by rule in the order of its table, and as properties of any history."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.errors import InvalidInput
from gateway.fold import fold, lapse, lapses_at
from gateway.job import FINAL, STATUSES, Position, Record, State, Update, check_job_id
from tests.traceparents import SPAN

EPOCH = 7


def updates(*all_fields: dict[str, Any], start_at: float = 1000.0) -> Record:
    """The record after these updates, one second apart, each of which must apply."""
    record = None
    for number, fields in enumerate(all_fields):
        folded = fold(record, Update(**fields), now=start_at + number, epoch=EPOCH)
        assert folded.applied, folded
        record = folded.record
    assert record is not None
    return record


def refused(record: Record, **fields: Any) -> str | None:
    folded = fold(record, Update(**fields), now=2000.0, epoch=EPOCH)
    assert folded.record is record
    return folded.reason


class TestUpdates:
    def test_unknown_job_opens_attempt_1_at_seq_1(self) -> None:
        record = updates({})
        assert record.position == Position(EPOCH, 1)
        assert record.state == State(
            status="running", attempt=1, created_at=1000.0, started_at=1000.0, updated_at=1000.0
        )

    def test_unknown_job_keeps_the_attempt_the_worker_is_in(self) -> None:
        # The broker lost the record in the middle of attempt 3.
        assert updates({"attempt": 3}).state.attempt == 3

    def test_start_opens_the_next_attempt(self) -> None:
        record = updates({"start": True, "percent": 50, "message": "a"}, {"start": True})
        assert (record.state.attempt, record.position.seq) == (2, 2)
        assert (record.state.percent, record.state.message) == (None, None)

    def test_start_repeated_by_the_same_run_opens_no_other(self) -> None:
        record = updates({"start": True, "run": "r1", "percent": 5})
        assert refused(record, start=True, run="r1", percent=5) == "unchanged"
        folded = fold(record, Update(start=True, run="r1", percent=6), now=1001.0, epoch=EPOCH)
        assert (folded.record.state.attempt, folded.record.state.percent) == (1, 6)

    def test_start_of_a_queued_attempt_begins_it(self) -> None:
        record = updates({"status": "queued", "message": "third in line"}, {"start": True})
        assert record.position.seq == 2
        assert record.state == State(
            status="running", attempt=1, created_at=1000.0, started_at=1001.0, updated_at=1001.0
        )
        again = {"start": True, "status": "queued", "run": "b"}
        state = updates({"status": "failed"}, again, again | {"status": "running"}).state
        assert (state.attempt, state.status) == (2, "running")

    def test_start_by_another_run_opens_the_next(self) -> None:
        assert updates({"start": True, "run": "a"}, {"start": True, "run": "b"}).state.attempt == 2

    def test_higher_attempt_opens_it_and_clears_the_old_one(self) -> None:
        record = updates(
            {"status": "failed", "error": "x", "done": 3, "parent": "p", "lease": 5}, {"attempt": 4}
        )
        assert record.state == State(
            status="running",
            attempt=4,
            parent="p",
            lease=5,
            created_at=1000.0,
            started_at=1001.0,
            updated_at=1001.0,
        )

    def test_older_attempt_is_rejected_and_does_not_renew(self) -> None:
        record = updates({"attempt": 2})
        folded = fold(record, Update(attempt=1, percent=99), now=1001.0, epoch=EPOCH)
        assert (folded.reason, folded.renews, folded.record) == ("stale_attempt", False, record)

    @pytest.mark.parametrize("status", sorted(FINAL))
    def test_final_absorbs_everything_but_a_new_attempt(self, status: Any) -> None:
        record = updates({"status": status})
        for late in ({}, {"percent": 1}, {"status": "running"}, {"attempt": 1}):
            assert refused(record, **late) == "final"
        assert not fold(record, Update(), now=2000.0, epoch=EPOCH).renews
        assert updates({"status": status}, {"start": True}).state.status == "running"

    def test_no_change_makes_no_event_but_renews_the_lease(self) -> None:
        record = updates({"percent": 5, "message": "m"})
        folded = fold(record, Update(percent=5, message="m"), now=1009.0, epoch=EPOCH)
        assert (folded.reason, folded.renews, folded.record) == ("unchanged", True, record)


class TestFields:
    @pytest.mark.parametrize(
        ("first", "second", "stands"),
        [
            ("queued", "running", "running"),
            ("running", "queued", "running"),
            ("queued", "succeeded", "succeeded"),
        ],
    )
    def test_status_only_goes_forward(self, first: Any, second: Any, stands: str) -> None:
        record = updates({"status": first})
        folded = fold(record, Update(status=second, message="x"), now=1001.0, epoch=EPOCH)
        assert folded.record.state.status == stands

    def test_times_of_start_and_finish(self) -> None:
        state = updates({"status": "queued"}, {"status": "running"}, {"status": "failed"}).state
        assert (state.created_at, state.started_at, state.finished_at) == (1000.0, 1001.0, 1002.0)

    def test_progress_of_a_queued_job_says_that_it_runs(self) -> None:
        state = updates({"status": "queued"}, {"message": "soon"}).state
        assert (state.status, state.started_at) == ("queued", None)
        state = updates({"status": "queued"}, {"done": 1}).state
        assert (state.status, state.started_at) == ("running", 1001.0)

    def test_a_job_whose_first_word_is_its_end_has_a_duration(self) -> None:
        state = updates({"status": "succeeded"}).state
        assert (state.started_at, state.finished_at) == (1000.0, 1000.0)

    def test_percent_from_done_and_total_and_never_falling(self) -> None:
        assert updates({"done": 1, "total": 3}).state.percent == 33.33
        assert updates({"done": 1, "total": 2}, {"total": 10}).state.percent == 50
        assert updates({"percent": 80}, {"percent": 10, "message": "x"}).state.percent == 80
        assert updates({"done": 30, "total": 20}).state.percent == 100

    def test_percent_given_wins_over_the_count(self) -> None:
        assert updates({"done": 9, "total": 10, "percent": 12.345}).state.percent == 12.35

    def test_success_is_100_percent_and_has_no_eta(self) -> None:
        state = updates({"percent": 10}, {"percent": 60}, {"status": "succeeded"}).state
        assert (state.percent, state.eta) == (100, None)

    def test_failure_keeps_the_progress(self) -> None:
        assert updates({"percent": 37}, {"status": "failed", "error": "e"}).state.percent == 37

    def test_done_never_falls_within_a_phase_but_starts_anew_in_the_next(self) -> None:
        assert updates({"done": 5}, {"done": 3, "message": "x"}).state.done == 5
        assert updates({"done": 5, "phase": "a"}, {"done": 3, "phase": "b"}).state.done == 3

    def test_null_clears(self) -> None:
        record = updates(
            {"message": "m", "done": 1, "lease": 5, "data": msgspec.Raw(b"[1]")},
            {"message": None, "done": None, "lease": None, "data": msgspec.Raw(b"null")},
        )
        state = record.state
        assert (state.message, state.done, state.lease, state.data) == (None, None, 30.0, UNSET)

    def test_eta_is_absent_until_it_can_be_told(self) -> None:
        assert updates({"percent": 0}).state.eta is None
        assert updates({"percent": 0}, {"percent": 10}).state.eta is None
        assert updates({"percent": 0}, {"percent": 10}, {"percent": 20}).state.eta == 8.0

    def test_whole_numbers_are_written_without_a_point(self) -> None:
        assert b'"done":3,"total":4.5' in msgspec.json.encode(
            updates({"done": 3.0, "total": 4.5}).state
        )

    def test_a_clock_that_goes_back_does_not_take_the_state_along(self) -> None:
        record = updates({"percent": 1})
        folded = fold(record, Update(percent=2), now=10.0, epoch=EPOCH)
        assert folded.record.state.updated_at == 1000.0


class TestLapse:
    def test_ok_stalled_lost_and_back(self) -> None:
        record = updates({"percent": 0}, {"percent": 10}, {"percent": 20})
        assert lapses_at(record.state, heard_at=1002.0) == 1032.0

        stalled = lapse(record)
        assert stalled is not None
        assert (stalled.state.health, stalled.state.eta, stalled.state.percent) == (
            "stalled",
            None,
            20,
        )
        assert stalled.position.seq == record.position.seq + 1
        assert lapses_at(stalled.state, heard_at=1002.0) == 1302.0

        lost = lapse(stalled)
        assert lost is not None
        assert lost.state.health == "lost"
        assert lapses_at(lost.state, heard_at=1002.0) is None
        assert lapse(lost) is None

        back = fold(lost, Update(), now=2000.0, epoch=EPOCH)
        assert (back.applied, back.record.state.health) == (True, "ok")

    @pytest.mark.parametrize("status", ["queued", *sorted(FINAL)])
    def test_only_running_jobs_have_a_lease(self, status: Any) -> None:
        record = updates({"status": status})
        assert lapses_at(record.state, heard_at=0.0) is None
        assert lapse(record) is None


texts = st.none() | st.text(max_size=5)
any_update = st.builds(
    Update,
    status=st.just(UNSET) | st.sampled_from(STATUSES),
    attempt=st.just(UNSET) | st.integers(1, 4),
    start=st.sampled_from([False, False, False, True]),
    run=st.none() | st.sampled_from(["a", "b"]),
    percent=st.just(UNSET) | st.floats(0, 100) | st.integers(0, 100),
    done=st.just(UNSET) | st.none() | st.floats(0, 1e15) | st.integers(0, 50),
    total=st.just(UNSET) | st.none() | st.integers(0, 50),
    phase=st.just(UNSET) | texts,
    message=st.just(UNSET) | texts,
    lease=st.just(UNSET) | st.none() | st.floats(1, 100),
)
ticks = st.floats(-5, 50)


@given(st.lists(st.tuples(any_update, ticks), max_size=30))
def test_any_history_keeps_the_promises(history: list[tuple[Update, float]]) -> None:
    record: Record | None = None
    now = 1_000_000.0
    for update, tick in history:
        now += tick
        before, folded = record, fold(record, update, now=now, epoch=EPOCH)
        record = folded.record
        state = record.state
        assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state
        assert (state.finished_at is not None) == state.final
        assert state.eta is None or (state.eta > 0 and state.status == "running")
        if before is None:
            assert record.position == Position(EPOCH, 1)
            continue
        if not folded.applied:
            assert record is before
            continue
        old = before.state
        assert record.position == Position(EPOCH, before.position.seq + 1)
        assert state.attempt >= old.attempt
        assert state.updated_at >= old.updated_at
        assert state.created_at == old.created_at
        assert state.health == "ok"
        if state.attempt == old.attempt:
            assert not old.final
            begun = update.start and old.status == "queued"  # anew: nobody worked on it before
            assert begun or (state.percent or 0) >= (old.percent or 0)
            assert STATUSES.index(state.status) >= STATUSES.index(old.status)


@given(any_update, any_update)
def test_a_traceparent_changes_nothing(first: Update, second: Update) -> None:
    record = fold(None, first, now=1.0, epoch=EPOCH).record
    traced = [msgspec.structs.replace(update, traceparent=SPAN) for update in (first, second)]
    assert fold(None, traced[0], now=1.0, epoch=EPOCH).record == record
    expected = fold(record, second, now=2.0, epoch=EPOCH)
    assert fold(record, traced[1], now=2.0, epoch=EPOCH) == expected
    assert b"traceparent" not in msgspec.json.encode(expected.record.state)


@given(any_update, any_update)
def test_repeating_an_update_changes_nothing(first: Update, second: Update) -> None:
    """What makes a retried request harmless; a `start` needs its run's name for it."""
    record = fold(None, first, now=1.0, epoch=EPOCH).record
    record = fold(record, second, now=2.0, epoch=EPOCH).record
    again = fold(record, second, now=3.0, epoch=EPOCH)
    if second.start and (second.run is None or record.run != second.run):
        assert again.applied
    else:
        assert not again.applied


@pytest.mark.parametrize("job", ["a", "video:42", "user/7@host-1.x_y", "A" * 200])
def test_job_ids(job: str) -> None:
    assert check_job_id(job) == job


@pytest.mark.parametrize("job", ["", "a b", "ü", "a\n", "A" * 201, "a*", None, 3])
def test_not_job_ids(job: object) -> None:
    with pytest.raises(InvalidInput, match="parent is not a job id") as caught:
        check_job_id(job, field="parent")
    assert caught.value.field == "parent"
