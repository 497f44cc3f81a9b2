"""The interface of brokers, which store states and deliver events.

The rest of the gateway works with any implementation that passes
`tests/contract/test_broker.py`; `brokers.memory` is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from attrs import frozen
from trio.abc import ReceiveChannel

from ..model.errors import GatewayError
from ..model.state import Event, Position, Reason, Request, Status, Update

__all__ = ["FEED_RESET", "Broker", "Jobs", "Page", "PublishResult"]

FEED_RESET: Final[Sequence[Event]] = ()
"""The empty batch: a feed sends it when events may be missing before this point."""


@frozen
class PublishResult:
    """The result of an update."""

    position: Position
    """The job's position after it."""
    attempt: int
    """The job's attempt after it: the number a worker puts into its later updates."""
    reason: Reason | None = None
    """Why the update made no event; None if it did."""
    request: Request | None = None
    """The open request to the job's worker, if the worker has not acknowledged it."""

    @property
    def applied(self) -> bool:
        return self.reason is None


@frozen
class Page:
    """Some jobs, most recently updated first."""

    events: Sequence[Event]
    next: str | None
    """Where the following page starts; None if this is the last."""


class Jobs(Protocol):
    """A set of jobs: a token's patterns, or the jobs to list."""

    def __contains__(self, job: str, /) -> bool: ...


class Broker(Protocol):
    """Stores states and delivers events.

    **Atomicity.** `publish` and `expire_leases` change snapshot, history, feed and lease of a job
    together or not at all: a reader that sees one change sees the others.

    **Order.** The events of one job reach every feed in order of position. There is no order
    between jobs.

    **Loss.** A feed has every event published while it is open, at least once. It may repeat
    events. After an outage it may lack some; then it sends an empty batch (`FEED_RESET`) in their
    place. So a consumer compares positions: it drops what is not newer, fills a hole with `read`
    or `history`, and after `FEED_RESET` reads the jobs again that it follows. The results, with
    what the feed brings next, leave no hole.

    **Traces.** An update's `traceparent` goes with its event through the feeds unchanged, and is
    stored nowhere else: events that are read later belong to no trace.

    **Time** is the broker's own; no caller passes any. **Cancellation** of `publish` leaves the
    update applied completely or not at all; it can be repeated without harm, because updates are
    absolute. Every method raises `BrokerUnavailable` if the broker does not answer.
    """

    @property
    def unavailable_reason(self) -> str | None:
        """Why the broker is unavailable now, for readiness and logs; None if it is available."""
        ...

    @property
    def settled(self) -> bool:
        """Whether the broker answers yet: after a start and after a failover, nodes first restore
        what they have shown."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other nodes may serve the same jobs."""
        ...

    @property
    def lag(self) -> int:
        """Events in its feeds that were not read yet, as far as known, for metrics."""
        ...

    @property
    def unreadable(self) -> int:
        """How many reads found a key that is not a record of the gateway, for metrics."""
        ...

    async def publish(self, job: str, update: Update, *, publisher: str = "") -> PublishResult:
        """Apply one update. `job` is a valid job id, or `!` and one for a job of a node.

        `publisher` is the sender (a token's subject, or an address): a broker that is full
        drops jobs of the sender that uses the most memory.

        An update that may not begin a job (`model.reducer.may_begin`), of an unknown one, has the
        reason `unknown` and the position `UNSEEN`.

        Raises:
            RecordUnreadable: The stored record is not one that the gateway may change.
        """
        ...

    async def publish_many(
        self, updates: Sequence[tuple[str, Update]], *, publisher: str = ""
    ) -> list[PublishResult | GatewayError]:
        """Apply several updates, those of one job in this order. Each can fail separately.

        Cancellation: some may have been applied.
        """
        ...

    def partition(self, jobs: Sequence[str]) -> list[list[str]]:
        """The jobs in parts that become unavailable independently."""
        ...

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        """The newest event of each job; unknown jobs are left out."""
        ...

    async def positions(self, jobs: Sequence[str]) -> dict[str, Position]:
        """The position of each job, at lower cost than `read`; unknown jobs are left out.

        A job to which `read` would give another position (after a rollback of the server) has
        epoch 0 here.
        """
        ...

    async def history(self, job: str, *, after: Position) -> list[Event]:
        """The stored events that are newer than `after`, oldest first, without holes.

        They may begin later than `after.seq + 1` if earlier ones are no longer stored.
        """
        ...

    async def recent(
        self, jobs: Jobs, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        """Jobs by time of their last update, newest first; without those of nodes (`!…`).

        At most `limit`. A page may be shorter, or empty, although more follow: it ends after
        `limits.list_scan` jobs were checked or `limits.list_bytes` were found. Few pages are made
        at a time, so that many lists delay only other lists.

        Raises `InvalidInput` (field `after`) if that is not the `next` of a page.
        """
        ...

    async def running_children(self, group: str) -> list[str]:
        """The running children of a group, also if the group was not declared yet."""
        ...

    async def expire_leases(self) -> int:
        """Apply the leases that have expired; returns how many. Many nodes may call it."""
        ...

    def feed(
        self, *, observed: Callable[[], Iterable[Event]] = ...
    ) -> AbstractAsyncContextManager[ReceiveChannel[Sequence[Event]]]:
        """All events from now on, in batches.

        It has everything that is published after the context was entered. `observed` returns the
        newest events that this node has shown. A broker whose server was rolled back restores
        them before it answers anything else, and before the feed goes on. It is called between
        two batches.
        """
        ...
