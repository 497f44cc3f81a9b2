"""What a broker promises. Where states live and events come from.

Everything above this line works with any implementation that passes
`tests/contract/test_broker.py`; `brokers.memory` is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from attrs import frozen
from trio.abc import ReceiveChannel

from .auth.patterns import Patterns
from .job import Event, Position, Reason, Status, Update

__all__ = ["LOST", "Broker", "Page", "Receipt"]

LOST: Final[Sequence[Event]] = ()
"""The empty batch: a feed's word that events may be missing before this point."""


@frozen
class Receipt:
    """The answer to an update."""

    position: Position
    """The job's position after it."""
    attempt: int
    """The job's attempt after it: the number a worker puts into its later updates."""
    reason: Reason | None = None
    """Why the update made no event; None if it did."""

    @property
    def applied(self) -> bool:
        return self.reason is None


@frozen
class Page:
    """Some jobs, most recently updated first."""

    events: Sequence[Event]
    next: str | None
    """Where the following page starts; None if this is the last."""


class Broker(Protocol):
    """Where states live and events come from.

    **Atomicity.** `publish` and `reap` change snapshot, history, feed and lease of a job
    together or not at all: whoever reads one sees the others.

    **Order.** The events of one job reach every feed in order of position. Between jobs
    nothing is promised.

    **Loss.** A feed has every event published while it is open, at least once: it may
    repeat some, and after an outage it may lack some; then it brings an empty batch
    (`LOST`) where they would have been. So a consumer goes by position: what is not newer
    it drops, a hole it fills by `read` or `history`, and after `LOST` it reads anew what
    it cares for: that and what the feed brings next leave no hole.

    **Traces.** An update's `traceparent` goes with its event through the feeds, as it was
    given, and is kept nowhere else: what is read again is nobody's doing.

    **Time** is the broker's own; no caller passes any. **Cancellation** of `publish`
    leaves the update applied whole or not at all; asking again is harmless, as updates
    are absolute. Every method raises `BrokerUnavailable` if the broker does not answer.
    """

    @property
    def away(self) -> str | None:
        """Why nothing is heard from it just now, for readiness and logs; None if all is well."""
        ...

    @property
    def shared(self) -> bool:
        """Whether other nodes may serve the same jobs."""
        ...

    @property
    def behind(self) -> int:
        """Events that lie in its feeds and are not read yet, as far as is known, for metrics."""
        ...

    async def publish(self, job: str, update: Update) -> Receipt:
        """Fold one update. `job` is a valid job id, or a name of a node's own: `!` and one."""
        ...

    def apart(self, jobs: Sequence[str]) -> list[list[str]]:
        """The jobs in parts: while nothing is heard of one, another may be known."""
        ...

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        """The newest event of each job; a job never seen is left out."""
        ...

    async def positions(self, jobs: Sequence[str]) -> dict[str, Position]:
        """Where each job stands, for less than `read` costs; a job never seen is left out.

        One that `read` would give another position (a server's past) has epoch 0 here.
        """
        ...

    async def history(self, job: str, *, after: Position) -> list[Event]:
        """The events that are kept and newer than `after`, oldest first, without holes.

        They may begin later than `after.seq + 1`: what was between is no longer kept.
        """
        ...

    async def restore(self, events: Sequence[Event]) -> None:
        """Say what was seen of some jobs, after `LOST`: their newest events.

        A broker that has lost a job, or knows less of it, has it again as it was seen, at
        a new position; one that loses nothing has nothing to do.
        """
        ...

    async def recent(
        self, jobs: Patterns, *, status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        """Some jobs by time of their last update, newest first; without nodes' own (`!…`).

        At most `limit`; and fewer, even none, although others follow, after
        `limits.page_looks` jobs were looked at or `limits.page_bytes` found. Few are made
        at a time, so that who asks for many lists delays lists and nothing else.

        Raises `InvalidInput` (field `after`) if that is not the `next` of some page.
        """
        ...

    async def reap(self) -> int:
        """Fold what leases have run out; returns how many. Safe to call from many nodes."""
        ...

    def feed(self) -> AbstractAsyncContextManager[ReceiveChannel[Sequence[Event]]]:
        """All events from now on, in batches.

        What is published after the context is entered is in it.
        """
        ...
