"""Groups: jobs whose progress comes from their children. The transitions that a child causes.

An update with `children` declares a group. From then on its children decide these fields:

    field           how it changes
    --------------  ------------------------------------------------------------------------
    children        the declared expected weight, and how many children have which status
    percent         the weighted mean of the children's percentages, over the expected weight,
                    or over the reported weight if that is larger; one decimal place, rounded
                    down. It never falls within the group's attempt, and is unknown while the
                    group is open
    status          becomes running when the first child runs or has ended; becomes final when
                    no child is active and the expected weight has ended: `failed` if any child
                    failed, else `cancelled` if any was cancelled, else `succeeded`
    error           "3 of 1000 failed", if the group ends because its children have ended
    health          the health of the healthiest running child, because a group has no lease; ok
                    if no child is running, or the group is not running. If the last running child
                    is dropped, the health stays
    done, total     absent

    a child's contribution                    effect on the group
    ----------------------------------------  ------------------------------------------
    is unchanged                              no effect
    changes neither a count nor the health,   the sums change, without an event
      nor the first decimal place of the percentage
    changes after the group has ended         the sums change, without an event; but a new
                                              attempt of a counted child starts the group's next
                                              attempt, with all other contributions, and with
                                              `accepts`, because no worker reports it again
    changes in any other way                  an event
    ends because the child was dropped        it is subtracted, unless the child had ended

A request to a group is also sent to children that have not received it (`inherited_request`).

A `start` of the group starts an attempt that keeps only the contributions of children that have not
ended. A group counts as a child in the group above it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, evolve, field
from msgspec.structs import replace

from . import constants
from .children import WEIGHT_UNITS, Children, Contribution, Sums, contribution_of, groups_above
from .eta import RateEstimator
from .requests import CANCEL, Request, request_for_child
from .state import Position, Record, RequestUpdate, State
from .statuses import FINAL, Health, Status

__all__ = ["Contributions", "contribute", "fields_from_children", "inherited_request", "with_eta"]


def fields_from_children(
    state: State, sums: Sums, *, expected: float | None, now: float, idle_health: Health = "ok"
) -> dict[str, Any]:
    """Returns the new values of the fields in `state` that the group's children decide.
    `idle_health` is the health if no child is running."""
    new: dict[str, Any] = {
        "children": Children(
            expected, sums.queued, sums.running, sums.succeeded, sums.failed, sums.cancelled
        ),
        "done": None,
        "total": None,
    }
    status = state.status
    ended = sums.succeeded + sums.failed + sums.cancelled
    expected_weight = None if expected is None else round(expected * WEIGHT_UNITS)
    if status == "queued" and sums.running + ended:
        status = "running"
    if (
        status not in FINAL
        and expected_weight is not None
        and sums.ended >= expected_weight
        and not sums.live
    ):
        status = "failed" if sums.failed else "cancelled" if sums.cancelled else "succeeded"
        new["finished_at"] = now
        if sums.failed:
            new["error"] = f"{sums.failed} of {ended} failed"
    new["status"] = status
    if state.status == "queued" and status != "queued":
        new["started_at"] = now
    new["percent"] = _percent(state, sums, status, expected_weight)
    new["health"] = "ok" if status != "running" else sums.health if sums.running else idle_health
    return new


def _percent(state: State, sums: Sums, status: Status, expected_weight: int | None) -> float | None:
    if status == "succeeded":
        return 100
    full_weight = 0 if expected_weight is None else max(expected_weight, sums.weight)
    if not full_weight:
        return state.percent
    tenths = sums.weighted_progress // (full_weight * 10)
    percent = tenths // 10 if tenths % 10 == 0 else tenths / 10
    return max(state.percent or 0, percent)


def with_eta(
    state: State, estimator: RateEstimator | None, *, now: float
) -> tuple[State, RateEstimator | None]:
    """Returns a changed state with its new `eta`, and the new rate estimator."""
    has_rate = state.percent is not None and state.status == "running"
    if state.percent is not None and has_rate:
        estimator = (
            estimator.observe(state.percent, now=now)
            if estimator
            else RateEstimator(now, now, state.percent)
        )
    eta = estimator.eta(now=now) if estimator and has_rate and state.health == "ok" else None
    return replace(state, eta=eta, updated_at=now), estimator


def contribute(
    group: Record, sums: Sums, old: Contribution | None, new: Contribution | None, *, now: float
) -> Record:
    """Returns the record of a declared group with the sums `sums`, after a child's contribution
    changes from `old` to `new`. The record has a new position if this is an event."""
    state, estimator, sums = group.state, group.rate_estimator, sums.with_change(old, new)
    now = max(round(now, 3), state.updated_at)
    base, earlier = state, group.earlier_request_ids
    if state.final:
        if old is None or new is None or old.attempt == new.attempt:
            return evolve(group, sums=sums)
        base, estimator, earlier = _next_attempt(state, now=now), None, ()
    expected = state.children.expected if state.children else None
    idle_health: Health = "ok" if new else state.health
    changed = replace(
        base,
        **fields_from_children(base, sums, expected=expected, now=now, idle_health=idle_health),
    )
    if changed == state:
        return evolve(group, sums=sums)
    if changed.health != "ok" and changed == replace(state, health=changed.health):
        changed = replace(changed, eta=None)  # no worker has reported: `updated_at` stays
    else:
        changed, estimator = with_eta(changed, estimator, now=now)
    position = Position(group.position.epoch, group.position.seq + 1)
    return evolve(
        group,
        position=position,
        state=changed,
        rate_estimator=estimator,
        sums=sums,
        earlier_request_ids=earlier,
    )


def _next_attempt(state: State, *, now: float) -> State:
    return State(
        status="running",
        attempt=state.attempt + 1,
        children=state.children,
        accepts=state.accepts,
        weight=state.weight,
        lease=state.lease,
        created_at=state.created_at,
        started_at=now,
        updated_at=now,
    )


def inherited_request(
    job: str, record: Record, find: Callable[[str], Record | None]
) -> RequestUpdate | None:
    """Returns the request of a group above a running job that the job has not received: a `cancel`
    if any group has one, otherwise the request of the innermost group. None if there is none, or if
    the job has a newer request."""
    state = record.state
    if state.status != "running" or not state.accepts:
        return None
    inherited: Request | None = None
    for group, _ in groups_above(job):
        group_record = find(group)
        if group_record is not None and not group_record.state.final:
            candidate = request_for_child(
                group_record.state.request,
                state.accepts,
                after=state.request,
                started_at=state.started_at,
            )
            if candidate and (
                not inherited or (candidate.verb == CANCEL and inherited.verb != CANCEL)
            ):
                inherited = candidate
    return None if inherited is None else RequestUpdate(request=inherited)


@define
class Contributions:
    """The last contribution of each child of each group. If a group was not declared yet, at most
    `MAX_EARLY_CHILDREN` of its contributions are kept."""

    _by_group: dict[str, dict[str, Contribution]] = field(factory=dict)

    def of(self, group: str) -> dict[str, Contribution]:
        """Returns the contributions of a group's children, by the child's name in the group."""
        return self._by_group.get(group, {})

    def count_job(
        self,
        job: str,
        record: Record,
        find: Callable[[str], Record | None],
        *,
        now: float,
        expired: bool = False,
    ) -> Iterator[tuple[str, Record]]:
        """Counts the contribution of a job that has changed. Yields each group whose record
        changes, from the innermost to the outermost. The record has a new position if there is an
        event.

        `find` returns the record of a job, None if it is unknown. With `expired` the job has not
        reported, so it changes only a contribution that is counted already.
        """
        for group, name in groups_above(job):
            state = record.state
            new = contribution_of(
                state.attempt,
                state.status,
                percent=state.percent,
                weight=state.weight,
                health=state.health,
            )
            group_record = find(group)
            sums = group_record.sums if group_record is not None else None
            children = self._by_group.get(group, {})
            old = children.get(name)
            most = constants.MAX_EARLY_CHILDREN if sums is None else constants.MAX_CHILDREN
            if old == new or (old is None and (expired or len(children) >= most)):
                return
            self._by_group.setdefault(group, children)[name] = new
            if group_record is None or sums is None:
                return
            record = contribute(group_record, sums, old, new, now=now)
            yield group, record
            if record.position == group_record.position:
                return

    def restart(self, group: str) -> None:
        """Keeps only the contributions of children that have not ended, for a new attempt."""
        kept = {name: each for name, each in self.of(group).items() if not each.ended}
        if kept:
            self._by_group[group] = kept
        else:
            self._by_group.pop(group, None)

    def drop_job(
        self, job: str, find: Callable[[str], Record | None], *, now: float
    ) -> Iterator[tuple[str, Record]]:
        """Removes a dropped job. Its contribution stays in its group if the job had ended, and is
        subtracted otherwise. Yields groups like `count_job`."""
        self._by_group.pop(job, None)
        group, name = next(groups_above(job), ("", ""))
        children = self._by_group.get(group, {})
        old = children.get(name)
        if old is None:
            return
        group_record = find(group)
        sums = group_record.sums if group_record is not None else None
        if sums is not None and old.ended:
            children[name] = evolve(old, attempt=0)  # any later report belongs to another attempt
            return
        del children[name]
        if not children:
            del self._by_group[group]
        if group_record is not None and sums is not None:
            record = contribute(group_record, sums, old, None, now=now)
            yield group, record
            if record.position != group_record.position:
                yield from self.count_job(group, record, find, now=now)
