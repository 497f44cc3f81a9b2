"""What must hold: of every frame and every answer, and at rest. See DESIGN, Invariants.

contiguity    a frame continues what its client has, or is a snapshot
identity      a position names one state for ever, whoever is asked
never back    to one observer: positions, attempts, and `percent` within an attempt, only
              grow, and an end stays. To whoever asks afterwards, an end that anybody was
              shown stays
the end       at rest every client shows what the broker has, and what workers were told
              has arrived is there
fresh         who is cut off says so, who is not does not
"""

from __future__ import annotations

import json
from math import inf
from typing import Any

import trio
from attrs import define, field

__all__ = ["FINAL", "Checks", "Observer", "Violated"]

FINAL = frozenset(("succeeded", "failed", "cancelled"))


class Violated(Exception):
    """An invariant does not hold. The text begins with its name."""


@define(eq=False)
class Observer:
    """Somebody who watches jobs, over all connections."""

    name: str
    last: dict[str, tuple[tuple[int, int], dict[str, Any] | None]] = field(factory=dict)

    def forget(self, job: str) -> None:
        self.last.pop(job, None)


@define
class Checks:
    """Of one run. Raises `Violated` where something is wrong."""

    _states: dict[tuple[str, int, int], str] = field(factory=dict)
    _ends: dict[str, tuple[float, int, str]] = field(factory=dict)
    """Of each job, the newest end that anybody was shown: when first, its attempt, status."""
    lost: set[str] = field(factory=set)
    """Jobs of which something was destroyed that the gateway does not promise to keep."""
    fenced: bool = True
    """No server loses writes: then an attempt has one worker, for everybody."""
    refused: set[tuple[str, str]] = field(factory=set)
    """Requests that a worker has refused: the job and the request's id."""
    asked_of: dict[str, str] = field(factory=dict)
    """Which job each request was asked of; if that is a group, those below it hold it too."""
    of_attempt: dict[str, int | None] = field(factory=dict)
    """By the request's id, which attempt it was asked of; None: whichever there is then."""
    frames: int = 0
    attempts: dict[str, int] = field(factory=dict)
    """Of each job, the newest attempt that anybody was shown."""
    _requests: dict[tuple[str, str], int] = field(factory=dict)
    """Of each request that anybody was shown, by job and id, the attempt."""
    _workers: dict[tuple[str, int], str] = field(factory=dict)

    def shown(
        self, observer: Observer, job: str, epoch: int | None, seq: int, state: Any, *, how: str
    ) -> None:
        """An observer is shown a state."""
        self.frames += 1
        position = (epoch or 0, seq)
        self._identity(job, position, state, how)
        if state is not None:
            self.attempts[job] = max(state["attempt"], self.attempts.get(job, 0))
            if self.fenced:
                self._one_run(job, state)
                self._one_attempt(job, state)
        before = observer.last.get(job)
        observer.last[job] = (position, state)
        if before is not None and job not in self.lost:
            who = f"{observer.name}, {job}, {how}"
            self._never_back(who, job, before, (position, state))
        if state is not None and state["status"] in FINAL:
            known = self._ends.get(job)
            if known is None or state["attempt"] > known[1]:
                self._ends[job] = (trio.current_time(), state["attempt"], state["status"])

    def read(self, job: str, state: Any, *, since: float, how: str) -> None:
        """An answer that was asked for at `since` has this state: an end that was shown before
        is still there."""
        ended_at, attempt, status = self._ends.get(job, (inf, 0, ""))
        if ended_at >= since or job in self.lost:
            return
        if state is None:
            raise Violated(f"never back: {job} is unknown to {how} after its end was shown")
        now = (state["attempt"], state["status"])
        if state["attempt"] < attempt or (state["attempt"] == attempt and now[1] != status):
            raise Violated(f"never back: {job} is {now} by {how} after {attempt, status} was shown")

    def _one_run(self, job: str, state: dict[str, Any]) -> None:
        """An attempt is one worker's: each signs its messages."""
        worker, signed, _ = state.get("message", "").partition("/")
        if signed:
            known = self._workers.setdefault((job, state["attempt"]), worker)
            if known != worker and job not in self.lost:
                raise Violated(f"never back: {job} #{state['attempt']} is {worker}'s and {known}'s")

    def _one_attempt(self, job: str, state: dict[str, Any]) -> None:
        """A request that names an attempt is of that one, and is gone with it. What a group is
        asked, all attempts of its children are."""
        asked = state.get("request")
        if asked is None or job in self.lost:
            return
        of = self.asked_of.get(asked["id"], job)
        if not f"{job}/".startswith(f"{of}/"):
            raise Violated(f"requests: {job} is shown what {of} was asked: {asked}")
        if of == job and self.of_attempt.get(asked["id"]) is not None:
            known = self._requests.setdefault((job, asked["id"]), state["attempt"])
            if known != state["attempt"]:
                raise Violated(
                    f"never back: {asked['id']} is asked of {job} #{state['attempt']} and #{known}"
                )

    def heard(self, id_: str, job: str, attempt: int | None, *, who: str) -> None:
        """A worker of the job is told of a request."""
        of = self.asked_of[id_]
        if not f"{job}/".startswith(f"{of}/"):
            raise Violated(f"requests: {who} of {job} is told what {of} was asked")
        wanted = self.of_attempt[id_] if of == job else None
        if wanted is not None and attempt is not None and wanted != attempt:
            raise Violated(
                f"never back: {who}, attempt {attempt}, is told of a request of attempt {wanted}"
            )

    def was_shown(self, job: str, attempt: int, status: str) -> bool:
        """Whether anybody was shown this end of that attempt, or one of a later attempt."""
        _, shown, how = self._ends.get(job, (inf, 0, ""))
        return shown > attempt or (shown, how) == (attempt, status)

    def _identity(self, job: str, position: tuple[int, int], state: Any, how: str) -> None:
        text = json.dumps(state, sort_keys=True)
        known = self._states.setdefault((job, *position), text)
        if known != text:
            raise Violated(f"identity: {job} at {position} by {how} is {text}, and was {known}")

    def _never_back(
        self, who: str, job: str, before: tuple[Any, Any], after: tuple[Any, Any]
    ) -> None:
        (old_position, old), (position, new) = before, after
        if position < old_position:
            raise Violated(f"never back: {who}: position {position} after {old_position}")
        if old is None:
            return
        if new is None:
            raise Violated(f"never back: {who}: unknown after {old}")
        if new["attempt"] < old["attempt"]:
            raise Violated(f"never back: {who}: attempt {new['attempt']} after {old['attempt']}")
        if new["attempt"] > old["attempt"]:
            return
        if self.fenced:
            asked, now_asked = old.get("request"), new.get("request")
            refused = asked is not None and (job, asked["id"]) in self.refused
            _request_stays(who, asked, now_asked, refused=refused)
        if old["status"] in FINAL and new != old:
            raise Violated(f"never back: {who}: {new} after {old}")
        if old.get("phase") == new.get("phase") and (old.get("done") or 0) > (new.get("done") or 0):
            raise Violated(f"never back: {who}: done {new.get('done')} after {old['done']}")
        if (old.get("percent") or 0) > (new.get("percent") or 0):
            raise Violated(
                f"never back: {who}: {new.get('percent')} % after {old['percent']} % "
                f"of attempt {new['attempt']}"
            )


def _request_stays(who: str, old: Any, new: Any, *, refused: bool) -> None:
    """Within an attempt, once a request is shown: nothing replaces a cancel but its refusal,
    and what a worker has said of it stays."""
    if old is None:
        return
    if new is None:
        stays = False
    elif new["id"] == old["id"]:
        stays = all(name in new for name in old)
    else:
        stays = old["verb"] != "cancel" or refused
    if not stays:
        raise Violated(f"never back: {who}: the request {new} after {old}")
