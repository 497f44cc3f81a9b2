"""The reducer: computes the next state from a state and an update, or after its lease has expired.

The transitions that a child causes in its group are in `groups`. `lua/publish.lua` and
`lua/expire_leases.lua` have the same rules for Redis; the vectors and a property test compare both.

`reduce` is pure: the time and a new epoch are arguments. These are the rules, in order; the first
rule that applies decides.

    condition of an update                    result
    ----------------------------------------  ------------------------------------------
    the job is unknown, and the update        rejected: unknown (by the broker, before
      reports nothing (`may_begin`)             `reduce`)
    the job is unknown                        starts attempt `attempt` or 1, seq 1
    `start`, by the run that started the      the `start` is ignored (a repeated request)
      current attempt
    `start`, by an earlier try of that run    rejected: stale_attempt
    `start` while queued                      starts the same attempt: it had no worker yet.
                                              Its request is kept, if the worker accepts it
    `start`                                   starts the next attempt
    `attempt` above the current one           starts that attempt
    `attempt` below the current one           rejected: stale_attempt
    its `run` is not the one that started     rejected: other_run
      the current attempt
    the status is final                       rejected: final
    it counts in a new part, and the job      rejected: too_many_parts
      has `MAX_PARTS` already
    it changes nothing                        rejected: unchanged, but the lease is renewed
    anything else                             applied: seq + 1, the lease is renewed

    condition of a client's request           result
    ----------------------------------------  ------------------------------------------
    the job is unknown                        rejected: unknown (by the broker)
    it names another attempt                  rejected: stale_attempt
    the status is final                       rejected: final
    the job does not accept its verb          rejected: not_accepted
    the attempt has had it                    rejected: unchanged
    there is a cancel that was not refused    rejected: unchanged
    anything else                             stored in the state; the lease is not renewed

    field                                     how it changes within an attempt
    ----------------------------------------  ------------------------------------------
    status                                    only forward: queued, running, a final one;
                                              `running` if the first update names none, or
                                              if a queued job reports progress
    percent                                   never falls; from done / total unless given;
                                              less than 100 is not rounded to it;
                                              null: unknown until the attempt ends;
                                              100 on success
    done                                      never falls within a phase; with `part`s it is
                                              the sum of their newest counts
    total                                     replaced; cleared if `done` is larger, because
                                              one of them must be wrong
    health                                    any accepted update: ok
    eta                                       estimated from the rate; absent unless running
                                              and ok
    started_at                                set when the status leaves queued: the time of
                                              the update, minus its `age` if that is given
    finished_at                               set when the status becomes final
    request                                   `ack` sets the time at which the worker has seen
                                              it, `refused` the worker's reason to refuse it
    children                                  makes the job a group, permanently: from then on
                                              its children decide percent, done and total (see
                                              `groups`), and updates cannot set them
    all others                                replaced; null clears

A new attempt clears all fields except `created_at`, `lease`, `weight` and the expected weight of a
group's children. `expire_lease` is the other transition: the lease has expired. It changes only
`health` and `eta`. It does not apply to a queued job (no worker yet), to a final one (no worker any
more), or to a group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from attrs import evolve, field, frozen
from msgspec import UNSET, Raw

from . import constants
from .children import Children, Contribution, Sums, total_of
from .eta import RateEstimator
from .groups import fields_from_children, with_eta
from .ids import is_earlier_try
from .lease_times import has_lease
from .percent import two_digits
from .requests import CANCEL, Request
from .state import Position, Record, RequestUpdate, State, Update
from .statuses import FINAL, RANK, Health, Reason, Status

__all__ = ["Result", "expire_lease", "may_begin", "reduce"]


@frozen
class Result:
    """The result of an update."""

    record: Record
    """The record after the update: with the same state unless `applied`."""
    reason: Reason | None = field(default=None)
    """The reason why the update was not applied; None if it was."""
    by_worker: bool = field(default=True, kw_only=True)
    """Whether the update came from a worker. A request comes from a client."""
    restarted: bool = field(default=False, kw_only=True)
    """Whether the update started another attempt of a group. Then the contributions of children
    that have ended must be dropped."""

    @property
    def applied(self) -> bool:
        """Whether the update caused an event."""
        return self.reason is None

    @property
    def renews(self) -> bool:
        """Whether the update renews the lease, because it came from the current worker."""
        return self.by_worker and self.reason in (None, "unchanged")


_REPORTS_NOTHING = frozenset(
    ("job", "attempt", "start", "run", "part", "age", "ack", "refused", "traceparent")
)
"""Fields that identify the sender or the time of an update, and report nothing about the job."""


def may_begin(update: Update) -> bool:
    """Returns whether `update` may create an unknown job. A request may not. A renewal without any
    report (`{}`) may not either, so that its worker is told that the job's state was lost."""
    if isinstance(update, RequestUpdate):
        return False
    return update.start or any(
        getattr(update, name) is not UNSET
        for name in update.__struct_fields__
        if name not in _REPORTS_NOTHING
    )


def reduce(
    record: Record | None,
    update: Update,
    *,
    now: float,
    epoch: int,
    children: Collection[Contribution] = (),
) -> Result:
    """Applies `update` to `record` at `now` (Unix seconds).

    Args:
        record: The job's record; None if the job is unknown. Then `update` must be one for which
            `may_begin` is true.
        now: The time. If the record's last update is later, that time is used instead, so a state
            never goes back in time.
        epoch: The epoch of the record if it is created.
        children: The contributions of the job's children so far.
    """
    now = round(now, 3)
    if update.children is not UNSET or (record is not None and record.sums is not None):
        update = _without_progress(update)
    if record is None:
        attempt = 1 if update.attempt is UNSET else update.attempt
        return Result(_start_attempt(None, update, attempt, now, epoch, children))

    state = record.state
    now = max(now, state.updated_at)
    if isinstance(update, RequestUpdate):
        return _request(record, update, now=now)
    if update.start and (update.run is None or update.run != record.run):
        if is_earlier_try(update.run, record.run):
            return Result(record, "stale_attempt")
        attempt = state.attempt + (state.status != "queued")
        started = _start_attempt(record, update, attempt, now, epoch, children)
        return Result(started, restarted=record.sums is not None)
    if update.attempt is not UNSET and not update.start:
        if update.attempt > state.attempt:
            started = _start_attempt(record, update, update.attempt, now, epoch, children)
            return Result(started, restarted=record.sums is not None)
        if update.attempt < state.attempt:
            return Result(record, "stale_attempt")
    if None not in (update.run, record.run) and update.run != record.run:
        return Result(record, "other_run")
    if state.final:
        return Result(record, "final")

    if _too_many_parts(record, update):
        return Result(record, "too_many_parts")
    changed = _apply_fields(record, update, children, now=now)
    if changed.state is state:
        return Result(changed, "unchanged")
    return Result(evolve(changed, position=_next_position(record)))


def _request(record: Record, update: RequestUpdate, *, now: float) -> Result:
    """Stores a request in the state, if the job accepts it."""
    state, request = record.state, update.request
    reason: Reason | None = None
    if update.attempt not in (UNSET, state.attempt):
        reason = "stale_attempt"
    elif state.final:
        reason = "final"
    elif request.verb not in (state.accepts or ()):
        reason = "not_accepted"
    elif _must_not_store_request(record, request.id):
        reason = "unchanged"
    if reason is not None:
        return Result(record, reason, by_worker=False)
    stored = msgspec.structs.replace(request, at=now)
    earlier = record.earlier_request_ids
    if state.request is not None:
        earlier = (*earlier, state.request.id)[-constants.MAX_EARLIER_REQUESTS :]
    state = msgspec.structs.replace(state, request=stored)
    with_request = evolve(
        record, position=_next_position(record), state=state, earlier_request_ids=earlier
    )
    return Result(with_request, by_worker=False)


def _must_not_store_request(record: Record, id_: str) -> bool:
    """Returns whether a request with this id must not be stored: the attempt has had it, or it has
    a cancel that was not refused."""
    request = record.state.request
    if request is None:
        return False
    if request.id == id_ or id_ in record.earlier_request_ids:
        return True
    return request.verb == CANCEL and request.refused is None


def _acknowledged(request: Request | None, update: Update, *, now: float) -> Request | None:
    """Returns the request after the worker's acknowledgement. A refused request stays refused."""
    if request is None or update.ack != request.id or request.refused is not None:
        return request
    seen_at = now if request.seen_at is None else request.seen_at
    return msgspec.structs.replace(request, seen_at=seen_at, refused=update.refused)


def expire_lease(record: Record) -> Record | None:
    """Returns the record after its lease has expired: `ok` → `stalled` → `lost`. None if it has no
    lease."""
    state = record.state
    if not has_lease(state):
        return None
    health: Health = "stalled" if state.health == "ok" else "lost"
    return evolve(
        record,
        position=_next_position(record),
        state=msgspec.structs.replace(state, health=health, eta=None),
    )


def _next_position(record: Record) -> Position:
    return Position(record.position.epoch, record.position.seq + 1)


def _without_progress(update: Update) -> Update:
    """Returns the update without the fields that a group's children decide."""
    return msgspec.structs.replace(update, part=None, done=UNSET, total=UNSET, percent=UNSET)


def _start_attempt(
    record: Record | None,
    update: Update,
    attempt: int,
    now: float,
    epoch: int,
    children: Collection[Contribution],
) -> Record:
    """Returns the record after the first event of an attempt."""
    kept_fields: dict[str, Any] = {}
    sums: Sums | None = None
    earlier: tuple[str, ...] = ()
    if record is not None:
        old = record.state
        kept_fields = {"weight": old.weight, "lease": old.lease, "created_at": old.created_at}
        if old.children is not None:
            kept_fields["children"] = Children(old.children.expected)
            sums = total_of(child for child in children if not child.ended)
        if attempt == old.attempt:  # it was queued
            kept_fields["request"], earlier = old.request, record.earlier_request_ids
    status: Status = "running" if update.status is UNSET else update.status
    started_at = None
    if status != "queued":
        started_at = _started_at(update, now=now, earliest=kept_fields.get("created_at", 0.0))
    cleared = State(
        **{"created_at": now if started_at is None else started_at} | kept_fields,
        status=status,
        attempt=attempt,
        updated_at=now,
        started_at=started_at,
        finished_at=now if status in FINAL else None,
        percent=100 if status == "succeeded" else None,
    )
    position = _next_position(record) if record else Position(epoch, 1)
    first = Record(position, cleared, run=update.run, sums=sums, earlier_request_ids=earlier)
    started = _apply_fields(first, update, children, now=now)
    request = started.state.request
    if request is None or request.verb in (started.state.accepts or ()):
        return started
    state = msgspec.structs.replace(started.state, request=None)
    return evolve(started, state=state, earlier_request_ids=())


def _started_at(update: Update, *, now: float, earliest: float) -> float:
    """Returns the start time of the attempt that `update` starts, at the earliest `earliest`."""
    return now if update.age is UNSET else max(round(now - update.age, 3), earliest)


_REPLACED = ("unit", "phase", "message", "error", "accepts")
_NULL = Raw(b"null")


def _apply_fields(
    record: Record, update: Update, children: Collection[Contribution], *, now: float
) -> Record:
    """Returns the record with the fields of `update`, at its old position. If nothing has changed,
    its state is the same object."""
    state, estimator = record.state, record.rate_estimator
    parts, counted, sums = record.parts, record.counted, record.sums
    new: dict[str, Any] = {"health": "ok"}
    for name in _REPLACED:
        value = getattr(update, name)
        if value is not UNSET:
            new[name] = value
    new["request"] = _acknowledged(state.request, update, now=now)
    if update.data is not UNSET:
        new["data"] = UNSET if update.data == _NULL else update.data
    if update.lease is not UNSET:
        new["lease"] = constants.DEFAULT_LEASE if update.lease is None else _normalise(update.lease)
    if update.weight is not UNSET:
        weight = None if update.weight is None else _thousandths(update.weight)
        new["weight"] = None if weight == 1 else weight

    status = _status(state, update)
    if RANK[status] > RANK[state.status]:
        new["status"] = status
        if state.status == "queued":
            new["started_at"] = _started_at(update, now=now, earliest=state.created_at)
        if status in FINAL:
            new["finished_at"] = now

    if update.total is not UNSET:
        new["total"] = None if update.total is None else _normalise(update.total)
    if update.done is not UNSET:
        new["done"], parts, counted = _count(record, update, update.done)
    done, total = new.get("done", state.done), new.get("total", state.total)
    if done is not None and total is not None and done > total:
        new["total"] = None
    if update.percent is None and estimator is None:
        estimator = RateEstimator(now, now, 0)  # from here on the percentage is unknown
    new["percent"] = _percent(state, estimator, update, new)

    changed = msgspec.structs.replace(state, **new)
    if update.children is not UNSET or sums is not None:
        if sums is None:
            sums, parts, counted = total_of(children), {}, 0
        expected = state.children.expected if state.children else None
        if update.children is not UNSET:
            expected = None if update.children is None else _thousandths(update.children)
        from_children = fields_from_children(changed, sums, expected=expected, now=now)
        changed = msgspec.structs.replace(changed, **from_children)
    if changed == state:
        if parts is record.parts:
            return record
        return evolve(record, parts=parts, counted=counted)
    changed, estimator = with_eta(changed, estimator, now=now)
    return evolve(
        record, state=changed, rate_estimator=estimator, parts=parts, counted=counted, sums=sums
    )


def _status(state: State, update: Update) -> Status:
    """Returns the status according to the update. An update with progress means that the job
    runs."""
    if update.status is not UNSET:
        return update.status
    progress = update.percent not in (UNSET, None) or update.done not in (UNSET, None)
    return "running" if progress else state.status


def _begins_phase(state: State, update: Update) -> bool:
    return update.phase is not UNSET and update.phase != state.phase


def _too_many_parts(record: Record, update: Update) -> bool:
    parts = record.parts
    return (
        update.part is not None
        and update.done not in (UNSET, None)
        and len(parts) >= constants.MAX_PARTS
        and update.part not in parts
        and not _begins_phase(record.state, update)
    )


def _count(
    record: Record, update: Update, reported: float | None
) -> tuple[float | None, Mapping[str, float], float]:
    """Returns `done` after the update, which never falls within a phase; the parts, and their sum.

    An update without `part` sets the whole count, as long as no update has named a part. From then
    on, updates without `part` count as a separate part.
    """
    state = record.state
    # If there are none, the same object: `_apply_fields` compares the identity.
    no_parts = {} if record.parts else record.parts
    if reported is None:
        return None, no_parts, 0
    reported = _normalise(reported)
    restarts = state.done is None or _begins_phase(state, update)
    if update.part is None and (restarts or not record.parts):
        return (reported if restarts else max(state.done or 0, reported)), no_parts, 0
    parts, counted = record.parts, record.counted
    if restarts:
        parts, counted = {}, 0
    elif not parts and state.done:
        parts, counted = {"": state.done}, state.done
    part = update.part or ""
    old = parts.get(part, 0)
    if reported > old:
        # Add the difference instead of summing all parts: the result must not depend on their
        # order.
        counted = _normalise(min(counted - old + reported, constants.MAX_NUMBER))
        parts = {**parts, part: reported}
    return (counted if restarts else max(state.done or 0, counted)), parts, counted


def _percent(
    state: State, estimator: RateEstimator | None, update: Update, new: dict[str, Any]
) -> float | None:
    """Returns `percent` after the update: never lower than before; None while it is unknown."""
    percent = state.percent
    if new.get("status", state.status) == "succeeded":
        return 100
    if update.percent is None or (percent is None and estimator is not None):
        return None
    if update.percent is not UNSET:
        return max(percent or 0, _normalise(two_digits(update.percent)))
    if "done" in new or "total" in new:
        done, total = new.get("done", state.done), new.get("total", state.total)
        if done is not None and total:
            return max(percent or 0, _normalise(two_digits(100.0 * done / total)))
    return percent


def _thousandths(number: float) -> float:
    return _normalise(round(number, 3))


def _normalise(number: float) -> float:
    """Returns the number in its shortest form: a whole number as an int, others with 14 digits.

    A double has 15 exact digits. With 14 the text is the same in every language (`%.14g`).
    """
    if isinstance(number, int):
        return number
    if not number.is_integer():
        number = float(f"{number:.14g}")
    return int(number) if number.is_integer() else number
