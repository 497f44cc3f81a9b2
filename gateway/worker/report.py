"""A report: the sender's state of one job, from its first update until nothing more is sent for it.
It decides when the job's next update is due (`due_at`).

No thread, no I/O; the time is an argument (`time.monotonic`). The process's lock guards it. The job
and its sender write only the attributes that say so; all others change by the methods. Its life:

    new ──mark_changed──▶ queued ──take_updates──▶ in flight ──on_result──▶ renewing
                            ▲                          │  unreachable, or     │ mark_changed
                            │                          │  changed meanwhile   │
                            └──────────────────────────┴──────────────────────┘
    any ──▶ closed: nothing more is sent, for the reason in `closing`

    outcome of an update            the job is running           the job has ended
    ------------------------------  ---------------------------  -----------------------------
    applied, unchanged              next is a renewal            DELIVERED
    stale_attempt, other_run        SUPERSEDED                   SUPERSEDED
    final                           ENDED_ELSEWHERE              DELIVERED if an earlier
                                                                 update may have arrived
    rejected, names a field         again, without the field     again, without the field
    rejected                        next is a renewal            DROPPED
    unreachable                     again after a pause          again, until its deadline

A job request is a client's request to the worker of a job, such as `cancel`. Other requests are
those with which the sender sends updates. A job that accepts job requests is renewed several times
as often as its lease needs. Most of these updates are renewals only: they contain nothing but the
id of the attempt, so that a thousand fit into one request of the sender. The next update has the
full snapshot again if the result shows that the gateway has lost an update.

A released report sends its last state, and is closed by the result of that.

After its deadline a final state that has an attempt number is kept while the process is running:
the gateway rejects it if there is a newer attempt, and a late final state is better than `lost`.
Without a number it is dropped, because it would open a new attempt, perhaps after a successor's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum, auto
from math import inf
from typing import Any

from ..model.constants import LOST_AFTER, MAX_PARTS, MAX_TEXT, MIN_LEASE
from .checks import Keep
from .child_counts import ChildCounts
from .final_state import FinalState
from .limits import EXIT_TIMEOUT, RENEWALS_PER_LEASE, REQUEST_POLL_INTERVAL, UPDATE_INTERVAL
from .phases import PhaseRecord
from .publisher import PublishResult, Rejected
from .requests import JobRequest, parse_request
from .snapshot import JobSnapshot

__all__ = ["Closing", "Report"]

_ESSENTIAL = frozenset(("status", "attempt", "start", "run", "part"))


class Closing(Enum):
    """Why nothing more is sent for a job."""

    DELIVERED = auto()
    """The gateway has the final state."""
    SUPERSEDED = auto()
    """There is a newer attempt."""
    ENDED_ELSEWHERE = auto()
    """Another process has ended this attempt."""
    DROPPED = auto()
    """The job was released or deleted, or the gateway rejects its state or did not respond in
    time."""


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
        self.began_at: float | None = None
        """When the first change of the attempt was reported."""
        self.queued = False
        """Whether the snapshot has changes that were not sent. Always True if the report is closed,
        so that no change wakes the sender."""
        self.wakes_sender = True
        """Whether a change must wake the sender. It need not if the report is queued or closed."""
        self.due_at = inf
        """When the next update is due. An entry of `SendOrder` with another time is void."""
        self.sent_at = -inf
        self.deadline: float | None = None
        """Until when the sender tries to send the final state, or the last state of a released
        job."""
        self.deadline_passed = False
        """Whether the deadline of the final state has passed."""
        self.final_state_may_have_arrived = False
        """Whether an update with the final state got no response, so that it may have arrived."""
        self.released = False
        """Whether this process no longer reports the job, because another one will end it."""
        self.closing: Closing | None = None
        """Why nothing more is sent; None while the report is open."""
        self.abandoned = False
        """Whether the `Job` object was deleted, so that it can no longer be changed or ended."""
        self.run_is_private = run is None
        """Whether only this process knows the run, so that no other one can end the attempt."""
        self.in_block = False
        """Whether the job was begun by a block, whose end will end it."""
        self.changed_at = -inf
        """When the last change was reported."""
        self.marked_unended = False
        """Whether an update says that the job will probably never be ended
        (`take_unended_updates`). Then its lease is not renewed until the next change."""
        self.only_renewals = False
        """Whether the last snapshot was rejected as a whole. Then the next updates are renewals."""
        self.request: JobRequest | None = None
        """The last job request to this attempt."""
        self.refusal: str | None = None
        """Why the worker has refused the last job request; None if it has not."""
        self.listener: Callable[[], Callable[[JobRequest], object] | None] = lambda: None
        """A weak reference to the function to call with each job request, in the sender's
        thread."""
        self.has_new_request = False
        """Whether the listener must still be called with the last job request."""
        self.must_interrupt = False
        """Whether loops must raise `Cancelled`, because there is a `cancel` request."""
        self._acknowledged: tuple[str, str | None] | None = None
        """The id and the refusal of the job request that the gateway knows to be acknowledged."""
        self._full_snapshot_at = -inf
        """When the last full snapshot was sent that the gateway has received."""
        self._position: tuple[int | None, int] = None, 0
        """The job's position (epoch, seq) in the last result."""
        self._refused_fields: dict[str, Any] = {}
        """Fields that the gateway has rejected, with their values. They are not sent again."""
        self._released_state: dict[str, Any] | None = None
        """The fields of a released job. Later changes do not affect them."""
        self._logged_kinds: set[str] = set()
        """The kinds of log lines that are not logged again."""
        self._phase_at_fork: tuple[PhaseRecord, str | None] | None = None
        """The phase that was current at the last fork, and its name at that time."""
        self._shared_count: tuple[ChildCounts, int] | None = None
        """In a forked child: the memory and the cell of its count."""

    @property
    def closed(self) -> bool:
        """Whether nothing more is sent."""
        return self.closing is not None

    @property
    def delivered(self) -> bool:
        """Whether the gateway has the final state."""
        return self.closing is Closing.DELIVERED

    @property
    def superseded(self) -> bool:
        """Whether there is a newer attempt."""
        return self.closing is Closing.SUPERSEDED

    @property
    def has_final_state(self) -> bool:
        """Whether the snapshot has a final state that this process must report."""
        return self.snapshot.final_state is not None and not self.released

    @property
    def renewal_interval(self) -> float:
        """The number of seconds between two updates if nothing has changed."""
        interval = self.snapshot.lease / RENEWALS_PER_LEASE
        return min(interval, REQUEST_POLL_INTERVAL) if self.snapshot.accepts else interval

    @property
    def cancel_requested(self) -> bool:
        """Whether there is a `cancel` request that the worker has not refused."""
        request = self.request
        return request is not None and request.verb == "cancel" and self.refusal is None

    # Called in the user's threads.

    def mark_changed(self, now: float) -> bool:
        """Queues the snapshot, because it has changed. Returns whether it needs a new entry in
        `SendOrder`."""
        if self.began_at is None:
            self.began_at = now
        self.changed_at, self.marked_unended = now, False
        self.store_shared_count()
        if self.closed or self.released or (self.queued and not self.has_final_state):
            return False
        if self.has_final_state:
            self.due_at = now
        else:
            pause = self.renewal_interval if self.only_renewals else UPDATE_INTERVAL
            self.due_at = max(now, self.sent_at + pause)
        self._set_queued(queued=True)
        return True

    def store_shared_count(self) -> bool:
        """In a forked child: stores its count in memory, which its parent reads if this process is
        killed. Returns whether the report is queued already, so that nothing else is necessary."""
        if self._shared_count is None:
            return False
        counts, cell = self._shared_count
        counts.store(cell, self.snapshot.own_count())
        return self.queued and not self.has_final_state

    def set_final_state(self, final_state: FinalState, *, now: float) -> None:
        """Sets the final state. Ignored if there is one already."""
        if self.snapshot.final_state is None:
            self.snapshot.final_state = final_state
            # Also if no caller waits for it (timeout=0), try to send it a few times.
            self.deadline = now + max(self.timeout, EXIT_TIMEOUT)

    def release(self, now: float) -> None:
        """Makes the current state the last one that is sent."""
        if self.closed or self.has_final_state:
            return
        self.released, self._shared_count = True, None
        self._released_state = self.snapshot.fields()
        self.deadline = now + EXIT_TIMEOUT
        in_flight = (
            self.due_at == inf and self.sent_at > -inf and not (self.queued or self.marked_unended)
        )
        if self.queued:
            self.due_at = now
        elif not in_flight:
            self.close()

    def abandon(self) -> None:
        """Marks the job as deleted. Only sets a flag, because a finalizer may run at any moment,
        even while this thread holds a lock."""
        self.abandoned = True

    # Called by the sender.

    def take_updates(self, now: float, *, full_snapshot: bool = False) -> list[dict[str, Any]]:
        """Returns the updates to send now, in this order, and marks the snapshot as sent. The
        outcome of the last one must be passed to `on_result`, `on_unreachable` or `on_rejected`.
        Changes after this call are queued again.

        With `full_snapshot` the last one is not only a renewal."""
        renewal_only = not full_snapshot and self._renewal_suffices(now)
        self._set_queued(queued=False)
        self.due_at = inf
        self.sent_at = now
        identity: dict[str, Any] = {"run": self.run}
        identity |= {"start": True} if self.attempt is None else {"attempt": self.attempt}
        if (
            self.began_at is not None
            and now - self.began_at >= 1
            and "age" not in self._refused_fields
        ):
            identity["age"] = round(now - self.began_at, 1)
        if renewal_only:
            return [identity]
        # Send all fields also if the attempt is known: the gateway may have lost the record.
        fields = (
            self.snapshot.fields() if self._released_state is None else dict(self._released_state)
        )
        for name, value in self._refused_fields.items():
            if fields.get(name) == value:
                del fields[name]
        if self._unacknowledged is not None:
            fields["ack"], refusal = self._unacknowledged
            fields |= {"refused": refusal} if refusal is not None else {}
        counts = self._counts_of_children()
        parts = [{"part": part, "done": count} | identity for part, count in counts.items()]
        return [*parts, fields | identity]

    def reason_never_ended(self, now: float) -> str | None:
        """Returns why the job will probably never be ended; None if it may be."""
        if (
            self._is_group
            or not self.run_is_private
            or self.queued
            or self.has_final_state
            or self.released
        ):
            return None
        if self.abandoned:
            return "its Job object was deleted, and the job was not ended"
        is_silent = now - self.changed_at >= LOST_AFTER * self.snapshot.lease
        if is_silent and self.snapshot.highest_percent == 100 and not self.in_block:
            return "it is at 100 %, and was not ended"
        return None

    @property
    def _is_group(self) -> bool:
        """Whether the job ends with its children."""
        return not isinstance(self.snapshot.children, Keep)

    def take_unended_updates(self, reason: str, now: float) -> list[dict[str, Any]]:
        """Like `take_updates`, with a message that the job will probably never be ended, and with
        the shortest lease, so that the gateway soon shows it as stalled."""
        *earlier, last = self.take_updates(now, full_snapshot=True)
        text = last.get("message")
        last |= {"message": f"{text} ({reason})"[: MAX_TEXT["message"]] if text else reason}
        last |= {"lease": MIN_LEASE}
        self.snapshot.mark_sent("message")
        self.marked_unended = True
        return [*earlier, last]

    def on_result(self, update: dict[str, Any], result: PublishResult) -> str | None:
        """Handles the result of an update. Returns a line to log, if any."""
        if self.closed:  # by a newer Job of this process
            return None
        renewal_only = "status" not in update
        has_final_state = not renewal_only and update["status"] != "running"
        self.only_renewals = False
        if result.reason in ("stale_attempt", "other_run"):
            self.close(Closing.SUPERSEDED)
            if self.released:  # for the newer attempt
                return None
            return f"superseded by attempt {result.attempt}; its updates are ignored from now on"
        if self.attempt is None:
            self.attempt = result.attempt
        if result.reason == "final":
            if has_final_state and self.final_state_may_have_arrived:
                self.close(Closing.DELIVERED)
            elif self.released:
                self.close()
            else:
                self.close(Closing.ENDED_ELSEWHERE)
                others = "its children" if self._is_group else "another process"
                return f"the job was ended by {others}; updates of this process are ignored"
            return None
        if has_final_state:
            self.close(Closing.DELIVERED)
        elif self.released and not self.queued:
            self.close()
        else:
            self._receive_request(update, parse_request(result.request))
            self._check_for_lost_updates(result, renewal_only=renewal_only)
            if self.marked_unended and not self.queued:
                if self.abandoned:
                    self.close()
                return self._log_once("unended", f"not ended: {update['message']}")
            if not self.queued:
                self.due_at = self._next_renewal_at()
        if result.reason == "too_many_parts":
            text = f"the job has {MAX_PARTS:,} parts already; the count of this process is ignored"
            return self._log_once("parts", text)
        return None

    def on_unreachable(
        self, update: dict[str, Any], reason: str, *, now: float, retry_at: float
    ) -> str | None:
        """Handles a missing response. Returns a line to log, if any."""
        if self.closed:
            return None
        if update.get("status", "running") != "running":
            self.final_state_may_have_arrived = True
        self._set_queued(queued=True)
        self.due_at, self.marked_unended = retry_at, False
        return self.expire(reason, now=now)

    def on_rejected(self, update: dict[str, Any], error: Rejected, *, now: float) -> str | None:
        """Handles the rejection of an update. Returns a line to log, if any."""
        if self.closed:
            return None
        if "status" not in update:  # the gateway does not know the job any more
            self._send_full_snapshot()
            return None
        problem, field = str(error), error.field
        if field in update and field not in _ESSENTIAL:
            self._refused_fields[field] = update[field]
            text = f"the gateway rejects its {field}, which is no longer sent: {problem}"
            self.due_at = now
            self._set_queued(queued=True)
        else:
            self.only_renewals, self._full_snapshot_at = True, -inf
            has_final_state = update["status"] != "running"
            rejected_part = f"final state ({update['status']})" if has_final_state else "updates"
            text = f"the gateway rejects its {rejected_part}: {problem}"
            if has_final_state or self.released:
                self.close()
                return text
            if not self.queued:
                self.due_at = self.sent_at + self.renewal_interval
        # Log each kind of problem once. The kind excludes values in the text that may change.
        return self._log_once(field or problem, text)

    def expire(self, reason: str, *, now: float) -> str | None:
        """Marks the final state as late if its deadline has passed. Returns a line to log, if
        any."""
        if self.deadline is None or now < self.deadline or self.deadline_passed or self.closed:
            return None
        if self.released:
            self.close()
            return f"its last state could not be delivered in time ({reason})"
        self.deadline_passed = True
        text = f"its final state could not be delivered in time ({reason})"
        if self.attempt is None:
            self.close()
            return text
        return f"{text}; it is sent later if this process is still running then"

    def close(self, closing: Closing = Closing.DROPPED) -> None:
        """Sends nothing more for this job. The first reason is kept."""
        self.closing = self.closing or closing
        self._set_queued(queued=True)  # so that later changes do not wake the sender

    def supersede(self) -> str:
        """Closes it, because this process has begun a newer attempt. Returns a line to log."""
        self.close(Closing.SUPERSEDED)
        return "superseded by a newer Job of this process"

    # A fork.

    def before_fork(self) -> None:
        """Reserves memory for the child's count."""
        if self.has_final_state or self.closed:
            return
        self.run_is_private = False
        phase = self.snapshot.phase
        if self._phase_at_fork != (phase, phase.name) or phase.segment.child_counts is None:
            self._phase_at_fork = phase, phase.name
            phase.segment.child_counts = ChildCounts(self.snapshot.part)
        phase.segment.child_counts.reserve()

    def after_fork(self) -> None:
        """Continues in the child, as a part of the same attempt."""
        counts = self.snapshot.phase.segment.child_counts
        self._shared_count = self._phase_at_fork = None
        if counts is not None and not self.closed:
            part, cell = counts.own_part()
            self._shared_count = None if cell is None else (counts, cell)
            self.snapshot.continue_in_child(part)
        self._set_queued(queued=False)

    def _counts_of_children(self) -> dict[str, int | float]:
        """Returns the counts of the child processes in this phase, by part. They are sent before
        the final state, because some children may have been killed."""
        phase = self.snapshot.phase
        counts = phase.segment.child_counts
        if not self.has_final_state or counts is None or self._phase_at_fork != (phase, phase.name):
            return {}
        return counts.by_part()

    @property
    def _unacknowledged(self) -> tuple[str, str | None] | None:
        """The id and the refusal of the job request that is not acknowledged yet; None if there is
        none."""
        if self.request is None or self._acknowledged == (self.request.id, self.refusal):
            return None
        return self.request.id, self.refusal

    def _receive_request(self, update: dict[str, Any], new_request: JobRequest | None) -> None:
        """Stores the job request in a result, and the acknowledgement that `update` has
        delivered."""
        if self.request is not None and update.get("ack") == self.request.id:
            self._acknowledged = self.request.id, update.get("refused")
        if new_request is not None and (self.request is None or new_request.id != self.request.id):
            self.request, self.refusal = new_request, None
            self.has_new_request = True
        if self._unacknowledged is not None and not self.queued:
            self.due_at = self.sent_at + UPDATE_INTERVAL
            self._set_queued(queued=True)

    def _renewal_suffices(self, now: float) -> bool:
        """Returns whether the next update may be a renewal only: nothing has changed, and the
        renewal after it is early enough for the full snapshot."""
        if self.queued or self.released or self.attempt is None or not self.snapshot.accepts:
            return False
        return (
            now + self.renewal_interval
            < self._full_snapshot_at + self.snapshot.lease / RENEWALS_PER_LEASE
        )

    def _check_for_lost_updates(self, result: PublishResult, *, renewal_only: bool) -> None:
        """Sends the full snapshot if the result of a renewal shows that the gateway has lost an
        update: something has changed, or the epoch differs, or the position is earlier."""
        epoch, seq = self._position
        self._position = result.epoch, result.seq or 0
        if not renewal_only:
            self._full_snapshot_at = self.sent_at
        elif result.reason != "unchanged" or result.epoch != epoch or self._position[1] < seq:
            self._send_full_snapshot()

    def _send_full_snapshot(self) -> None:
        """Sends the full snapshot soon."""
        self._full_snapshot_at = -inf
        if not self.queued:
            self.due_at = self.sent_at + UPDATE_INTERVAL
            self._set_queued(queued=True)

    def _next_renewal_at(self) -> float:
        """Returns when the next renewal is due. Jobs that accept job requests use the same
        times, so that one request of the sender renews all of them."""
        if self.snapshot.accepts and self.renewal_interval == REQUEST_POLL_INTERVAL:
            # Plus a nanosecond, so that a time that was computed here is not returned again.
            return ((self.sent_at + 1e-9) // REQUEST_POLL_INTERVAL + 1) * REQUEST_POLL_INTERVAL
        return self.sent_at + self.renewal_interval

    def _set_queued(self, *, queued: bool) -> None:
        self.queued = queued
        self.wakes_sender = not queued or self._shared_count is not None

    def _log_once(self, kind: str, text: str) -> str | None:
        if kind in self._logged_kinds:
            return None
        self._logged_kinds.add(kind)
        return text
