"""The rules that no fault may break. Pure: client logs in, violations out.

rule            broken by
--------------  ----------------------------------------------------------------------
malformed       a frame that does not follow the protocol
silent gap      a frame that does not continue from the client's position; in mode
                `every` also one that covers several events without a `gap` before it
duplicate       an event that the client already has
reordering      an event below one that it already has, by (epoch, seq)
needless        a snapshot for a client that could have been continued
  snapshot
backwards       within an epoch: an attempt or its `done` falls, or a final state is
                followed by anything but a new attempt
end taken back  after a final state: the job becomes unknown, or is not at its end, in
                any epoch, unless it is a newer attempt
disagreement    two states at one position, in any of the logs
foreign time    a time in a state that lies outside the scenario
disturbed       a connection that ended although its node had no fault
missing end     a client whose last state of a job is not the job's end
late end        a client that received the end after the deadline
left stale      a client that was last told that its feed is stale
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import define, frozen

from .client_logs import ClientLog, Disconnected, Json, Position, Received, matches

__all__ = [
    "Violation",
    "disagreements",
    "left_stale",
    "missing_ends",
    "summary",
    "times_out_of_range",
    "unexpected_disconnects",
    "violations",
]

FINAL = ("succeeded", "failed", "cancelled")
TIMES = ("created_at", "started_at", "updated_at", "finished_at")
UNSEEN: Position = (0, 0)
MESSAGE_TYPES = frozenset(
    ("welcome", "subscriptions", "progress", "gap", "feed", "ping", "pong", "goaway")
)  # fmt: skip


@frozen
class Violation:
    """One violation of a rule."""

    client: str
    at: float
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:8.3f} {self.client} {self.rule}: {self.what}"


def summary(broken: Iterable[Violation]) -> list[str]:
    """Returns the violations in order of time; one that several clients saw is listed once."""
    groups: dict[tuple[str, str], list[Violation]] = {}
    for violation in sorted(broken, key=lambda violation: violation.at):
        groups.setdefault((violation.rule, violation.what), []).append(violation)
    return [
        str(first) + (f" (and {len(others)} more)" if others else "")
        for first, *others in groups.values()
    ]


def violations(client_log: ClientLog) -> Iterator[Violation]:
    """Yields the violations in one client's log, frame by frame."""
    by_job: dict[str, _JobRules] = {}
    for observation in client_log.observations:
        if not isinstance(observation, Received):
            continue
        message = observation.message
        if message["type"] not in MESSAGE_TYPES:
            yield Violation(client_log.client, observation.at, "malformed", str(message))
        elif message["type"] in ("progress", "gap"):
            job_rules = by_job.setdefault(message["job"], _JobRules(client_log.mode))
            take = job_rules.progress if message["type"] == "progress" else job_rules.gap
            for rule, what in take(message):
                yield Violation(
                    client_log.client, observation.at, rule, f"{message['job']}: {what}"
                )


Broken = Iterator[tuple[str, str]]
"""The name of a rule, and a description of the violation."""


@define
class _JobRules:
    """One job, as one client received it."""

    mode: str
    held: Position | None = None
    """The client's position; None before it has received anything."""
    highest: Position = UNSEEN
    state: Json | None = None
    """The last state that was not null."""
    at: Position = UNSEEN
    """That state's position."""
    announced_gap: tuple[int, int, int] | None = None
    """(epoch, from, to) of a gap; a snapshot must follow it."""

    def gap(self, message: Json) -> Broken:
        if self.mode != "every":
            yield "malformed", f"a gap in mode latest: {message}"
        if self.announced_gap is not None:
            yield "malformed", f"a gap after a gap: {message}"
        self.announced_gap = message["epoch"], message["from"], message["to"]

    def progress(self, message: Json) -> Broken:
        state, prev, seq = message["state"], message["prev"], message["seq"]
        snapshot = message.get("snapshot") is True
        unseen = message["epoch"] is None
        if (prev is None) != snapshot or (state is None) != unseen or (unseen and seq != 0):
            yield "malformed", str(message)
        position = (message["epoch"] or 0, seq)
        if state is None:
            yield from self._forgotten()
        else:
            yield from self._follows(position, None if snapshot else prev)
            yield from self._goes_on(position, state)
            self.state, self.at = state, position
        self.held, self.announced_gap = position, None
        self.highest = max(self.highest, position)

    def _forgotten(self) -> Broken:
        if self.held == UNSEEN:
            yield "duplicate", "another message that the job is unknown"
        if self.state is not None and self.state["status"] in FINAL:
            yield "end taken back", f"unknown, after {_describe(self.at, self.state)}"

    def _follows(self, position: Position, prev: int | None) -> Broken:
        """Checks that the frame continues from the client's position. `prev` is None for a
        snapshot."""
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
            first_seq = held_seq + 1 if same else 1
            announced = self.announced_gap
            if seq > first_seq and announced != (epoch, first_seq, seq - 1):
                yield (
                    "silent gap",
                    f"{first_seq}…{seq - 1} of {epoch}, and announced: {announced}",
                )
            elif same and announced is None:
                yield "needless snapshot", f"at {position} for a client at {self.held}"
        elif same:
            yield "needless snapshot", f"at {position} for a client at {self.held}"

    def _goes_on(self, position: Position, state: Json) -> Broken:
        """Checks that the state may follow the previous one."""
        before = self.state
        if before is None or before["attempt"] < state["attempt"]:
            return
        step = f"{_describe(position, state)} after {_describe(self.at, before)}"
        was_final = before["status"] in FINAL
        if was_final and (state["status"], state["attempt"]) != (
            before["status"],
            before["attempt"],
        ):
            yield "end taken back", step
        if position[0] == self.at[0] and (
            state["attempt"] < before["attempt"]
            or state.get("done", 0) < before.get("done", 0)
            or was_final
        ):
            yield "backwards", step


def _describe(position: Position, state: Json) -> str:
    shown = {name: state[name] for name in ("status", "attempt", "health", "done") if name in state}
    return f"{position} {shown}"


def disagreements(client_logs: Iterable[ClientLog]) -> Iterator[Violation]:
    """Yields two states at one position."""
    known: dict[tuple[str, int, int], tuple[str, Json]] = {}
    for client_log in client_logs:
        for observation in client_log.received("progress"):
            message = observation.message
            if message["state"] is None:
                continue
            key = message["job"], message["epoch"], message["seq"]
            other, state = known.setdefault(key, (client_log.client, message["state"]))
            if state != message["state"]:
                what = f"{key} is {message['state']}, and for {other} {state}"
                yield Violation(client_log.client, observation.at, "disagreement", what)


def times_out_of_range(client_log: ClientLog, *, first: float, last: float) -> Iterator[Violation]:
    """Yields a violation for each time (Unix seconds) that is not between `first` and `last`."""
    for observation in client_log.received("progress"):
        state = observation.message["state"] or {}
        for name in TIMES:
            if not first <= state.get(name, first) <= last:
                offset = f"{state[name] - first:+.3f} s off its start"
                what = f"{observation.message['job']}: {name} is {offset}"
                yield Violation(client_log.client, observation.at, "time out of range", what)


def unexpected_disconnects(
    client_log: ClientLog, *, faulted: Collection[str]
) -> Iterator[Violation]:
    """Yields a violation for each connection that ended, except those to the nodes `faulted`."""
    for observation in client_log.observations:
        if isinstance(observation, Disconnected) and observation.node not in faulted:
            yield Violation(
                client_log.client,
                observation.at,
                "unexpected disconnect",
                f"{observation.node}: {observation.why}",
            )


def missing_ends(
    client_log: ClientLog, ends: Mapping[str, Json], *, deadline: float
) -> Iterator[Violation]:
    """Yields a violation for each job whose end (fields of a state) is not the client's last state,
    or came late."""
    for job, end in ends.items():
        states = client_log.states(job)
        if not states or not matches(states[-1][1], end):
            last_state = states[-1] if states else (0.0, None)
            what = f"{job}: the last state received is {last_state[1]}, and not {end}"
            yield Violation(client_log.client, last_state[0], "missing end", what)
            continue
        came_at = next(at for at, state in states if matches(state, end))
        if came_at > deadline:
            what = f"{job}: {came_at - deadline:.1f} s after the deadline"
            yield Violation(client_log.client, came_at, "late end", what)


def left_stale(client_log: ClientLog) -> Iterator[Violation]:
    """Yields a violation if the last message about the feed said that it is stale."""
    messages = [
        s
        for s in client_log.observations
        if isinstance(s, Received) and s.message["type"] in ("welcome", "feed")
    ]
    if messages and messages[-1].message.get("stale"):
        yield Violation(client_log.client, messages[-1].at, "left stale", str(messages[-1].message))
