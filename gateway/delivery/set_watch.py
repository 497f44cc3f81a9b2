"""One client's subscription to one set: a cursor, and subscriptions to the jobs in the view.

The client is subscribed to the jobs that it was sent with the set, so it receives their states like
those of any other job. In one turn the writer takes, in this order: the last states of jobs that
have left the view, the set, the states of jobs that have entered it. All of them are computed when
the client can receive them, so a slow client skips sets and gets the newest one.

The client always receives the end of a job that it was sent. A job that leaves the view because it
has ended stays subscribed until the client has its final state. A job that other jobs displace
while it is active is remembered, and subscribed again when it ends.

A job that the node has no room to watch is in the set, and the client is told once that its states
do not come. The set tries it again each time it changes.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from attrs import define, field

from ..model.errors import NodeFull
from ..model.statuses import FINAL, Status
from ..protocol.commands import CommandId
from ..protocol.messages import Message
from .job_set import SetView
from .quota import Owner
from .sets import JobSets
from .topic import Due, Subscription

__all__ = ["MAX_DISPLACED", "SetWatch"]

MAX_DISPLACED = 1_000
"""Displaced jobs whose ends a client still receives: as many as it may watch by name. If there are
more, the ones that were displaced first are dropped."""


class Outbox(Protocol):
    """The connection's outbox, as far as a set uses it."""

    def notify(self, subscription: Due) -> None: ...

    def cancel(self, subscription: Due) -> None: ...


class SubscriptionHolder(Protocol):
    """The connection's subscriptions, with a reference count: a job that is in several sets has
    one subscription."""

    def hold(self, job: str) -> Subscription:
        """Add a reference; the first one subscribes to the job. Raises `NodeFull`."""

    def release(self, job: str) -> None:
        """Remove a reference; removing the last one unsubscribes."""

    def release_after_end(self, job: str) -> None:
        """Remove a reference as soon as the job's final state has been taken."""

    def forget_positions(self, prefix: str) -> None:
        """Continue no job with this prefix from a position of the client's `hello`: it forgets
        those that the set does not show."""

    def deny(self, jobs: dict[str, str]) -> None:
        """Tell the client why it does not receive these jobs, after what is being written."""


@define(eq=False)
class SetWatch:
    """One client's subscription to one set."""

    take_until_none: ClassVar[bool] = True

    prefix: str
    id: CommandId
    statuses: tuple[Status, ...]
    limit: int
    denied: bool
    _sets: JobSets
    _outbox: Outbox
    _holder: SubscriptionHolder
    _owner: Owner
    _view: SetView = field(init=False)
    _cursor: int | None = field(default=None, init=False)
    """The `seq` of the last set that the client was sent."""
    _shown: dict[str, Subscription] = field(factory=dict, init=False)
    """The jobs of that set."""
    _leaving: dict[str, Subscription] = field(factory=dict, init=False)
    """Jobs that have left the view. Their last states are taken before the next set."""
    _arriving: dict[str, Subscription] = field(factory=dict, init=False)
    """Jobs that have entered the view with the last set. Their states are taken after it."""
    _displaced: dict[str, None] = field(factory=dict, init=False)
    """Jobs that have left the view while they were active."""
    _without_room: set[str] = field(factory=set, init=False)
    """The jobs of that set that there was no room for; the client was told so."""
    _set_taken: bool = field(default=False, init=False)
    """Whether the set was taken in this turn of the writer."""
    cancelled: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        if self.denied:
            self._view = self._sets.denied(self.prefix, statuses=self.statuses, limit=self.limit)
            self._outbox.notify(self)
        else:
            self._view = self._sets.watch(
                self.prefix,
                self,
                statuses=self.statuses,
                limit=self.limit,
                owner=self._owner,
            )

    def reopened(self, *, denied: bool, owner: Owner) -> SetWatch:
        """Subscribe to the same set again, from a snapshot on. Raises `NodeFull`."""
        return SetWatch(
            self.prefix,
            self.id,
            self.statuses,
            self.limit,
            denied,
            self._sets,
            self._outbox,
            self._holder,
            owner,
        )

    def close(self) -> None:
        """End the subscription."""
        if self.cancelled:
            return
        self.cancelled = True
        self._outbox.cancel(self)
        self._sets.unwatch(self._view, self)
        for job in self._displaced:
            self._sets.cancel_notify_end(self._view, job, self)
        for job in (*self._shown, *self._leaving):
            self._holder.release(job)

    def changed(self) -> None:
        self._outbox.notify(self)

    def ended(self, job: str) -> None:
        if job in self._displaced:
            del self._displaced[job]
            try:
                self._leaving[job] = self._holder.hold(job)
            except NodeFull as error:
                self._holder.deny({job: error.code})
            else:
                self._outbox.notify(self)

    def take(self) -> Message | None:
        """The next message that is due; None ends the turn.

        A job that stays due (a snapshot follows a gap, or its history must be read first) is not
        taken again here: the hub has notified the outbox of its subscription as well.
        """
        view = self._view
        if self.cancelled or view.jobs.loading:
            return None
        view.refresh()
        changed = not self._set_taken and view.seq != self._cursor
        if changed:
            for job in [job for job in self._shown if job not in view.shown]:
                self._leaving[job] = self._shown.pop(job)
        message = self._take_last_state()
        if message is None and changed:
            return self._take_set()
        while message is None and self._arriving:
            message = self._arriving.pop(next(iter(self._arriving))).take()
        if message is None and self._set_taken:
            self._set_taken = False
            if view.seq != self._cursor:
                self._outbox.notify(self)
        return message

    def _take_set(self) -> Message:
        self._set_taken = True
        first = self._cursor is None
        message = self._view.message(prev=self._cursor, id_=self.id)
        self._cursor = self._view.seq
        denied: dict[str, str] = {}
        for job in self._view.shown:
            if job not in self._shown:
                self._forget_displaced(job)
                try:
                    self._shown[job] = self._arriving[job] = self._holder.hold(job)
                except NodeFull as error:
                    denied[job] = error.code
        new = {job: code for job, code in denied.items() if job not in self._without_room}
        if new:
            self._holder.deny(new)
        self._without_room = set(denied)
        if first:
            self._holder.forget_positions(self.prefix)
        return message

    def _take_last_state(self) -> Message | None:
        """The last state of a job that has left the view, if one is due."""
        message = None
        while message is None and self._leaving:
            job = next(iter(self._leaving))
            subscription = self._leaving.pop(job)
            self._arriving.pop(job, None)
            message = subscription.take()
            if subscription.has_end:
                self._holder.release(job)
            elif self._view.jobs.status(job) in FINAL:
                self._holder.release_after_end(job)
            else:
                self._holder.release(job)
                self._remember_displaced(job)
        return message

    def _remember_displaced(self, job: str) -> None:
        self._displaced[job] = None
        self._sets.notify_end(self._view, job, self)
        if len(self._displaced) > MAX_DISPLACED:
            self._forget_displaced(next(iter(self._displaced)))

    def _forget_displaced(self, job: str) -> None:
        """Do not wait for this end any more: the job is in the view again, or too many wait."""
        if job in self._displaced:
            del self._displaced[job]
            self._sets.cancel_notify_end(self._view, job, self)
