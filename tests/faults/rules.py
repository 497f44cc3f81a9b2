"""What no client may see, whatever goes wrong. Pure: accounts in, violations out.

rule            it is broken by
--------------  ----------------------------------------------------------------------
malformed       a frame that is not of the protocol
silent gap      a frame that does not continue what the client has; in mode `every`
                also one that covers several events, unless a `gap` has told of them
duplicate       an event that the client has already
reordering      an event below one that it has had, by (epoch, seq)
needless        a snapshot for a client that could have been continued
  snapshot
backwards       within an epoch: an attempt or its `done` falls, or a final state is
                followed by anything but a new attempt
end taken back  after a final state: that the job is unknown, or not at its end, in
                whatever epoch, unless it is a newer attempt
disagreement    two states at one position, whoever saw them
foreign time    a time in a state that is not from during the story
disturbed       a connection that ended, to a node that nothing was done to
missing end     a client that does not stand at the end of a job at last
late end        a client that came to stand there after the deadline
left stale      a client whose last word of its feed is that it is stale
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import define, frozen

from .accounts import Account, Ended, Json, Position, Told, matches

__all__ = [
    "Violation",
    "disagreements",
    "disturbances",
    "foreign_times",
    "left_stale",
    "missing_ends",
    "summary",
    "violations",
]

FINAL = ("succeeded", "failed", "cancelled")
TIMES = ("created_at", "started_at", "updated_at", "finished_at")
UNSEEN: Position = (0, 0)
SAID = frozenset(
    ("welcome", "subscriptions", "progress", "gap", "feed", "ping", "pong", "goaway")
)  # fmt: skip


@frozen
class Violation:
    """One rule, broken once."""

    client: str
    at: float
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:8.3f} {self.client} {self.rule}: {self.what}"


def summary(broken: Iterable[Violation]) -> list[str]:
    """The violations in order of time, each once however many clients saw it."""
    groups: dict[tuple[str, str], list[Violation]] = {}
    for violation in sorted(broken, key=lambda violation: violation.at):
        groups.setdefault((violation.rule, violation.what), []).append(violation)
    return [
        str(first) + (f" (and {len(others)} more)" if others else "")
        for first, *others in groups.values()
    ]


def violations(account: Account) -> Iterator[Violation]:
    """What one client saw that it may not, frame by frame."""
    courses: dict[str, _Course] = {}
    for sight in account.sights:
        if not isinstance(sight, Told):
            continue
        said = sight.said
        if said["type"] not in SAID:
            yield Violation(account.client, sight.at, "malformed", str(said))
        elif said["type"] in ("progress", "gap"):
            course = courses.setdefault(said["job"], _Course(account.mode))
            take = course.progress if said["type"] == "progress" else course.gap
            for rule, what in take(said):
                yield Violation(account.client, sight.at, rule, f"{said['job']}: {what}")


Broken = Iterator[tuple[str, str]]
"""A rule, and what has broken it."""


@define
class _Course:
    """One job, as one client is told of it."""

    mode: str
    held: Position | None = None
    """Where the client stands; None: it has been told nothing."""
    highest: Position = UNSEEN
    state: Json | None = None
    """The last that was not null."""
    at: Position = UNSEEN
    """That state's position."""
    gap_told: tuple[int, int, int] | None = None
    """(epoch, from, to) of a gap that a snapshot has to follow."""

    def gap(self, said: Json) -> Broken:
        if self.mode != "every":
            yield "malformed", f"a gap in mode latest: {said}"
        if self.gap_told is not None:
            yield "malformed", f"a gap after a gap: {said}"
        self.gap_told = said["epoch"], said["from"], said["to"]

    def progress(self, said: Json) -> Broken:
        state, prev, seq = said["state"], said["prev"], said["seq"]
        snapshot = said.get("snapshot") is True
        unseen = said["epoch"] is None
        if (prev is None) != snapshot or (state is None) != unseen or (unseen and seq != 0):
            yield "malformed", str(said)
        position = (said["epoch"] or 0, seq)
        if state is None:
            yield from self._forgotten()
        else:
            yield from self._follows(position, None if snapshot else prev)
            yield from self._goes_on(position, state)
            self.state, self.at = state, position
        self.held, self.gap_told = position, None
        self.highest = max(self.highest, position)

    def _forgotten(self) -> Broken:
        if self.held == UNSEEN:
            yield "duplicate", "told again that the job is unknown"
        if self.state is not None and self.state["status"] in FINAL:
            yield "end taken back", f"unknown, after {_brief(self.at, self.state)}"

    def _follows(self, position: Position, prev: int | None) -> Broken:
        """Whether it continues what the client has. `prev` is None for a snapshot."""
        epoch, seq = position
        held_epoch, held_seq = self.held or UNSEEN
        same = self.held is not None and held_epoch == epoch
        if position == self.held:
            yield "duplicate", f"{position} again"
        elif position <= self.highest:
            yield "reordering", f"{position} after {self.highest}"
        elif prev is not None:
            if not same or prev > held_seq:
                yield "silent gap", f"({epoch}, {prev}]…{seq} for a client at {self.held}"
            elif prev < held_seq or prev >= seq:
                yield "duplicate", f"({epoch}, {prev}]…{seq} for a client at {self.held}"
            elif self.mode == "every" and seq != prev + 1:
                yield "silent gap", f"{prev + 1}…{seq} in one frame"
        elif self.mode == "every" and self.held is not None:
            first = held_seq + 1 if same else 1
            told = self.gap_told
            if seq > first and told != (epoch, first, seq - 1):
                yield "silent gap", f"{first}…{seq - 1} of {epoch}, and the gap told is {told}"
            elif same and told is None:
                yield "needless snapshot", f"at {position} for a client at {self.held}"
        elif same:
            yield "needless snapshot", f"at {position} for a client at {self.held}"

    def _goes_on(self, position: Position, state: Json) -> Broken:
        """Whether the state may follow the one before it."""
        before = self.state
        if before is None or before["attempt"] < state["attempt"]:
            return
        told = f"{_brief(position, state)} after {_brief(self.at, before)}"
        was_final = before["status"] in FINAL
        if was_final and (state["status"], state["attempt"]) != (
            before["status"],
            before["attempt"],
        ):
            yield "end taken back", told
        if position[0] == self.at[0] and (
            state["attempt"] < before["attempt"]
            or state.get("done", 0) < before.get("done", 0)
            or was_final
        ):
            yield "backwards", told


def _brief(position: Position, state: Json) -> str:
    shown = {name: state[name] for name in ("status", "attempt", "health", "done") if name in state}
    return f"{position} {shown}"


def disagreements(accounts: Iterable[Account]) -> Iterator[Violation]:
    """Two states at one position."""
    known: dict[tuple[str, int, int], tuple[str, Json]] = {}
    for account in accounts:
        for sight in account.told("progress"):
            said = sight.said
            if said["state"] is None:
                continue
            key = said["job"], said["epoch"], said["seq"]
            other, state = known.setdefault(key, (account.client, said["state"]))
            if state != said["state"]:
                what = f"{key} is {said['state']}, and for {other} {state}"
                yield Violation(account.client, sight.at, "disagreement", what)


def foreign_times(account: Account, *, first: float, last: float) -> Iterator[Violation]:
    """Times (Unix seconds) that are not from `first` to `last`."""
    for sight in account.told("progress"):
        state = sight.said["state"] or {}
        for name in TIMES:
            if not first <= state.get(name, first) <= last:
                what = f"{sight.said['job']}: {name} is {state[name] - first:+.3f} s off its start"
                yield Violation(account.client, sight.at, "foreign time", what)


def disturbances(account: Account, *, touched: Collection[str]) -> Iterator[Violation]:
    """Connections that ended, but for those to the nodes `touched`."""
    for sight in account.sights:
        if isinstance(sight, Ended) and sight.node not in touched:
            yield Violation(account.client, sight.at, "disturbed", f"{sight.node}: {sight.why}")


def missing_ends(
    account: Account, ends: Mapping[str, Json], *, deadline: float
) -> Iterator[Violation]:
    """Jobs at whose end (fields of a state) the client does not stand, or does so late."""
    for job, end in ends.items():
        states = account.states(job)
        if not states or not matches(states[-1][1], end):
            last = states[-1] if states else (0.0, None)
            what = f"{job}: the last it was told is {last[1]}, and not {end}"
            yield Violation(account.client, last[0], "missing end", what)
            continue
        came_at = next(at for at, state in states if matches(state, end))
        if came_at > deadline:
            what = f"{job}: {came_at - deadline:.1f} s after the deadline"
            yield Violation(account.client, came_at, "late end", what)


def left_stale(account: Account) -> Iterator[Violation]:
    """Whether the client was left with the word that its feed is stale."""
    words = [
        s for s in account.sights if isinstance(s, Told) and s.said["type"] in ("welcome", "feed")
    ]
    if words and words[-1].said.get("stale"):
        yield Violation(account.client, words[-1].at, "left stale", str(words[-1].said))
