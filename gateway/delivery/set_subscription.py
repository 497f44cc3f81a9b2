"""One client's subscription to one set: a cursor, and subscriptions to the jobs in the view.

The client is subscribed to the jobs in the last set that it was sent, so it receives their states
like those of any other job. `next_message` returns in one batch, in this order: the last states of
jobs that have left the view, the set, the states of jobs that have entered the view. Each message
is made when it can be written, so a slow client skips sets and gets the newest one.

The client always receives the final state of a job that was in a set that it was sent. A job that
leaves the view because it has ended stays subscribed until the client was sent its final state. A
job that other jobs displace while it is active is remembered, and subscribed again when it ends.

A job over the node's quota stays in the set, and the client is sent once that its states are
denied. The subscription tries it again whenever the set changes.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from attrs import define, field

from ..model.errors import NodeFull
from ..model.statuses import FINAL, Status
from ..protocol.commands import CommandId
from ..protocol.messages import Message
from .job_set import SetView
from .quota import QuotaKey
from .set_registry import SetRegistry
from .topic import AnySubscription, Subscription

__all__ = ["MAX_DISPLACED", "SetSubscription"]

MAX_DISPLACED = 1_000
"""Displaced jobs whose final states a client still receives: as many as it may watch by name. If
there are more, the jobs that were displaced first are dropped."""


class Outbox(Protocol):
    """The connection's outbox, as far as a set uses it."""

    def notify(self, subscription: AnySubscription) -> None: ...

    def cancel(self, subscription: AnySubscription) -> None: ...


class SubscriptionHolder(Protocol):
    """The connection's subscriptions, with a reference count: a job that is in several sets has
    one subscription."""

    def acquire(self, job: str) -> Subscription:
        """Adds a reference; the first one subscribes to the job. Raises `NodeFull`."""

    def release(self, job: str) -> None:
        """Removes a reference; removing the last one unsubscribes."""

    def release_for_client(self, job: str) -> None:
        """Remove a reference, as the client has requested. If others keep the subscription, the
        client is sent a snapshot: it may have ignored messages since it sent the request."""

    def release_after_final_state(self, job: str) -> None:
        """Removes a reference as soon as the client was sent the job's final state."""

    def drop_positions(self, prefix: str) -> None:
        """Drops the positions in the client's `hello` of jobs with this prefix: the client drops
        the jobs that are not in the set."""

    def announce_denial(self, jobs: dict[str, str]) -> None:
        """Sends the client the reasons why it does not receive these jobs, after the current
        write."""


@define(eq=False)
class SetSubscription:
    """One client's subscription to one set."""

    has_several_messages: ClassVar[bool] = True

    prefix: str
    id: CommandId
    statuses: tuple[Status, ...]
    limit: int
    denied: bool
    _sets: SetRegistry
    _outbox: Outbox
    _holder: SubscriptionHolder
    _quota_key: QuotaKey
    _view: SetView = field(init=False)
    _cursor: int | None = field(default=None, init=False)
    """The `seq` of the last set that the client was sent."""
    _sent_jobs: dict[str, Subscription] = field(factory=dict, init=False)
    """The jobs of the last set that the client was sent, which are still in the view."""
    _left_view: dict[str, Subscription] = field(factory=dict, init=False)
    """Jobs that have left the view. Their last states are sent before the next set."""
    _entered_view: dict[str, Subscription] = field(factory=dict, init=False)
    """Jobs that have entered the view with the last set. Their states are sent after it."""
    _displaced: dict[str, None] = field(factory=dict, init=False)
    """Jobs that have left the view while they were active."""
    _denied_jobs: set[str] = field(factory=set, init=False)
    """The jobs of the last set sent that the quota denied; the client was sent the denial."""
    _set_returned: bool = field(default=False, init=False)
    """Whether `next_message` has returned the set since it last returned None."""
    cancelled: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        if self.denied:
            self._view = self._sets.denied_view(
                self.prefix, statuses=self.statuses, limit=self.limit
            )
            self._outbox.notify(self)
        else:
            self._view = self._sets.watch(
                self.prefix,
                self,
                statuses=self.statuses,
                limit=self.limit,
                quota_key=self._quota_key,
            )

    def resubscribed(self, *, denied: bool, quota_key: QuotaKey) -> SetSubscription:
        """Returns a new subscription to the same set, from a snapshot on. Raises `NodeFull`."""
        return SetSubscription(
            self.prefix,
            self.id,
            self.statuses,
            self.limit,
            denied,
            self._sets,
            self._outbox,
            self._holder,
            quota_key,
        )

    def close(self) -> None:
        """Ends the subscription."""
        if self.cancelled:
            return
        self.cancelled = True
        self._outbox.cancel(self)
        self._sets.unwatch(self._view, self)
        for job in self._displaced:
            self._sets.cancel_notify_end(self._view, job, self)
        for job in (*self._sent_jobs, *self._left_view):
            self._holder.release_for_client(job)

    def on_change(self) -> None:
        self._outbox.notify(self)

    def on_job_ended(self, job: str) -> None:
        if job in self._displaced:
            del self._displaced[job]
            try:
                self._left_view[job] = self._holder.acquire(job)
            except NodeFull as error:
                self._holder.announce_denial({job: error.code})
            else:
                self._outbox.notify(self)

    def next_message(self) -> Message | None:
        """Returns the next message; None ends the batch.

        Each job is asked for one message only. If it has more (a snapshot after a gap, or a history
        that must be read first), its own subscription sends them, because the hub has notified the
        outbox of that too.
        """
        view = self._view
        if self.cancelled or view.job_set.loading:
            return None
        view.refresh()
        changed = not self._set_returned and view.seq != self._cursor
        if changed:
            for job in [job for job in self._sent_jobs if job not in view.visible]:
                self._left_view[job] = self._sent_jobs.pop(job)
        message = self._last_state_message()
        if message is None and changed:
            return self._set_message()
        while message is None and self._entered_view:
            message = self._entered_view.pop(next(iter(self._entered_view))).next_message()
        if message is None and self._set_returned:
            self._set_returned = False
            if view.seq != self._cursor:
                self._outbox.notify(self)
        return message

    def _set_message(self) -> Message:
        self._set_returned = True
        first = self._cursor is None
        message = self._view.message(prev=self._cursor, id_=self.id)
        self._cursor = self._view.seq
        denied: dict[str, str] = {}
        for job in self._view.visible:
            if job not in self._sent_jobs:
                self._drop_displaced(job)
                try:
                    self._sent_jobs[job] = self._entered_view[job] = self._holder.acquire(job)
                except NodeFull as error:
                    denied[job] = error.code
        new_denials = {job: code for job, code in denied.items() if job not in self._denied_jobs}
        if new_denials:
            self._holder.announce_denial(new_denials)
        self._denied_jobs = set(denied)
        if first:
            self._holder.drop_positions(self.prefix)
        return message

    def _last_state_message(self) -> Message | None:
        """Returns the last state of a job that has left the view, if the client lacks it."""
        message = None
        while message is None and self._left_view:
            job = next(iter(self._left_view))
            subscription = self._left_view.pop(job)
            self._entered_view.pop(job, None)
            message = subscription.next_message()
            if subscription.has_final_state:
                self._holder.release(job)
            elif self._view.job_set.status(job) in FINAL:
                self._holder.release_after_final_state(job)
            else:
                self._holder.release(job)
                self._remember_displaced(job)
        return message

    def _remember_displaced(self, job: str) -> None:
        self._displaced[job] = None
        self._sets.notify_end(self._view, job, self)
        if len(self._displaced) > MAX_DISPLACED:
            self._drop_displaced(next(iter(self._displaced)))

    def _drop_displaced(self, job: str) -> None:
        """Drops a displaced job: it is in the view again, or too many jobs are displaced."""
        if job in self._displaced:
            del self._displaced[job]
            self._sets.cancel_notify_end(self._view, job, self)
