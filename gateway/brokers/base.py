"""The interface of brokers, which store states and deliver events.

The rest of the gateway works with any implementation that passes the tests in `tests/contract/`;
`brokers.memory` is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from attrs import frozen
from trio.abc import ReceiveChannel

from ..model.errors import GatewayError
from ..model.state import Event, Position, Reason, Request, Status, Update

__all__ = ["BROKER_RETRY_PAUSE", "FEED_RESET", "Broker", "JobFilter", "Page", "PublishResult"]

FEED_RESET: Final[Sequence[Event]] = ()
"""The empty batch: a feed sends it when events may be missing before this point."""
BROKER_RETRY_PAUSE: Final = 1.0
"""Seconds between two attempts of a node to call a broker that is unavailable."""


@frozen
class PublishResult:
    """The result of an update."""

    position: Position
    """The job's position after the update."""
    attempt: int
    """The job's attempt after the update: the number that a worker puts into its later updates."""
    reason: Reason | None = None
    """The reason why the update caused no event; None if it did."""
    request: Request | None = None
    """The request that the job's worker has not acknowledged yet; None if there is none."""

    @property
    def applied(self) -> bool:
        return self.reason is None


@frozen
class Page:
    """A page of the list of jobs, most recently updated first."""

    events: Sequence[Event]
    next_cursor: str | None
    """The cursor (`after`) of the next page; None if this is the last one."""


class JobFilter(Protocol):
    """The jobs to list: `job in filter` is true for these, as for a token's patterns."""

    def __contains__(self, job: str, /) -> bool: ...


class Broker(Protocol):
    """Stores states and delivers events.

    **Atomicity.** `publish` and `expire_leases` change snapshot, history, feed and lease of a job
    together or not at all: a reader that sees one change sees the others.

    **Order.** The events of one job reach every feed in order of position. There is no order
    between jobs.

    **Loss.** A feed has every event published while it is open, at least once. It may repeat
    events. After an outage it may lack some; then it sends an empty batch (`FEED_RESET`) in their
    place. So a consumer compares positions: it drops events that are not newer, reads missing ones
    with `read` or `history`, and after `FEED_RESET` reads all jobs again that it follows. The
    results and the next events of the feed have no gap between them.

    **Traces.** An update's `traceparent` goes with its event through the feeds unchanged, and is
    stored nowhere else: events that are read later belong to no trace.

    **Time.** The broker uses its own clock. **Cancellation** of `publish` leaves the update applied
    completely or not at all; it can be repeated without harm, because updates are absolute. Every
    method raises `BrokerUnavailable` if the broker does not answer.
    """

    @property
    def unavailable_reason(self) -> str | None:
        """The reason why the broker is unavailable now, for readiness and logs; None if it is
        available."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the broker answers calls: after a start and after a failover, nodes first restore
        the states that clients have seen."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other nodes may serve the same jobs."""
        ...

    @property
    def lag(self) -> int:
        """The number of events in its feeds that were not read yet, as far as known, for
        metrics."""
        ...

    @property
    def unreadable(self) -> int:
        """The number of reads that returned something else than a record of the gateway, for
        metrics."""
        ...

    async def publish(self, job: str, update: Update, *, publisher: str = "") -> PublishResult:
        """Applies one update. `job` is a job id; a job of a node has `!` before it.

        `publisher` is the sender (a token's subject, or an address): a broker that is full
        drops jobs of the sender that uses the most memory.

        If the job is unknown and the update may not create it (`model.reducer.may_begin`), the
        result has the reason `unknown` and the position `UNSEEN`.

        Raises:
            RecordUnreadable: The data at the job's key are not a record that this version can read.
                Nothing has changed.
        """
        ...

    async def publish_many(
        self, updates: Sequence[tuple[str, Update]], *, publisher: str = ""
    ) -> list[PublishResult | GatewayError]:
        """Applies several updates; the updates of one job are applied in this order. Each can fail
        separately.

        Cancellation: some may have been applied.
        """
        ...

    def partition(self, jobs: Sequence[str]) -> list[list[str]]:
        """Returns the jobs, divided into parts that become unavailable independently."""
        ...

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        """Returns the newest event of each job; unknown jobs are left out."""
        ...

    async def positions(self, jobs: Sequence[str]) -> dict[str, Position]:
        """Returns the position of each job, at lower cost than `read`; unknown jobs are left out.

        A job for which `read` would return another position (after a rollback of the server) has
        epoch 0 here.
        """
        ...

    async def history(self, job: str, *, after: Position) -> list[Event]:
        """Returns the stored events that are newer than `after`, oldest first, without gaps.

        The first of them may be later than `after.seq + 1` if earlier ones are no longer stored.
        """
        ...

    async def recent(
        self, jobs: JobFilter, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        """Returns at most `limit` jobs by time of their last update, newest first, without the
        jobs of nodes (`!…`).

        A page may be shorter, or empty, although more jobs follow: it ends after `limits.list_scan`
        jobs were checked, or when it has `limits.list_bytes`. Few pages are made at the same time,
        so that many lists delay only other lists.

        Raises `InvalidInput` (field `after`) if that is not the `next_cursor` of a page.
        """
        ...

    async def running_children(self, group: str) -> list[str]:
        """Returns the running children of a group, even if the group was not declared yet."""
        ...

    async def expire_leases(self) -> int:
        """Expires the leases whose time is over; returns their number. Many nodes may call it."""
        ...

    def feed(
        self, *, observed: Callable[[], Iterable[Event]] = ...
    ) -> AbstractAsyncContextManager[ReceiveChannel[Sequence[Event]]]:
        """Delivers all events that are published after the context was entered, in batches.

        `observed` returns the newest events that clients of this node have seen. A broker whose
        server was rolled back restores them before it answers any call, and before the feed
        continues. `observed` is called between two batches.
        """
        ...
