"""The reducer: each rule in the order of its table, and properties of any history."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.model.constants import MAX_NUMBER
from gateway.model.ids import is_earlier_try
from gateway.model.lease_times import lease_expires_at
from gateway.model.reducer import expire_lease, may_begin, reduce
from gateway.model.state import FINAL, STATUSES, Position, Record, State, Update
from tests.traceparents import SPAN

EPOCH = 7


def updates(*all_fields: dict[str, Any], start_at: float = 1000.0) -> Record:
    """Returns the record after these updates, one second apart. Asserts that each is applied."""
    record = None
    for number, fields in enumerate(all_fields):
        result = reduce(record, Update(**fields), now=start_at + number, epoch=EPOCH)
        assert result.applied, result
        record = result.record
    assert record is not None
    return record


def rejection_reason(record: Record, **fields: Any) -> str | None:
    result = reduce(record, Update(**fields), now=2000.0, epoch=EPOCH)
    assert result.record is record
    return result.reason


class TestUpdates:
    def test_unknown_job_opens_attempt_1_at_seq_1(self) -> None:
        record = updates({"status": "running"})
        assert record.position == Position(EPOCH, 1)
        assert record.state == State(
            status="running", attempt=1, created_at=1000.0, started_at=1000.0, updated_at=1000.0
        )

    def test_unknown_job_opens_the_attempt_of_the_update(self) -> None:
        # The broker lost the record in the middle of attempt 3.
        assert updates({"attempt": 3}).state.attempt == 3

    def test_an_update_without_a_report_creates_no_job(self) -> None:
        for bare in (
            {},
            {"run": "r"},
            {"run": "r", "attempt": 2, "age": 5, "part": "p", "ack": "1", "traceparent": SPAN},
        ):
            assert not may_begin(Update(**bare))
        for said in ({"start": True}, {"lease": 5}, {"message": None}, {"status": "queued"}):
            assert may_begin(Update(run="r", **said))

    def test_start_opens_the_next_attempt(self) -> None:
        record = updates({"start": True, "percent": 50, "message": "a"}, {"start": True})
        assert (record.state.attempt, record.position.seq) == (2, 2)
        assert (record.state.percent, record.state.message) == (None, None)

    def test_start_repeated_by_the_same_run_opens_no_attempt(self) -> None:
        record = updates({"start": True, "run": "r1", "percent": 5})
        assert rejection_reason(record, start=True, run="r1", percent=5) == "unchanged"
        result = reduce(record, Update(start=True, run="r1", percent=6), now=1001.0, epoch=EPOCH)
        assert (result.record.state.attempt, result.record.state.percent) == (1, 6)

    def test_start_of_a_queued_attempt_keeps_its_number(self) -> None:
        record = updates({"status": "queued", "message": "third in line"}, {"start": True})
        assert record.position.seq == 2
        assert record.state == State(
            status="running", attempt=1, created_at=1000.0, started_at=1001.0, updated_at=1001.0
        )
        again = {"start": True, "status": "queued", "run": "b"}
        state = updates({"status": "failed"}, again, again | {"status": "running"}).state
        assert (state.attempt, state.status) == (2, "running")

    def test_start_by_another_run_opens_the_next_attempt(self) -> None:
        assert updates({"start": True, "run": "a"}, {"start": True, "run": "b"}).state.attempt == 2

    @pytest.mark.parametrize("late", ["task#1", "task#1~ab12", "task#0"])
    @pytest.mark.parametrize("status", ["queued", "running", "failed"])
    def test_start_by_an_earlier_retry_is_rejected(self, late: str, status: str) -> None:
        record = updates({"start": True, "run": "task#2", "status": status})
        for said in ("queued", "running"):
            assert rejection_reason(record, start=True, run=late, status=said) == "stale_attempt"

    @pytest.mark.parametrize("run", ["task#3", "task#10", "task#2~ab", "other#1", "task", "a#1#0"])
    def test_start_by_any_other_run_opens_the_next_attempt(self, run: str) -> None:
        record = updates({"start": True, "run": "task#2"}, {"start": True, "run": run})
        assert record.state.attempt == 2

    def test_higher_attempt_number_opens_it_and_clears_the_state(self) -> None:
        record = updates(
            {"status": "failed", "error": "x", "done": 3, "weight": 2, "lease": 5}, {"attempt": 4}
        )
        assert record.state == State(
            status="running",
            attempt=4,
            weight=2,
            lease=5,
            created_at=1000.0,
            started_at=1001.0,
            updated_at=1001.0,
        )

    def test_older_attempt_is_rejected_and_does_not_renew_the_lease(self) -> None:
        record = updates({"attempt": 2})
        result = reduce(record, Update(attempt=1, percent=99), now=1001.0, epoch=EPOCH)
        assert (result.reason, result.renews, result.record) == ("stale_attempt", False, record)

    def test_another_run_is_rejected_and_does_not_renew_the_lease(self) -> None:
        record = updates({"start": True, "run": "a"}, {"start": True, "run": "b"})
        for late in ({"run": "a"}, {"run": "a", "done": 5}, {"run": "a", "attempt": 2, "done": 5}):
            result = reduce(record, Update(**late), now=1009.0, epoch=EPOCH)
            assert (result.reason, result.renews, result.record) == ("other_run", False, record)
        assert rejection_reason(record, run="a", attempt=1, done=5) == "stale_attempt"
        assert rejection_reason(record, run="b") == "unchanged"
        assert rejection_reason(record) == "unchanged"
        opened_result = reduce(record, Update(run="a", attempt=3), now=1009.0, epoch=EPOCH)
        assert (opened_result.record.state.attempt, opened_result.record.run) == (3, "a")

    def test_an_attempt_without_a_run_accepts_any_run(self) -> None:
        assert updates({"percent": 1}, {"run": "a", "percent": 2}).state.percent == 2

    @pytest.mark.parametrize("status", sorted(FINAL))
    def test_a_final_state_rejects_everything_except_a_new_attempt(self, status: Any) -> None:
        record = updates({"status": status})
        for late in ({}, {"percent": 1}, {"status": "running"}, {"attempt": 1}):
            assert rejection_reason(record, **late) == "final"
        assert not reduce(record, Update(), now=2000.0, epoch=EPOCH).renews
        assert updates({"status": status}, {"start": True}).state.status == "running"

    def test_an_unchanged_state_makes_no_event_and_renews_the_lease(self) -> None:
        record = updates({"percent": 5, "message": "m"})
        result = reduce(record, Update(percent=5, message="m"), now=1009.0, epoch=EPOCH)
        assert (result.reason, result.renews, result.record) == ("unchanged", True, record)


class TestFields:
    @pytest.mark.parametrize(
        ("first", "second", "stands"),
        [
            ("queued", "running", "running"),
            ("running", "queued", "running"),
            ("queued", "succeeded", "succeeded"),
        ],
    )
    def test_the_status_only_moves_forward(self, first: Any, second: Any, stands: str) -> None:
        record = updates({"status": first})
        result = reduce(record, Update(status=second, message="x"), now=1001.0, epoch=EPOCH)
        assert result.record.state.status == stands

    def test_started_at_and_finished_at_are_set(self) -> None:
        state = updates({"status": "queued"}, {"status": "running"}, {"status": "failed"}).state
        assert (state.created_at, state.started_at, state.finished_at) == (1000.0, 1001.0, 1002.0)

    def test_age_sets_started_at(self) -> None:
        # A gateway that has lost everything gets an update of an attempt that has run for 90 s.
        state = updates({"attempt": 2, "done": 5, "age": 90.5}, {"done": 6, "age": 91}).state
        assert (state.created_at, state.started_at, state.updated_at) == (909.5, 909.5, 1001.0)
        state = updates({"status": "succeeded", "age": 12}).state
        assert (state.started_at, state.finished_at) == (988.0, 1000.0)

    def test_age_never_sets_started_at_below_zero(self) -> None:
        state = updates({"age": 5_000}).state
        assert (repr(state.created_at), repr(state.started_at)) == ("0.0", "0.0")

    def test_age_never_sets_started_at_before_created_at(self) -> None:
        state = updates({"status": "queued", "age": 5}, {"percent": 1, "age": 0.25}).state
        assert (state.created_at, state.started_at) == (1000.0, 1000.75)
        state = updates({"status": "failed"}, {"start": True, "age": 60}).state
        assert (state.created_at, state.started_at) == (1000.0, 1000.0)

    def test_progress_of_a_queued_job_sets_it_running(self) -> None:
        state = updates({"status": "queued"}, {"message": "soon"}).state
        assert (state.status, state.started_at) == ("queued", None)
        state = updates({"status": "queued"}, {"done": 1}).state
        assert (state.status, state.started_at) == ("running", 1001.0)

    def test_a_job_whose_first_report_is_its_end_has_a_duration(self) -> None:
        state = updates({"status": "succeeded"}).state
        assert (state.started_at, state.finished_at) == (1000.0, 1000.0)

    def test_percent_from_done_and_total_and_never_falling(self) -> None:
        assert updates({"done": 1, "total": 3}).state.percent == 33.33
        assert updates({"done": 1, "total": 2}, {"total": 10}).state.percent == 50
        assert updates({"percent": 80}, {"percent": 10, "message": "x"}).state.percent == 80

    def test_a_count_above_the_total_clears_the_total(self) -> None:
        state = updates({"done": 30, "total": 20}).state
        assert (state.done, state.total, state.percent) == (30, None, None)
        state = updates({"done": 5, "total": 20}, {"total": 4}).state
        assert (state.done, state.total, state.percent) == (5, None, 25)
        assert updates({"done": 30, "total": 20}, {"total": 40}).state.percent == 75

    def test_a_percentage_set_to_null_stays_unknown(self) -> None:
        steps: list[dict[str, Any]] = [
            {"percent": 99},
            {"percent": None, "done": 1, "total": 9},
            {"percent": 12, "message": "m"},
        ]
        assert updates(*steps).state.percent is None
        assert updates(*steps[:2], {"done": 5}).state.percent is None
        assert updates(*steps[:2], {"done": 5}).state.eta is None
        assert updates(*steps[:2], {"status": "succeeded"}).state.percent == 100
        assert updates(*steps, {"start": True}, {"percent": 3}).state.percent == 3

    def test_unfinished_progress_is_below_100_percent(self) -> None:
        assert updates({"done": 199_995, "total": 200_000}).state.percent == 99.99
        assert updates({"percent": 99.999}).state.percent == 99.99
        assert updates({"percent": 100}).state.percent == 100
        assert updates({"done": 200_000, "total": 200_000}).state.percent == 100

    def test_an_explicit_percentage_overrides_the_count(self) -> None:
        assert updates({"done": 9, "total": 10, "percent": 12.345}).state.percent == 12.35

    def test_success_is_100_percent_and_has_no_eta(self) -> None:
        state = updates({"percent": 10}, {"percent": 60}, {"status": "succeeded"}).state
        assert (state.percent, state.eta) == (100, None)

    def test_failure_keeps_the_progress(self) -> None:
        assert updates({"percent": 37}, {"status": "failed", "error": "e"}).state.percent == 37

    def test_done_never_falls_within_a_phase_and_resets_in_the_next(self) -> None:
        assert updates({"done": 5}, {"done": 3, "message": "x"}).state.done == 5
        assert updates({"done": 5, "phase": "a"}, {"done": 3, "phase": "b"}).state.done == 3

    def test_null_clears_a_field(self) -> None:
        record = updates(
            {"message": "m", "done": 1, "lease": 5, "data": msgspec.Raw(b"[1]")},
            {"message": None, "done": None, "lease": None, "data": msgspec.Raw(b"null")},
        )
        state = record.state
        assert (state.message, state.done, state.lease, state.data) == (None, None, 30.0, UNSET)

    def test_eta_is_absent_until_it_can_be_estimated(self) -> None:
        assert updates({"percent": 0}).state.eta is None
        assert updates({"percent": 0}, {"percent": 10}).state.eta is None
        assert updates({"percent": 0}, {"percent": 10}, {"percent": 20}).state.eta == 8.0

    def test_whole_numbers_have_no_decimal_point(self) -> None:
        assert b'"done":3,"total":4.5' in msgspec.json.encode(
            updates({"done": 3.0, "total": 4.5}).state
        )

    def test_a_clock_that_goes_back_does_not_change_the_time_of_the_state(self) -> None:
        record = updates({"percent": 1})
        result = reduce(record, Update(percent=2), now=10.0, epoch=EPOCH)
        assert result.record.state.updated_at == 1000.0


class TestExpiry:
    def test_health_changes_from_ok_to_stalled_to_lost_and_back(self) -> None:
        record = updates({"percent": 0}, {"percent": 10}, {"percent": 20})
        assert lease_expires_at(record.state, reported_at=1002.0) == 1032.0

        stalled = expire_lease(record)
        assert stalled is not None
        assert (stalled.state.health, stalled.state.eta, stalled.state.percent) == (
            "stalled",
            None,
            20,
        )
        assert stalled.position.seq == record.position.seq + 1
        assert lease_expires_at(stalled.state, reported_at=1002.0) == 1302.0

        lost = expire_lease(stalled)
        assert lost is not None
        assert lost.state.health == "lost"
        assert lease_expires_at(lost.state, reported_at=1002.0) is None
        assert expire_lease(lost) is None

        back = reduce(lost, Update(), now=2000.0, epoch=EPOCH)
        assert (back.applied, back.record.state.health) == (True, "ok")

    @pytest.mark.parametrize("status", ["queued", *sorted(FINAL)])
    def test_only_running_jobs_have_a_lease(self, status: Any) -> None:
        record = updates({"status": status})
        assert lease_expires_at(record.state, reported_at=0.0) is None
        assert expire_lease(record) is None


class TestParts:
    """Several processes count in one job: `done` is the sum of what each has counted."""

    def test_counts_of_parts_add_up_in_any_order(self) -> None:
        record = updates(
            {"total": 10},
            {"part": "a", "done": 3},
            {"part": "b", "done": 2},
            {"part": "a", "done": 4},
        )
        assert (record.state.done, record.state.percent) == (6, 60)
        assert rejection_reason(record, part="a", done=4) == "unchanged"
        assert rejection_reason(record, part="b", done=1) == "unchanged"
        assert record.parts == {"a": 4, "b": 2}

    def test_an_update_without_a_part_counts_as_one_part(self) -> None:
        record = updates({"done": 10}, {"part": "a", "done": 5}, {"done": 11})
        assert record.state.done == 16

    def test_a_new_phase_or_attempt_or_null_resets_the_parts(self) -> None:
        first_updates = ({"phase": "p", "part": "a", "done": 5}, {"part": "b", "done": 5})
        assert updates(*first_updates, {"phase": "q", "part": "a", "done": 1}).parts == {"a": 1}
        assert updates(*first_updates, {"phase": "q", "done": 1}).state.done == 1
        assert updates(*first_updates, {"attempt": 2}).parts == {}
        cleared = updates(*first_updates, {"done": None})
        assert (cleared.state.done, cleared.parts, cleared.counted) == (None, {}, 0)

    def test_the_number_of_parts_is_limited(self) -> None:
        record = updates(*({"part": str(n), "done": 1} for n in range(1_000)))
        assert record.state.done == 1_000
        assert rejection_reason(record, part="one more", done=1) == "too_many_parts"
        result = reduce(record, Update(part="0", done=2), now=3000.0, epoch=EPOCH)
        assert result.record.state.done == 1_001

    def test_the_sum_of_parts_stays_an_exact_number(self) -> None:
        record = updates(
            {"part": "a", "done": MAX_NUMBER}, {"part": "b", "done": 5, "message": "m"}
        )
        assert record.state.done == MAX_NUMBER


texts = st.none() | st.text(max_size=5)
any_update = st.builds(
    Update,
    status=st.just(UNSET) | st.sampled_from(STATUSES),
    attempt=st.just(UNSET) | st.integers(1, 4),
    start=st.sampled_from([False, False, False, True]),
    run=st.none() | st.sampled_from(["a", "b", "a#1", "a#2", "a#2~x", "a#10", "b#1"]),
    percent=st.just(UNSET) | st.none() | st.floats(0, 100) | st.integers(0, 100),
    done=st.just(UNSET) | st.none() | st.floats(0, 1e15) | st.integers(0, 50),
    total=st.just(UNSET) | st.none() | st.integers(0, 50),
    age=st.just(UNSET) | st.integers(0, 99) | st.floats(0, 1e6),
    part=st.none() | st.sampled_from(["x", "y", "z/1"]),
    phase=st.just(UNSET) | texts,
    message=st.just(UNSET) | texts,
    lease=st.just(UNSET) | st.none() | st.floats(1, 100),
)
ticks = st.floats(-5, 50)


@settings(deadline=None)
@given(st.lists(st.tuples(any_update, ticks), max_size=30))
def test_any_history_keeps_the_invariants(history: list[tuple[Update, float]]) -> None:
    record: Record | None = None
    now = 1_000_000.0
    for update, tick in history:
        now += tick
        before, result = record, reduce(record, update, now=now, epoch=EPOCH)
        record = result.record
        state = record.state
        assert msgspec.json.decode(msgspec.json.encode(state), type=State) == state
        assert (state.finished_at is not None) == state.final
        assert sum(record.parts.values()) == pytest.approx(record.counted)
        assert not record.parts or state.done == record.counted
        assert state.eta is None or (state.eta > 0 and state.status == "running")
        if before is None:
            assert record.position == Position(EPOCH, 1)
            continue
        if not result.applied:
            assert (record.position, record.state) == (before.position, before.state)
            continue
        old = before.state
        assert record.position == Position(EPOCH, before.position.seq + 1)
        assert state.attempt >= old.attempt
        assert state.updated_at >= old.updated_at
        assert state.created_at == old.created_at
        assert state.health == "ok"
        if state.attempt == old.attempt:
            assert not old.final
            begun = update.start and old.status == "queued"  # no worker had begun it before
            if not begun and state.percent is not None:
                assert state.percent >= (old.percent or 0)
            assert state.done is None or state.total is None or state.done <= state.total
            assert STATUSES.index(state.status) >= STATUSES.index(old.status)


@settings(deadline=None)
@given(any_update, any_update)
def test_a_traceparent_does_not_change_the_state(first: Update, second: Update) -> None:
    record = reduce(None, first, now=1.0, epoch=EPOCH).record
    traced = [msgspec.structs.replace(update, traceparent=SPAN) for update in (first, second)]
    assert reduce(None, traced[0], now=1.0, epoch=EPOCH).record == record
    expected = reduce(record, second, now=2.0, epoch=EPOCH)
    assert reduce(record, traced[1], now=2.0, epoch=EPOCH) == expected
    assert b"traceparent" not in msgspec.json.encode(expected.record.state)


@settings(deadline=None)
@given(any_update, any_update)
def test_repeating_an_update_changes_nothing(first: Update, second: Update) -> None:
    """A worker may repeat a request. A repeated `start` changes nothing if it names its run, and is
    rejected if that run belongs to an earlier try."""
    record = reduce(None, first, now=1.0, epoch=EPOCH).record
    record = reduce(record, second, now=2.0, epoch=EPOCH).record
    again = reduce(record, second, now=3.0, epoch=EPOCH)
    opens = second.start and (second.run is None or record.run != second.run)
    if opens and not is_earlier_try(second.run, of=record.run):
        assert again.applied
    else:
        assert not again.applied
