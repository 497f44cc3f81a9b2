"""All sets that one client watches, and the client's subscriptions to the jobs in them.

A client has at most one subscription to a job. The subscription stays while any of the client's
sets contains the job, or while the client watches the job by name.
"""

from __future__ import annotations

from attrs import define

from ..auth.connection_auth import ConnectionAuth
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
from .quota import QuotaKey
from .set_registry import SetRegistry
from .set_subscription import SetSubscription
from .topic import Subscription

__all__ = ["SessionSets"]


@define
class _SharedSubscription:
    """A subscription that several sets may use."""

    subscription: Subscription
    view_count: int = 0
    """The number of sets whose view contains the job."""
    ending_count: int = 0
    """The number of sets whose view no longer contains the job, and that keep the subscription
    until the client was sent the job's final state."""


class SessionSets:
    """The sets of one session.

    Args:
        by_name: The session's subscriptions to jobs that the client watches by name. Shared.
        positions: The positions from which the client wants to continue, by job. Shared.
        owner: The client that subscriptions count for.

    There is no reference to the session: a reference cycle would keep both in memory until a
    garbage collection.
    """

    def __init__(
        self,
        sets: SetRegistry,
        hub: Hub,
        outbox: Outbox,
        *,
        limits: Limits,
        auth: ConnectionAuth,
        counters: Counters,
        by_name: dict[str, Subscription],
        positions: dict[str, Position],
        quota_key: QuotaKey,
    ) -> None:
        self._sets = sets
        self._hub = hub
        self._outbox = outbox
        self._limits = limits
        self._auth = auth
        self._counters = counters
        self._by_name = by_name
        self._positions = positions
        self.quota_key = quota_key
        """The client for which new subscriptions count."""
        self.resumed = False
        """Whether the client had a connection before this one, perhaps to another node. Then its
        jobs are read from the broker before a snapshot of them is sent: see `Hub.subscribe`."""
        self._watches: dict[tuple[str, CommandId], SetSubscription] = {}
        self._shared: dict[str, _SharedSubscription] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def watch(self, command: WatchSet) -> None:
        """Watches a set. This replaces a set with the same id, or, if the command has no id, the
        set without id that has the same prefix.

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
        watch = SetSubscription(
            prefix,
            command.id,
            tuple(STATUSES if command.statuses is None else command.statuses),
            command.limit,
            not self._auth.permissions.watch.covers(prefix),
            self._sets,
            self._outbox,
            self,
            self.quota_key,
        )
        previous = self._watches.pop(key, None)
        if previous is not None:
            previous.close()
        self._watches[key] = watch

    def unwatch(self, command: UnwatchSet) -> None:
        """Stops watching the sets that have the command's id or prefix.

        Raises `InvalidInput` if the command has neither.
        """
        if command.id is None and command.prefix is None:
            raise InvalidInput("id or prefix is missing", code="invalid_command", field="prefix")
        for key, watch in list(self._watches.items()):
            by_id = command.id is not None and key == _key(command.id, "")
            if by_id or (command.id is None and watch.prefix == command.prefix):
                del self._watches[key]
                watch.close()

    def suspend(self) -> list[SetSubscription]:
        """Closes the sets that the client's new permissions allow or deny, unlike the old ones.

        Call `resume` with the result after the permissions were applied to the client's jobs.
        """
        changed = [
            watch
            for watch in self._watches.values()
            if watch.denied == self._auth.permissions.watch.covers(watch.prefix)
        ]
        for watch in changed:
            watch.close()
        # The remaining subscriptions end when the client was sent the job's final state.
        for job in [job for job in self._shared if job not in self._auth.permissions.watch]:
            self._unsubscribe(job)
        return changed

    def resume(self, suspended: list[SetSubscription]) -> list[tuple[SetSubscription, NodeFull]]:
        """Watches these sets again, from a snapshot on. Returns the sets over the quota, which are
        no longer watched, with the reasons."""
        refused: list[tuple[SetSubscription, NodeFull]] = []
        for watch in suspended:
            key = _key(watch.id, watch.prefix)
            try:
                self._watches[key] = watch.resubscribed(
                    denied=not watch.denied, quota_key=self.quota_key
                )
            except NodeFull as error:
                del self._watches[key]
                refused.append((watch, error))
        return refused

    def close(self) -> None:
        """Stops watching all sets."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        for job in list(self._shared):
            self._unsubscribe(job)

    # The subscriptions to the jobs in the views: see `set_subscription.SubscriptionHolder`.

    def subscription(self, job: str) -> Subscription | None:
        """Returns the subscription that the sets use for this job; None if no set contains it."""
        shared = self._shared.get(job)
        return shared.subscription if shared else None

    def acquire(self, job: str) -> Subscription:
        shared = self._shared.get(job)
        if shared is None:
            subscription = self._by_name.get(job)
            if subscription is None:
                subscription = self._hub.subscribe(
                    job,
                    self._outbox,
                    position=self._positions.pop(job, None),
                    resumed=self.resumed,
                    quota_key=self.quota_key,
                )
            shared = self._shared[job] = _SharedSubscription(subscription)
        shared.view_count += 1
        return shared.subscription

    def release(self, job: str) -> None:
        shared = self._shared[job]
        shared.view_count -= 1
        if not shared.view_count and not shared.ending_count:
            self._unsubscribe(job)

    def release_for_client(self, job: str) -> None:
        self.release(job)
        subscription = self.subscription(job) or self._by_name.get(job)
        if subscription is not None:
            subscription.restart()

    def release_after_final_state(self, job: str) -> None:
        shared = self._shared[job]
        shared.view_count -= 1
        shared.ending_count += 1
        shared.subscription.on_final_state = self._on_final_state

    def drop_positions(self, prefix: str) -> None:
        for job in [job for job in self._positions if job.startswith(prefix)]:
            del self._positions[job]

    def announce_denial(self, jobs: dict[str, str]) -> None:
        self._counters.protocol_errors.update(jobs.values())
        self._outbox.announce(denial(jobs))

    def _on_final_state(self, subscription: Subscription) -> None:
        shared = self._shared[subscription.job]
        subscription.on_final_state = None
        shared.ending_count = 0
        if not shared.view_count:
            self._unsubscribe(subscription.job)

    def _unsubscribe(self, job: str) -> None:
        subscription = self._shared.pop(job).subscription
        subscription.on_final_state = None
        if self._by_name.get(job) is not subscription:
            subscription.cancelled = True
            self._outbox.cancel(subscription)
            self._hub.unsubscribe(subscription)


def _key(id_: CommandId, prefix: str) -> tuple[str, CommandId]:
    return (prefix, None) if id_ is None else ("", id_)
