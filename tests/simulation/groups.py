"""The groups of a run, and their checks.

After every command `GroupModel` reads the groups and their children in the broker, and computes the
groups' states itself, by the rules of docs/groups.md. So it can check each state of a group, in the
broker, in every frame and in every response.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec
from attrs import define, field, frozen

from gateway.brokers.memory import MemoryBroker
from gateway.brokers.redis.scripts import PUBLISH, RESTORE

from .checks import FINAL
from .held_requests import Held, HeldRequests

__all__ = [
    "Command",
    "FollowedMemoryBroker",
    "Group",
    "GroupModel",
    "Row",
    "command_of",
    "make_group",
]

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


@frozen
class Group:
    """A group of the run."""

    name: str
    weights: Mapping[str, float]
    """The weight of each child, by its id, including children that are groups."""
    expected: float | None
    """The expected weight with which it is declared."""
    inner: tuple[Group, ...] = ()
    """The children that are groups."""

    @property
    def children(self) -> list[str]:
        return list(self.weights)

    @property
    def all(self) -> Iterator[Group]:
        """The group and the groups in it, the innermost first."""
        for group in self.inner:
            yield from group.all
        yield self

    @property
    def leaves(self) -> list[str]:
        """The jobs in the group that are not groups."""
        groups = {group.name for group in self.all}
        return [job for group in self.all for job in group.children if job not in groups]


def make_group(name: str, kind: str, rng: random.Random) -> Group:
    """Returns a `flat` group, or a `nested` one, which has another group among its children."""

    def weigh() -> float:
        return rng.choice([1, 1, 1, 0.5, 2])

    weights = {f"{name}/{child}": weigh() for child in "abc"[: rng.randint(1, 3)]}
    inner: tuple[Group, ...] = ()
    if kind == "nested":
        inner = (make_group(f"{name}/n", "flat", rng),)
        weights[inner[0].name] = weigh()
    total = sum(weights.values())
    # Usually it ends with its children. Sometimes more, or fewer, are expected than there are.
    expected = rng.choice([total] * 7 + [total + 1, max(0.5, total - 1), None])
    return Group(name, weights, expected, inner)


@frozen
class Row:
    """The fields of a job's record that matter for groups."""

    position: tuple[int, int]
    attempt: int
    status: str
    percent: float | None
    weight: float
    children: str | None
    """The sums of a group, as JSON with sorted names."""

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def figures(self) -> tuple[Any, ...]:
        return self.attempt, self.status, self.percent, self.children

    @classmethod
    def of_state(cls, position: tuple[int, int], state: Mapping[str, Any]) -> Row:
        """Returns the row of a state as clients receive it."""
        children = state.get("children")
        return cls(
            position,
            state["attempt"],
            state["status"],
            state.get("percent"),
            state.get("weight") or 1,
            None if children is None else _sorted(children),
        )

    @classmethod
    def of_hash(cls, record: Mapping[bytes, bytes]) -> Row:
        """Returns the row of a record in Redis."""
        children = record.get(b"children")
        return cls(
            (int(record[b"epoch"]), int(record[b"seq"])),
            int(record[b"attempt"]),
            record[b"status"].decode(),
            float(record[b"percent"]) if b"percent" in record else None,
            float(record.get(b"weight", 1)),
            None if children is None else _sorted(json.loads(children)),
        )


def _sorted(children: Mapping[str, Any]) -> str:
    return json.dumps(dict.fromkeys(("expected", *STATUSES), 0) | dict(children), sort_keys=True)


@frozen
class Command:
    """A command that may have changed the broker's data."""

    job: str | None = None
    """The job of an update; None if the command was not an update."""
    restores: bool = False
    """Whether the command restored states that a node has shown."""
    runs_script: bool = False
    """Whether the command ran a script; nothing else changes a job."""


def command_of(words: list[bytes]) -> Command:
    """Returns what a command of a Redis client may have changed."""
    name = words[0].upper()
    if name == b"FCALL":
        return Command(words[4].decode(), runs_script=True)
    if name not in (b"EVAL", b"EVALSHA"):
        return Command()
    script = words[1].decode()
    if script in PUBLISH:
        return Command(words[3 + int(words[2]) + 1].decode(), runs_script=True)
    return Command(restores=script in RESTORE, runs_script=True)


@define
class GroupModel:
    """The states of the groups of a run in the broker, and their checks."""

    groups: list[Group]
    """The groups, the innermost first."""
    lost: Collection[str]
    """Jobs for which no guarantee holds any more."""
    violation: str | None = None
    """The first violation."""
    _known: dict[str, Row] = field(factory=dict)
    _newest: dict[str, int] = field(factory=dict)
    """The newest attempt of each job so far."""
    _left_out: dict[str, dict[str, int]] = field(factory=dict)
    """For each group, the children that had ended when a `start` opened its attempt, with their
    attempts. Such a child is not counted until it begins another attempt."""
    _unsure: set[str] = field(factory=set)
    """Groups that a `start` has opened before the server lost writes. No state that a node could
    restore says which of their children count."""
    _opened_elsewhere: dict[str, int] = field(factory=dict)
    """The newest attempt of each group that a `start` has opened on an old primary."""
    _attempts_at_loss: dict[str, int] = field(factory=dict)
    """The attempts that the server had when it had lost writes."""
    _shown: dict[tuple[str, int, int], Row] = field(factory=dict)

    @property
    def jobs(self) -> list[str]:
        return [job for group in self.groups for job in (group.name, *group.children)]

    def has_lost_writes(self, read: Callable[[str], Row | None]) -> None:
        """Handles a rollback of the server's data to an earlier time."""
        self._known = {job: row for job in self.jobs if (row := read(job)) is not None}
        self._attempts_at_loss = {job: row.attempt for job, row in self._known.items()}
        self._unsure.update(name for name, children in self._left_out.items() if children)

    def check_command(self, read: Callable[[str], Row | None], command: Command) -> None:
        """Reads and checks what a command has changed."""
        now = {job: row for job in self.jobs if (row := read(job)) is not None}
        before, self._known = self._known, now
        if now == before or self.violation is not None:
            return
        for group in self.groups:
            row = now.get(group.name)
            if row is not None and row.children is not None and group.name not in self.lost:
                violation = self._wrong(group, row, before, now, command)
                if violation is not None:
                    self.violation = (
                        f"groups: {group.name} {violation}: {row}, of {self._kids(group)}"
                    )
                    return
                # After a loss the server may use a position again, until a node has registered.
                # That state is never shown.
                self._shown.setdefault((group.name, *row.position), row)
        for job, row in now.items():
            self._newest[job] = max(row.attempt, self._newest.get(job, 0))

    def note_old_primary(self, read: Callable[[str], Row | None], command: Command) -> None:
        """Handles a command at a primary that another has replaced. A node that still follows it
        restores an attempt that is opened there on the new primary."""
        group = command.job
        row = read(group) if group is not None else None
        if group is None or row is None or row.children is None:
            return
        if row.attempt > self._newest.get(group, 0):
            self._opened_elsewhere[group] = row.attempt
            self._unsure.add(group)

    def shown(self, job: str, epoch: int | None, seq: int, state: Any) -> str | None:
        """Returns the violation in this state of a group, which was at this position; None if there
        is none, or it cannot be decided."""
        known_row = self._shown.get((job, epoch or 0, seq))
        if known_row is None or state is None:
            return None
        row = Row.of_state(known_row.position, state)
        return None if row == known_row else f"groups: {job} is shown as {row}, and was {known_row}"

    def at_rest(self, states: Mapping[str, Any]) -> str | None:
        """Returns the violation in these states of all jobs; None if there is none."""
        rows = {job: Row.of_state((0, 0), state) for job, state in states.items() if state}
        self._known = rows
        for group in self.groups:
            row = rows.get(group.name)
            if row is None or row.children is None or row.final or group.name in self.lost:
                continue
            violation = self._miscounted(group, row) or self._overdue(group, row)
            if violation is not None:
                return f"groups: at rest {group.name} {violation}: {row}, of {self._kids(group)}"
        return None

    # -- the rules -----------------------------------------------------------------

    def _wrong(
        self,
        group: Group,
        row: Row,
        before: Mapping[str, Row],
        now: Mapping[str, Row],
        command: Command,
    ) -> str | None:
        was = before.get(group.name)
        own = command.job == group.name
        if was is not None and row.attempt != was.attempt:
            if own:
                if was.children is not None:
                    ended = {c: before[c].attempt for c in group.children if c in before
                             and before[c].final}  # fmt: skip
                    self._left_out.setdefault(group.name, {}).update(ended)
            elif not self._reopens(group, row, was, before, now, command):
                return f"begins another attempt after {was}, and no child was tried again"
            was = None
        if was is not None and was.final:
            sure = not command.restores and group.name not in self._unsure
            if sure and self._is_tried_again(group, before, now):
                return f"stays at its end, {was}, though a child was tried again"
            changed = row.figures != was.figures and not command.restores
            return f"changes after its end, {was}" if changed else None
        if command.restores and row.final:
            return None  # as it was shown; its children are restored afterwards
        return (
            self._miscounted(group, row)
            or self._overdue(group, row)
            or (None if own or command.restores else self._too_early(group, row))
            or self._wrong_percent(group, row, was, command)
        )

    def _reopens(
        self,
        group: Group,
        row: Row,
        was: Row,
        before: Mapping[str, Row],
        now: Mapping[str, Row],
        command: Command,
    ) -> bool:
        if command.restores:
            # An attempt that a child's repeated retry has opened on this server after the loss
            # continues as the next one (docs/proof.md: one attempt of the group too many).
            return (
                not was.final
                or was.attempt > self._attempts_at_loss.get(group.name, was.attempt)
                or row.attempt <= self._newest[group.name]
                or row.attempt <= self._opened_elsewhere.get(group.name, 0)
                or any(
                    child in now and now[child].attempt > self._newest.get(child, 0)
                    for child in group.children
                )
            )
        again = self._is_tried_again(group, before, now)
        return was.final and again and row.attempt == was.attempt + 1

    def _is_tried_again(
        self, group: Group, before: Mapping[str, Row], now: Mapping[str, Row]
    ) -> bool:
        """Returns whether a counted child has begun another attempt."""
        left_out = {} if group.name in self._unsure else self._left_out.get(group.name, {})
        return any(
            now[child].attempt > before[child].attempt > left_out.get(child, 0)
            for child in group.children
            if child in before and child in now
        )

    def _counted(self, group: Group) -> list[Row]:
        left_out = self._left_out.get(group.name, {})
        kids = self._kids(group)
        return [row for child, row in kids.items() if row.attempt > left_out.get(child, 0)]

    def _kids(self, group: Group) -> dict[str, Row]:
        return {child: self._known[child] for child in group.children if child in self._known}

    def _miscounted(self, group: Group, row: Row) -> str | None:
        if group.name in self._unsure:
            return None
        counts = Counter(child.status for child in self._counted(group))
        expected = json.loads(row.children or "{}")["expected"]
        expected_counts = _sorted({"expected": expected, **counts})
        return (
            None
            if row.children == expected_counts
            else f"does not count its children ({expected_counts})"
        )

    def _is_due(self, group: Group, row: Row) -> bool:
        """Returns whether the group ends because its children have ended."""
        expected = json.loads(row.children or "{}")["expected"]
        children = self._counted(group)
        ended = sum(child.weight for child in children if child.final)
        live = any(not child.final for child in children)
        return expected is not None and ended >= expected and not live

    def _overdue(self, group: Group, row: Row) -> str | None:
        overdue = not row.final and self._is_due(group, row) and group.name not in self._unsure
        return "should have ended" if overdue else None

    def _too_early(self, group: Group, row: Row) -> str | None:
        if not row.final or group.name in self._unsure:
            return None
        if not self._is_due(group, row):
            return "has ended before its children"
        statuses = {child.status for child in self._counted(group)}
        end = next(status for status in ("failed", "cancelled", "succeeded") if status in statuses)
        return None if row.status == end else f"has not {end}"

    def _wrong_percent(
        self, group: Group, row: Row, was: Row | None, command: Command
    ) -> str | None:
        if group.name in self._unsure:
            return None
        expected = json.loads(row.children or "{}")["expected"]
        children = self._counted(group)
        whole = sum(_units(child.weight) for child in children)
        mean = None
        if expected is not None:
            whole = max(whole, _units(expected))
            gained = sum(
                _units(child.weight)
                * (10_000 if child.final else round((child.percent or 0) * 100))
                for child in children
            )
            mean = gained // (whole * 10) / 10
        if row.status == "succeeded":
            mean = 100
        before = None if was is None else was.percent
        expected_percent = before if mean is None else max(mean, before or 0)
        if command.restores:
            return None if mean is None or (row.percent or 0) >= mean else f"is below {mean} %"
        return None if row.percent == expected_percent else f"is not at {expected_percent} %"


def _units(weight: float) -> int:
    """Returns the weight in thousandths."""
    return round(weight * 1000)


class FollowedMemoryBroker(MemoryBroker):
    """A memory broker whose groups and requests are checked after every command."""

    group_model: GroupModel
    held: HeldRequests

    async def publish(self, job: str, update: Any, *, publisher: str = "") -> Any:
        result = await super().publish(job, update, publisher=publisher)
        self.group_model.check_command(self._row, Command(job))
        self.held.check_command(self._held, publishes=True)
        return result

    async def expire_leases(self) -> int:
        expired = await super().expire_leases()
        self.held.check_command(self._held, publishes=False)
        return expired

    def _row(self, job: str) -> Row | None:
        record = self._record(job)
        if record is None:
            return None
        epoch, seq = record.position
        return Row.of_state((epoch, seq), msgspec.to_builtins(record.state))

    def _held(self, job: str) -> Held | None:
        stored = self._jobs.get(job)
        if stored is None:
            return None
        state = stored.record.state
        request = None if state.request is None else msgspec.to_builtins(state.request)
        accepts = tuple(state.accepts or ())
        return Held(state.attempt, state.status, accepts, stored.reported_at, request)
