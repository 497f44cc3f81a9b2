"""A report: the sender's state of one job, from its first request until its end is settled.

No thread, no I/O; the time is an argument (`time.monotonic`). The process's lock guards it, and no
other module writes its attributes. Its states:

    new ──touch──▶ queued ──take──▶ in flight ──answered──▶ renewing (until touched again)
                     ▲                │ unreachable, or touched meanwhile
                     └────────────────┘
    any ──▶ settled: nothing more is sent

    answer                          running                      ended
    ------------------------------  ---------------------------  -------------------------
    applied, unchanged              next is a renewal            settled, delivered
    stale_attempt, other_run        settled, superseded          settled, superseded
    final                           settled: ended elsewhere     settled, delivered if an
                                                                 earlier try may have arrived
    rejected, names a field         again, without the field     the same
    rejected                        next is a renewal            settled, lost
    unreachable                     again after a pause          the same, until its deadline

A job that accepts requests is renewed several times as often as its lease needs. Most of these
renewals are bare: they only identify the attempt, so that a thousand fit into one request. The next
update is the whole snapshot again if the answer shows that the gateway has lost anything.

A released report sends the last state, and the answer to that settles it.

After its deadline an end that has an attempt number is kept while the process is running: the
gateway rejects it if there is a newer attempt, and a late end is better than `lost`. An end without
a number is dropped, because it would open a new attempt, perhaps after a successor's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import inf
from typing import Any

from ..model.constants import LOST_AFTER, MAX_TEXT, MIN_LEASE
from .checks import Keep
from .limits import EXIT, INTERVAL, LISTEN, RENEWALS
from .outcome import End
from .parts import ChildCounts
from .phases import Stage
from .publisher import PublishResult, Rejected
from .requests import JobRequest, parse_request
from .snapshot import JobSnapshot

__all__ = ["Report"]

_ESSENTIAL = frozenset(("status", "attempt", "start", "run", "part"))


class Report:
    """The sender's state of one job."""

    def __init__(
        self, job: str, snapshot: JobSnapshot, *, timeout: float, run: str | None = None
    ) -> None:
        self.job = job
        self.snapshot = snapshot
        self.timeout = timeout
        self.run = run or os.urandom(16).hex()
        self.attempt: int | None = None
        self.began: float | None = None
        """When the attempt was first touched."""
        self.queued = False
        """Whether the sender will take the snapshot."""
        self.silent = False
        """Whether changes need not wake the sender, because the report is queued or settled."""
        self.due = inf
        """When it is sent next. An entry of the schedule with another time is void."""
        self.sent_at = -inf
        self.deadline: float | None = None
        """Until when the sender tries to deliver its end, or its last state if it is released."""
        self.overdue = False
        """Whether the deadline of its end has passed."""
        self.tried = False
        """Whether a request with its end was sent, which may have arrived."""
        self.released = False
        """Whether this process has stopped reporting, and another one will end the job."""
        self.settled = False
        self.delivered = False
        self.superseded = False
        self.ended_elsewhere = False
        """Whether another process has ended this attempt."""
        self.abandoned = False
        """Whether the `Job` object was deleted, so that it can no longer be reported or ended."""
        self.alone = run is None
        """Whether no other process knows the run, so that only this one can end the attempt."""
        self.in_block = False
        """Whether the end of a block will end the job."""
        self.touched_at = -inf
        self.left = False
        """Whether the gateway has received that the job will not be ended. Then its lease is not
        renewed until it is touched."""
        self.only_renewals = False
        """Whether its last snapshot was rejected as a whole. Then only renewals are sent."""
        self.request: JobRequest | None = None
        """The last request to this attempt."""
        self.refusal: str | None = None
        """Why the worker has refused it."""
        self.listener: Callable[[], Callable[[JobRequest], object] | None] = lambda: None
        """A weak reference to the function to call with each request, in the sender's thread."""
        self.has_new_request = False
        """Whether the listener was not called with the request yet."""
        self.interrupted = False
        """Whether loops must raise `Cancelled`, because there is a `cancel` request."""
        self._acknowledged: tuple[str, str | None] | None = None
        """The request, and the refusal, that the gateway knows to be acknowledged."""
        self._whole_at = -inf
        """When the last whole snapshot was sent that the gateway has received."""
        self._position: tuple[int | None, int] = None, 0
        """The job's position in the last answer."""
        self._refused: dict[str, Any] = {}
        self._last: dict[str, Any] | None = None
        """The last state to send after the release. Later changes do not affect it."""
        self._logged: set[str] = set()
        self._forked_at: tuple[Stage, str | None] | None = None
        self._shared: tuple[ChildCounts, int] | None = None

    @property
    def ended(self) -> bool:
        """Whether the snapshot has an end that this process must report."""
        return self.snapshot.end is not None and not self.released

    @property
    def renewal_interval(self) -> float:
        """Seconds between two requests if nothing has changed."""
        interval = self.snapshot.lease / RENEWALS
        return min(interval, LISTEN) if self.snapshot.accepts else interval

    @property
    def cancel_requested(self) -> bool:
        """Whether there is a `cancel` request that the worker has not refused."""
        request = self.request
        return request is not None and request.verb == "cancel" and self.refusal is None

    # Called in the user's threads.

    def touch(self, now: float) -> bool:
        """Send the snapshot, because it has changed. Returns whether this needs a new entry in the
        schedule."""
        if self.began is None:
            self.began = now
        self.touched_at, self.left = now, False
        self.share()
        if self.settled or self.released or (self.queued and not self.ended):
            return False
        if self.ended:
            self.due = now
        else:
            pause = self.renewal_interval if self.only_renewals else INTERVAL
            self.due = max(now, self.sent_at + pause)
        self._queue(queued=True)
        return True

    def share(self) -> bool:
        """In a forked child: store its count in memory that its parent reads if this process is
        killed. Returns whether the report is queued already, so that nothing else is necessary."""
        if self._shared is None:
            return False
        counts, cell = self._shared
        counts.store(cell, self.snapshot.own_count())
        return self.queued and not self.ended

    def end(self, end: End, *, now: float) -> None:
        """Set the end. Ignored if there is one already."""
        if self.snapshot.end is None:
            self.snapshot.end = end
            # Also if no caller waits for the end (timeout=0), try to send it a few times.
            self.deadline = now + max(self.timeout, EXIT)

    def release(self, now: float) -> None:
        """Stop reporting after the current state."""
        if self.settled or self.ended:
            return
        self.released, self._shared = True, None
        self._last = self.snapshot.fields()
        self.deadline = now + EXIT
        in_flight = self.due == inf and self.sent_at > -inf and not (self.queued or self.left)
        if self.queued:
            self.due = now
        elif not in_flight:
            self.settle()

    def abandon(self) -> None:
        """Mark the job as deleted. Only sets a flag, because a finalizer may run at any moment,
        even while this thread holds a lock."""
        self.abandoned = True

    # Called by the sender.

    def take(self, now: float, *, whole: bool = False) -> list[dict[str, Any]]:
        """The updates to send now, in this order. The outcome of the last one must be passed to
        `answered`, `unreachable` or `rejected`. Changes after this call are queued again.

        With `whole` it is no bare renewal."""
        bare = not whole and self._bare_suffices(now)
        self._queue(queued=False)
        self.due = inf
        self.sent_at = now
        identity: dict[str, Any] = {"run": self.run}
        identity |= {"start": True} if self.attempt is None else {"attempt": self.attempt}
        if self.began is not None and now - self.began >= 1 and "age" not in self._refused:
            identity["age"] = round(now - self.began, 1)
        if bare:
            return [identity]
        # Send all fields also if the attempt is known: the gateway may have lost the record.
        fields = self.snapshot.fields() if self._last is None else dict(self._last)
        for name, value in self._refused.items():
            if fields.get(name) == value:
                del fields[name]
        if self._unacknowledged is not None:
            fields["ack"], refusal = self._unacknowledged
            fields |= {"refused": refusal} if refusal is not None else {}
        counts = self._counts_of_children()
        parts = [{"part": part, "done": count} | identity for part, count in counts.items()]
        return [*parts, fields | identity]

    def unattended(self, now: float) -> str | None:
        """Why the job will probably never be ended; None if it may be."""
        if self._is_group or not self.alone or self.queued or self.ended or self.released:
            return None
        if self.abandoned:
            return "its Job object was deleted, and the job was not ended"
        silent = now - self.touched_at >= LOST_AFTER * self.snapshot.lease
        if silent and self.snapshot.percent == 100 and not self.in_block:
            return "it is at 100 %, and was not ended"
        return None

    @property
    def _is_group(self) -> bool:
        """Whether the job ends with its children."""
        return not isinstance(self.snapshot.children, Keep)

    def leave(self, why: str, now: float) -> list[dict[str, Any]]:
        """The last updates to send. Afterwards the gateway soon shows the job as stalled."""
        *before, last = self.take(now, whole=True)
        text = last.get("message")
        last |= {"message": f"{text} ({why})"[: MAX_TEXT["message"]] if text else why}
        last |= {"lease": MIN_LEASE}
        self.snapshot.sent("message")
        self.left = True
        return [*before, last]

    def answered(self, request: dict[str, Any], result: PublishResult) -> str | None:
        """Handle the answer to an update. Returns a line to log, if any."""
        if self.settled:  # a newer Job of this process has settled it
            return None
        bare = "status" not in request
        ending = not bare and request["status"] != "running"
        self.only_renewals = False
        if result.reason in ("stale_attempt", "other_run"):
            self.superseded = True
            self.settle()
            if self.released:  # it was left for that attempt
                return None
            return f"superseded by attempt {result.attempt}; its updates are ignored from now on"
        if self.attempt is None:
            self.attempt = result.attempt
        if result.reason == "final":
            self.delivered = ending and self.tried
            self.settle()
            if self.delivered or self.released:
                return None
            self.ended_elsewhere = True
            by = "its children have" if self._is_group else "another process has"
            return f"{by} ended it; its updates are ignored"
        if ending:
            self.delivered = True
        done = ending or (self.released and not self.queued)
        if done:
            self.settle()
        else:
            self._receive_request(request, parse_request(result.request))
            self._compare(result, bare=bare)
            if self.left and not self.queued:
                if self.abandoned:
                    self.settle()
                return self._log_once("left", f"not ended: {request['message']}")
            if not self.queued:
                self.due = self._next_renewal()
        if result.reason == "too_many_parts":
            return self._log_once("parts", "too many processes count in it; this one is ignored")
        return None

    def unreachable(
        self, request: dict[str, Any], why: str, *, now: float, retry_at: float
    ) -> str | None:
        """Handle a missing answer. Returns a line to log, if any."""
        if self.settled:
            return None
        self.tried = self.tried or request.get("status", "running") != "running"
        self._queue(queued=True)
        self.due, self.left = retry_at, False
        return self.expire(why, now=now)

    def rejected(self, request: dict[str, Any], error: Rejected, *, now: float) -> str | None:
        """Handle the rejection of an update. Returns a line to log, if any."""
        if self.settled:
            return None
        if "status" not in request:  # the gateway does not know the job any more
            self._send_whole()
            return None
        problem, field = str(error), error.field
        if field in request and field not in _ESSENTIAL:
            self._refused[field] = request[field]
            text = f"the gateway refuses its {field}, which is left out: {problem}"
            self.due = now
            self._queue(queued=True)
        else:
            self.only_renewals, self._whole_at = True, -inf
            ending = request["status"] != "running"
            what = f"end ({request['status']})" if ending else "updates"
            text = f"the gateway rejects its {what}: {problem}"
            if ending or self.released:
                self.settle()
                return text
            if not self.queued:
                self.due = self.sent_at + self.renewal_interval
        # Log each kind of problem once. The kind excludes values in the text that may change.
        return self._log_once(field or problem, text)

    def expire(self, why: str, *, now: float) -> str | None:
        """Stop waiting for the end if its deadline has passed. Returns a line to log, if any."""
        if self.deadline is None or now < self.deadline or self.overdue or self.settled:
            return None
        if self.released:
            self.settle()
            return f"its last state could not be delivered in time ({why})"
        self.overdue = True
        text = f"its end could not be delivered in time ({why})"
        if self.attempt is None:
            self.settle()
            return text
        return f"{text}; it is sent later if this process lives that long"

    def settle(self) -> None:
        """Send nothing more for this job."""
        self.settled = True
        self._queue(queued=True)  # so later changes do not wake the sender

    def supersede(self) -> str:
        """Settle it, because this process has begun a newer attempt. Returns a line to log."""
        self.superseded = True
        self.settle()
        return "superseded by a newer Job of this process"

    # A fork.

    def before_fork(self) -> None:
        """Reserve memory for the child's count."""
        if self.ended or self.settled:
            return
        self.alone = False
        stage = self.snapshot.stage
        if self._forked_at != (stage, stage.name) or stage.segment.child_counts is None:
            self._forked_at = stage, stage.name
            stage.segment.child_counts = ChildCounts(self.snapshot.part)
        stage.segment.child_counts.reserve()

    def after_fork(self) -> None:
        """Continue in the child, as a part of the same attempt."""
        counts = self.snapshot.stage.segment.child_counts
        self._shared = self._forked_at = None
        if counts is not None and not self.settled:
            part, cell = counts.mine()
            self._shared = None if cell is None else (counts, cell)
            self.snapshot.fork(part)
        self._queue(queued=False)

    def _counts_of_children(self) -> dict[str, int | float]:
        """The counts of child processes in this phase. They are sent before the end, because some
        children may have been killed."""
        stage = self.snapshot.stage
        counts = stage.segment.child_counts
        if not self.ended or counts is None or self._forked_at != (stage, stage.name):
            return {}
        return counts.counted()

    @property
    def _unacknowledged(self) -> tuple[str, str | None] | None:
        if self.request is None or self._acknowledged == (self.request.id, self.refusal):
            return None
        return self.request.id, self.refusal

    def _receive_request(self, sent: dict[str, Any], received: JobRequest | None) -> None:
        """Store the request of an answer, and that the gateway has received the fields `sent`."""
        if self.request is not None and sent.get("ack") == self.request.id:
            self._acknowledged = self.request.id, sent.get("refused")
        if received is not None and (self.request is None or received.id != self.request.id):
            self.request, self.refusal = received, None
            self.has_new_request = True
        if self._unacknowledged is not None and not self.queued:
            self.due = self.sent_at + INTERVAL
            self._queue(queued=True)

    def _bare_suffices(self, now: float) -> bool:
        """Whether the next update may be a bare renewal: nothing is to be sent, and the next
        renewal is early enough for the whole snapshot."""
        if self.queued or self.released or self.attempt is None or not self.snapshot.accepts:
            return False
        return now + self.renewal_interval < self._whole_at + self.snapshot.lease / RENEWALS

    def _compare(self, result: PublishResult, *, bare: bool) -> None:
        """Send the whole snapshot if the answer to a bare renewal is not that nothing has changed,
        or has another epoch or an earlier position: the gateway has lost an update."""
        epoch, seq = self._position
        self._position = result.epoch, result.seq or 0
        if not bare:
            self._whole_at = self.sent_at
        elif result.reason != "unchanged" or result.epoch != epoch or self._position[1] < seq:
            self._send_whole()

    def _send_whole(self) -> None:
        """Send the whole snapshot soon."""
        self._whole_at = -inf
        if not self.queued:
            self.due = self.sent_at + INTERVAL
            self._queue(queued=True)

    def _next_renewal(self) -> float:
        """When the next renewal is due. Jobs that accept requests use the same times, so that one
        HTTP request serves all of them."""
        if self.snapshot.accepts and self.renewal_interval == LISTEN:
            # Plus a nanosecond: a time that was computed here is not due at once again.
            return ((self.sent_at + 1e-9) // LISTEN + 1) * LISTEN
        return self.sent_at + self.renewal_interval

    def _queue(self, *, queued: bool) -> None:
        self.queued = queued
        self.silent = queued and self._shared is None

    def _log_once(self, kind: str, text: str) -> str | None:
        if kind in self._logged:
            return None
        self._logged.add(kind)
        return text
