"""The invariants of every frame and every response, and at rest. docs/proof.md explains them.

contiguity    a frame continues what its client has, or is a snapshot
identity      a position always has the same state, at every node
never back    for one observer: positions, attempts, and `percent` within an attempt never
              fall, and an end stays. An end that any client was shown is also in every
              response to later requests
the end       at rest every client shows what the broker has, including all ends that were
              acknowledged to workers
fresh         a node that is cut off reports that it is stale, and no other node does
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
    """An invariant is violated. The text begins with its name."""


@define(eq=False)
class Observer:
    """A client that watches jobs, over all its connections."""

    name: str
    last: dict[str, tuple[tuple[int, int], dict[str, Any] | None]] = field(factory=dict)

    def forget(self, job: str) -> None:
        self.last.pop(job, None)


@define
class Checks:
    """The checks of one run. They raise `Violated`."""

    _states: dict[tuple[str, int, int], str] = field(factory=dict)
    _ends: dict[str, tuple[float, int, str]] = field(factory=dict)
    """The newest end of each job that any client was shown: when it was first shown, its attempt,
    its status."""
    lost: set[str] = field(factory=set)
    """Jobs for which no guarantee holds any more, because a fault has destroyed their data."""
    fenced: bool = True
    """Whether no server loses writes in this run. Then every attempt has one worker."""
    refused: set[tuple[str, str]] = field(factory=set)
    """The requests that workers have refused, as job and id."""
    request_target: dict[str, str] = field(factory=dict)
    """The job that each request was sent to, by the request's id. If it is a group, the jobs below
    it get it too."""
    request_attempt: dict[str, int | None] = field(factory=dict)
    """The attempt that each request names, by the request's id; None: the attempt
    that is current when the request arrives."""
    frames: int = 0
    attempts: dict[str, int] = field(factory=dict)
    """The newest attempt of each job that any client was shown."""
    _requests: dict[tuple[str, str], int] = field(factory=dict)
    """The attempt of each request that any client was shown, by job and id."""
    _workers: dict[tuple[str, int], str] = field(factory=dict)

    def shown(
        self, observer: Observer, job: str, epoch: int | None, seq: int, state: Any, *, how: str
    ) -> None:
        """Checks a state that an observer is shown."""
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
            known_end = self._ends.get(job)
            if known_end is None or state["attempt"] > known_end[1]:
                self._ends[job] = (trio.current_time(), state["attempt"], state["status"])

    def read(self, job: str, state: Any, *, since: float, how: str) -> None:
        """Checks a response to a request sent at `since`: it must have an end that was shown before
        that."""
        ended_at, attempt, status = self._ends.get(job, (inf, 0, ""))
        if ended_at >= since or job in self.lost:
            return
        if state is None:
            raise Violated(f"never back: {job} is unknown to {how} after its end was shown")
        now = (state["attempt"], state["status"])
        if state["attempt"] < attempt or (state["attempt"] == attempt and now[1] != status):
            raise Violated(f"never back: {job} is {now} by {how} after {attempt, status} was shown")

    def _one_run(self, job: str, state: dict[str, Any]) -> None:
        """Checks that all messages of an attempt come from one worker."""
        worker, signed, _ = state.get("message", "").partition("/")
        if signed:
            known_worker = self._workers.setdefault((job, state["attempt"]), worker)
            if known_worker != worker and job not in self.lost:
                raise Violated(
                    f"never back: {job} #{state['attempt']} is {worker}'s and {known_worker}'s"
                )

    def _one_attempt(self, job: str, state: dict[str, Any]) -> None:
        """Checks that a request belongs to the attempt that it names. A request to a group belongs
        to all attempts of its children."""
        request = state.get("request")
        if request is None or job in self.lost:
            return
        of = self.request_target.get(request["id"], job)
        if not f"{job}/".startswith(f"{of}/"):
            raise Violated(f"requests: {job} is shown what {of} was asked: {request}")
        if of == job and self.request_attempt.get(request["id"]) is not None:
            known_attempt = self._requests.setdefault((job, request["id"]), state["attempt"])
            if known_attempt != state["attempt"]:
                raise Violated(
                    f"never back: {request['id']} is asked of {job} #{state['attempt']}"
                    f" and #{known_attempt}"
                )

    def request_received(self, id_: str, job: str, attempt: int | None, *, who: str) -> None:
        """Checks a request that a worker of the job receives."""
        of = self.request_target[id_]
        if not f"{job}/".startswith(f"{of}/"):
            raise Violated(f"requests: {who} of {job} is told what {of} was asked")
        request_attempt = self.request_attempt[id_] if of == job else None
        if request_attempt is not None and attempt is not None and request_attempt != attempt:
            raise Violated(
                f"never back: {who}, attempt {attempt}, is told of a request"
                f" of attempt {request_attempt}"
            )

    def was_shown(self, job: str, attempt: int, status: str) -> bool:
        """Returns whether any client was shown this end of the attempt, or the end of a later
        attempt."""
        _, shown_attempt, how = self._ends.get(job, (inf, 0, ""))
        return shown_attempt > attempt or (shown_attempt, how) == (attempt, status)

    def _identity(self, job: str, position: tuple[int, int], state: Any, how: str) -> None:
        text = json.dumps(state, sort_keys=True)
        known_text = self._states.setdefault((job, *position), text)
        if known_text != text:
            raise Violated(
                f"identity: {job} at {position} by {how} is {text}, and was {known_text}"
            )

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
            old_request, now_asked = old.get("request"), new.get("request")
            refused = old_request is not None and (job, old_request["id"]) in self.refused
            _request_stays(who, old_request, now_asked, refused=refused)
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
    """Checks a request after it was first shown in an attempt: a cancel is replaced only after it
    was refused, and an acknowledgement or refusal stays."""
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
