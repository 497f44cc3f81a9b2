"""The sets that one client watches, and its subscriptions to the jobs in them.

A client has at most one subscription to a job. The subscription stays while any of the client's
sets contains the job, or while the client watches the job by name.
"""

from __future__ import annotations

from attrs import define

from ..auth.authenticator import ConnectionAuth
from ..model.errors import InvalidInput, NodeFull
from ..model.ids import is_job_id_prefix
from ..model.limits import Limits
from ..model.state import Position
from ..model.statuses import STATUSES
from ..observability.counters import Counters
from ..protocol.commands import CommandId, UnwatchSet, WatchSet
from ..protocol.messages import denial
from .hub import Hub
from .outbox import Outbox
from .quota import Owner
from .set_watch import SetWatch
from .sets import JobSets
from .topic import Subscription

__all__ = ["SessionSets"]


@define
class _Held:
    subscription: Subscription
    shown: int = 0
    """The number of sets whose view contains the job."""
    ending: int = 0
    """The number of sets that the job has left, and that keep the subscription until its final
    state has been taken."""


class SessionSets:
    """The sets of one session.

    Args:
        named: The session's subscriptions to jobs that the client watches by name. Shared.
        positions: The positions from which the client wants to continue, by job. Shared.
        owner: The client that subscriptions count for.

    There is no reference to the session: a reference cycle would keep both in memory until a
    garbage collection.
    """

    def __init__(
        self,
        sets: JobSets,
        hub: Hub,
        outbox: Outbox,
        *,
        limits: Limits,
        auth: ConnectionAuth,
        counters: Counters,
        named: dict[str, Subscription],
        positions: dict[str, Position],
        owner: Owner,
    ) -> None:
        self._sets = sets
        self._hub = hub
        self._outbox = outbox
        self._limits = limits
        self._auth = auth
        self._counters = counters
        self._named = named
        self._positions = positions
        self.owner = owner
        """The client that new subscriptions count for."""
        self._watches: dict[tuple[str, CommandId], SetWatch] = {}
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def watch(self, command: WatchSet) -> None:
        """Watch a set. This replaces a set with the same id, or, if the command has no id, the set
        without id that has the same prefix.

        Raises `InvalidInput` or `NodeFull`; then nothing has changed.
        """
        prefix = command.prefix
        if not is_job_id_prefix(prefix):
            raise InvalidInput(
                "prefix is not the beginning of a job id", code="invalid_command", field="prefix"
            )
        key = _key(command.id, prefix)
        if key not in self._watches and len(self) >= self._limits.max_sets_per_connection:
            raise InvalidInput(
                f"over {self._limits.max_sets_per_connection} sets", code="too_many_sets"
            )
        watch = SetWatch(
            prefix,
            command.id,
            tuple(STATUSES if command.statuses is None else command.statuses),
            command.limit,
            not self._auth.permissions.watch.covers(prefix),
            self._sets,
            self._outbox,
            self,
            self.owner,
        )
        previous = self._watches.pop(key, None)
        if previous is not None:
            previous.close()
        self._watches[key] = watch

    def unwatch(self, command: UnwatchSet) -> None:
        """Stop watching the sets that have the command's id or prefix.

        Raises `InvalidInput` if the command has neither.
        """
        if command.id is None and command.prefix is None:
            raise InvalidInput("id or prefix is missing", code="invalid_command", field="prefix")
        for key, watch in list(self._watches.items()):
            by_id = command.id is not None and key == _key(command.id, "")
            if by_id or (command.id is None and watch.prefix == command.prefix):
                del self._watches[key]
                watch.close()

    def suspend(self) -> list[SetWatch]:
        """Close the sets that the client's new permissions allow or deny, unlike the old ones.

        Call `resume` with the result after the permissions were applied to the client's jobs.
        """
        changed = [
            watch
            for watch in self._watches.values()
            if watch.denied == self._auth.permissions.watch.covers(watch.prefix)
        ]
        for watch in changed:
            watch.close()
        # What is left of those is subscribed until its final state has been sent.
        for job in [job for job in self._held if job not in self._auth.permissions.watch]:
            self._unsubscribe(job)
        return changed

    def resume(self, suspended: list[SetWatch]) -> list[tuple[SetWatch, NodeFull]]:
        """Watch these sets again, from a snapshot on. Returns those that there is no room for,
        with the reasons: they are no longer watched."""
        full: list[tuple[SetWatch, NodeFull]] = []
        for watch in suspended:
            key = _key(watch.id, watch.prefix)
            try:
                self._watches[key] = watch.reopened(denied=not watch.denied, owner=self.owner)
            except NodeFull as error:
                del self._watches[key]
                full.append((watch, error))
        return full

    def close(self) -> None:
        """Stop watching all sets."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        for job in list(self._held):
            self._unsubscribe(job)

    # Subscriptions to the jobs in the views.

    def subscription(self, job: str) -> Subscription | None:
        """The subscription that the sets use for this job; None if no set contains it."""
        held = self._held.get(job)
        return held.subscription if held else None

    def hold(self, job: str) -> Subscription:
        """See `set_watch.SubscriptionHolder`."""
        held = self._held.get(job)
        if held is None:
            subscription = self._named.get(job)
            if subscription is None:
                subscription = self._hub.subscribe(
                    job, self._outbox, position=self._positions.pop(job, None), owner=self.owner
                )
            held = self._held[job] = _Held(subscription)
        held.shown += 1
        return held.subscription

    def release(self, job: str) -> None:
        held = self._held[job]
        held.shown -= 1
        if not held.shown and not held.ending:
            self._unsubscribe(job)

    def release_after_end(self, job: str) -> None:
        held = self._held[job]
        held.shown -= 1
        held.ending += 1
        held.subscription.finished = self._finished

    def forget_positions(self, prefix: str) -> None:
        for job in [job for job in self._positions if job.startswith(prefix)]:
            del self._positions[job]

    def deny(self, jobs: dict[str, str]) -> None:
        self._counters.protocol_errors.update(jobs.values())
        self._outbox.announce(denial(jobs))

    def _finished(self, subscription: Subscription) -> None:
        held = self._held[subscription.job]
        subscription.finished = None
        held.ending = 0
        if not held.shown:
            self._unsubscribe(subscription.job)

    def _unsubscribe(self, job: str) -> None:
        subscription = self._held.pop(job).subscription
        subscription.finished = None
        if self._named.get(job) is not subscription:
            subscription.cancelled = True
            self._outbox.cancel(subscription)
            self._hub.unsubscribe(subscription)


def _key(id_: CommandId, prefix: str) -> tuple[str, CommandId]:
    return (prefix, None) if id_ is None else ("", id_)
