"""The fold: how a state and an update make the next state. Every transition is here.

`fold` is pure: the time and a fresh epoch come in, a value comes out. These are its
rules; the first that applies wins, top to bottom.

    the update                                what becomes of it
    ----------------------------------------  ------------------------------------------
    the job is unknown                        opens attempt `attempt` or 1, seq 1
    `start`, by the run that opened the       not a start: an update of that attempt
      current attempt (a repeated request)
    `start` while queued                      opens that attempt anew: it had no worker yet
    `start`                                   opens the next attempt
    `attempt` above the current one           opens that attempt
    `attempt` below the current one           rejected: stale_attempt
    the status is final                       rejected: final
    it changes nothing                        rejected: unchanged, but the lease is renewed
    anything else                             applied: seq + 1, the lease is renewed

    the field                                 how it changes within an attempt
    ----------------------------------------  ------------------------------------------
    status                                    only forward: queued, running, a final one;
                                              `running` if the first update names none, or
                                              if a queued job reports progress
    percent                                   never falls; from done / total unless given;
                                              100 on success
    done                                      never falls within a phase
    health                                    any accepted update: ok
    eta                                       from the pace; absent unless running and ok
    started_at, finished_at                   on leaving queued, on entering a final status
    all others                                replaced; null clears

Opening an attempt clears all that belongs to the attempt before; `created_at`, `parent`
and `lease` stay. `lapse` is the other transition: a lease ran out. It touches only
`health` and `eta`, and it never applies to a job that is queued (nobody works on it yet)
or final (nobody does any more).
"""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import evolve, field, frozen
from msgspec import UNSET, Raw

from . import limits
from .job import FINAL, Health, Position, Reason, Record, State, Status, Update
from .pace import Pace

__all__ = ["Folded", "fold", "lapse", "lapses_at"]

_ORDER: dict[Status, int] = {
    "queued": 0,
    "running": 1,
    "succeeded": 2,
    "failed": 2,
    "cancelled": 2,
}


@frozen
class Folded:
    """What came of an update."""

    record: Record
    """The record after it: the same object unless `applied`."""
    reason: Reason | None = field(default=None)
    """Why it was not applied; None if it was."""

    @property
    def applied(self) -> bool:
        """Whether there is a new event."""
        return self.reason is None

    @property
    def renews(self) -> bool:
        """Whether it was a word from the worker in charge, so that the lease starts anew."""
        return self.reason in (None, "unchanged")


def fold(record: Record | None, update: Update, *, now: float, epoch: int) -> Folded:
    """Apply `update` to `record` (None: the job is unknown) at `now` (Unix seconds).

    `epoch` is used only if the record is created by this. A `now` before the record's
    last update counts as that time: a state never goes back in time.
    """
    now = round(now, 3)
    if record is None:
        attempt = 1 if update.attempt is UNSET else update.attempt
        return Folded(_open(None, update, attempt=attempt, now=now, epoch=epoch))

    state = record.state
    now = max(now, state.updated_at)
    if update.start and (update.run is None or update.run != record.run):
        attempt = state.attempt + (state.status != "queued")
        return Folded(_open(record, update, attempt=attempt, now=now, epoch=epoch))
    if update.attempt is not UNSET and not update.start:
        if update.attempt > state.attempt:
            return Folded(_open(record, update, attempt=update.attempt, now=now, epoch=epoch))
        if update.attempt < state.attempt:
            return Folded(record, "stale_attempt")
    if state.final:
        return Folded(record, "final")

    changed, pace = _patch(state, record.pace, update, now=now)
    if changed is state:
        return Folded(record, "unchanged")
    return Folded(evolve(record, position=_next(record), state=changed, pace=pace))


def lapse(record: Record) -> Record | None:
    """The record after its lease ran out: `ok` → `stalled` → `lost`; None if it has none."""
    state = record.state
    if state.status != "running" or state.health == "lost":
        return None
    health: Health = "stalled" if state.health == "ok" else "lost"
    return evolve(
        record,
        position=_next(record),
        state=msgspec.structs.replace(state, health=health, eta=None),
    )


def lapses_at(state: State, *, heard_at: float) -> float | None:
    """When `lapse` is due if the worker was last heard at `heard_at`; None for never."""
    if state.status != "running" or state.health == "lost":
        return None
    return heard_at + state.lease * (1 if state.health == "ok" else limits.LOST_AFTER)


def _next(record: Record) -> Position:
    return Position(record.position.epoch, record.position.seq + 1)


def _open(record: Record | None, update: Update, *, attempt: int, now: float, epoch: int) -> Record:
    """The record at the first event of an attempt."""
    kept: dict[str, Any] = {}
    if record is not None:
        old = record.state
        kept = {"parent": old.parent, "lease": old.lease, "created_at": old.created_at}
    status: Status = "running" if update.status is UNSET else update.status
    blank = State(
        **{"created_at": now} | kept,
        status=status,
        attempt=attempt,
        updated_at=now,
        started_at=None if status == "queued" else now,
        finished_at=now if status in FINAL else None,
        percent=100 if status == "succeeded" else None,
    )
    state, pace = _patch(blank, None, update, now=now)
    return Record(
        position=_next(record) if record else Position(epoch, 1),
        state=state,
        run=update.run,
        pace=pace,
    )


_REPLACED = ("unit", "phase", "message", "error", "parent")
_NULL = Raw(b"null")


def _patch(
    state: State, pace: Pace | None, update: Update, *, now: float
) -> tuple[State, Pace | None]:
    """The state with `update` in it, and its pace. The same `state` if nothing changed."""
    new: dict[str, Any] = {"health": "ok"}
    for name in _REPLACED:
        value = getattr(update, name)
        if value is not UNSET:
            new[name] = value
    if update.data is not UNSET:
        new["data"] = UNSET if update.data == _NULL else update.data
    if update.lease is not UNSET:
        new["lease"] = limits.DEFAULT_LEASE if update.lease is None else _tidy(update.lease)

    status = _status(state, update)
    if _ORDER[status] > _ORDER[state.status]:
        new["status"] = status
        if state.status == "queued":
            new["started_at"] = now
        if status in FINAL:
            new["finished_at"] = now

    if update.total is not UNSET:
        new["total"] = None if update.total is None else _tidy(update.total)
    if update.done is not UNSET:
        new["done"] = _done(state, update, update.done)
    percent = _percent(state, update, new)
    if percent is not None:
        new["percent"] = percent

    changed = msgspec.structs.replace(state, **new)
    if changed == state:
        return state, pace
    if changed.percent is not None and changed.status == "running":
        pace = pace.seen(changed.percent, now=now) if pace else Pace(now, now, changed.percent)
    eta = pace.eta(now=now) if pace and changed.status == "running" else None
    return msgspec.structs.replace(changed, eta=eta, updated_at=now), pace


def _status(state: State, update: Update) -> Status:
    """What the update says of the status: progress of a queued job says that it runs."""
    if update.status is not UNSET:
        return update.status
    progress = update.percent is not UNSET or update.done not in (UNSET, None)
    return "running" if progress else state.status


def _done(state: State, update: Update, reported: float | None) -> float | None:
    """`done` after the update: within a phase it never falls."""
    if reported is None:
        return None
    new_phase = update.phase is not UNSET and update.phase != state.phase
    if new_phase or state.done is None:
        return _tidy(reported)
    return max(state.done, _tidy(reported))


def _percent(state: State, update: Update, new: dict[str, Any]) -> float | None:
    """`percent` after the update: never below what it was; None while it is not known."""
    percent = state.percent
    if update.percent is not UNSET:
        percent = max(percent or 0, _tidy(round(update.percent, 2)))
    elif "done" in new or "total" in new:
        done, total = new.get("done", state.done), new.get("total", state.total)
        if done is not None and total:
            percent = max(percent or 0, _tidy(round(min(100.0 * done / total, 100), 2)))
    return 100 if new.get("status") == "succeeded" else percent


def _tidy(number: float) -> float:
    """The number in its shortest form: a whole one as an int, others to 14 digits.

    A double carries 15; one fewer makes the text the same in every language (`%.14g`).
    """
    if isinstance(number, int):
        return number
    if not number.is_integer():
        number = float(f"{number:.14g}")
    return int(number) if number.is_integer() else number
