"""Checks the request of each job after every command that the broker carries out. Written from
docs/control.md and docs/groups.md alone. These rules hold within an attempt of a job:

    once        the job gets each request at most once, even if it is sent repeatedly
    late        a job that has just reported has the request of a group above it, unless it has
                had that request, got a later one, or has a cancel
    order       a request of a group does not replace a later request to the job itself
    source      a report of the job itself brings no request but that of a group above it
    one end     the job ends once; after that its request does not change

A job never gets a request that was sent to another attempt of its group. After a server has lost
writes none of this is guaranteed, because nodes restore only what they have shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import trio
from attrs import define, field, frozen

from .checks import FINAL

__all__ = ["Held", "HeldRequests"]

LASTING = ("cancel", "pause")
"""The verbs that a group also sends to jobs that begin later."""


@frozen
class Held:
    """The fields of a job's record that matter for requests."""

    attempt: int
    status: str
    accepts: tuple[str, ...]
    reported_at: float
    """When the worker of the job last reported; for a group also when a child of it did."""
    request: Mapping[str, Any] | None

    @property
    def id(self) -> str | None:
        return None if self.request is None else self.request["id"]

    @property
    def checked_at(self) -> float:
        return 0.0 if self.request is None else self.request["at"]

    @property
    def has_cancel(self) -> bool:
        """Whether the request of the job is a cancel that was not refused."""
        request = self.request or {}
        return request.get("verb") == "cancel" and "refused" not in request

    @property
    def passed_on(self) -> bool:
        """Whether the request of the job is also sent to jobs that begin below it later."""
        request = self.request
        if request is None or self.status in FINAL:
            return False
        unwanted = "refused" in request or request.get("alone")
        return request["verb"] in LASTING and not unwanted

    @classmethod
    def of_hash(cls, record: Mapping[bytes, bytes]) -> Held:
        """Makes the record from a hash in Redis."""
        request = record.get(b"request")
        request_fields = None if request is None else json.loads(request)
        if request_fields is not None and b"request_alone" in record:
            request_fields["alone"] = True
        return cls(
            int(record[b"attempt"]),
            record[b"status"].decode(),
            tuple(json.loads(record.get(b"accepts", b"[]"))),
            float(record[b"reported_at"]),
            request_fields,
        )


@define
class HeldRequests:
    """The requests of all jobs in a run. `violation` is the first violation."""

    jobs: Collection[str]
    lost: Collection[str]
    """Jobs for which no guarantee holds any more."""
    fenced: bool
    """Whether no server loses writes in this run."""
    stored: Callable[[], None] = lambda: None
    """Called when a job gets a request."""
    violation: str | None = None
    now: dict[str, Held] = field(factory=dict)
    _came_at: dict[tuple[str, int], dict[str, float]] = field(factory=dict)
    """For each attempt of a job, the times of its requests, by their ids."""
    _had_cancel: set[tuple[str, int]] = field(factory=set)
    _ends: dict[tuple[str, int], tuple[str, str | None]] = field(factory=dict)
    """For each attempt that has ended, its end and its request at that time."""

    def check_command(self, read: Callable[[str], Held | None], *, publishes: bool) -> None:
        """Reads and checks what a command has changed. `publishes`: the job of an update."""
        before, self.now = self.now, {job: row for job in self.jobs if (row := read(job))}
        for job, row in self.now.items():
            was = before.get(job)
            if row == was:
                continue
            violation = self._wrong(job, was, row, publishes=publishes)
            if violation and self.violation is None and self.fenced and not self._is_lost(job):
                self.violation = f"requests: {job} {violation}: {row}, after {was}"

    def had(self, job: str, attempt: int, id_: str) -> bool:
        """Returns whether that attempt has had this request."""
        return id_ in self._came_at.get((job, attempt), {})

    def awaits(self, job: str, attempt: int | None, *, before: float) -> str | None:
        """Returns the request that an attempt had before that time and still has; None if there is
        none."""
        row = self.now.get(job)
        if row is None or row.attempt != attempt or row.id is None:
            return None
        came_at = self._came_at.get((job, row.attempt), {}).get(row.id, before)
        return row.id if came_at < before else None

    def left_out(self, before: Mapping[str, Held], group: str, id_: str, verb: str) -> str | None:
        """Returns the violation after a node has confirmed a request to a group; None if there is
        none. `before` has the records at the time when the request was sent."""
        holder = self.now.get(group)
        if not self.fenced or self._is_lost(group) or holder is None or holder.id != id_:
            return None  # it got a later request
        for job, row in self.now.items():
            attempt = row.attempt
            if verb not in row.accepts or not self._ran_in(group, job, since=before):
                continue
            if not self.had(job, attempt, id_) and (job, attempt) not in self._had_cancel:
                return f"requests: {job} runs, and was not asked what {group} was: {id_}, {row}"
        return None

    def _ran_in(self, group: str, job: str, *, since: Mapping[str, Held]) -> bool:
        """Returns whether a job below a group, and all groups between them, were running all the
        time. A node finds the job through these groups."""
        while job.startswith(f"{group}/"):
            row, was = self.now.get(job), since.get(job)
            if row is None or was is None or row.attempt != was.attempt:
                return False
            if row.status != "running" or was.status != "running":
                return False
            job = job.rpartition("/")[0]
        return job == group and group in since

    # -- the rules -----------------------------------------------------------------

    def _wrong(self, job: str, was: Held | None, row: Held, *, publishes: bool) -> str | None:
        reported = publishes and (was is None or row.reported_at != was.reported_at)
        if was is not None and was.attempt != row.attempt:
            was = None
        violation = self._asked(job, was, row, by_report=reported)
        violation = violation or self._ended(job, row)
        if violation is None and reported:
            violation = self._late(job, row)
        return violation

    def _asked(self, job: str, was: Held | None, row: Held, *, by_report: bool) -> str | None:
        if was is not None and was.status == "queued" and row.id is None:
            self._came_at.pop((job, row.attempt), None)  # a `start` opens the same attempt again
            return None
        if row.id is None:
            return "has lost its request" if was is not None and was.id is not None else None
        if was is not None and was.id == row.id:
            return None
        came = self._came_at.setdefault((job, row.attempt), {})
        again = row.id in came
        came.setdefault(row.id, trio.current_time())
        if row.has_cancel:
            self._had_cancel.add((job, row.attempt))
        self.stored()
        if again:
            return "is asked the same again"
        if by_report:
            above = [
                group_request for group_request in self._above(job) if group_request.id == row.id
            ]
            if not above:
                return "is asked by its own report what no group above it was asked"
            if was is not None and all(
                group_request.checked_at < was.checked_at for group_request in above
            ):
                return "is asked what its group was asked before"
        elif was is not None and was.has_cancel:
            # A client that sends requests cannot have refused the cancel.
            return "is asked something in place of a cancel"
        return None

    def _ended(self, job: str, row: Held) -> str | None:
        if row.status not in FINAL:
            return "goes on after its end" if (job, row.attempt) in self._ends else None
        end = self._ends.setdefault((job, row.attempt), (row.status, row.id))
        return None if end == (row.status, row.id) else f"had another end, {end}"

    def _late(self, job: str, row: Held) -> str | None:
        if row.status != "running":
            return None
        for group in self._above(job):
            group_request = group.request
            if (
                group_request is None
                or not group.passed_on
                or group_request["verb"] not in row.accepts
            ):
                continue
            came = self.had(job, row.attempt, group_request["id"]) or row.has_cancel
            if not came and row.checked_at < group_request["at"]:
                return f"reports, and is not asked what a group above it is: {group_request}"
        return None

    def _above(self, job: str) -> Iterator[Held]:
        """Yields the requests of the groups above a job."""
        while "/" in job:
            job = job.rpartition("/")[0]
            if job in self.now:
                yield self.now[job]

    def _is_lost(self, job: str) -> bool:
        return any(job == lost_job or job.startswith(f"{lost_job}/") for lost_job in self.lost)
