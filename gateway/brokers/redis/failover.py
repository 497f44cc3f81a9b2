"""The repair after a failover: the nodes restore the states that clients have seen.

A server that was restarted, or a replica that was promoted, may lack states that nodes have
delivered to clients. So before any client of the broker reads from it:

    1. `register` begins a new generation on that server, so that no position is used twice
       (lua/failover.lua).
    2. Each node sends the states that it has delivered (`restore`, lua/restore.lua). A record that
       is older or missing is replaced by the delivered state, at a new position.
    3. When all registered nodes have done so, or `GRACE` is over, the shard is
       open: `register` returns that, and calls and the feed continue. What workers have written
       before belongs to the earlier generation.
    4. A record of an earlier generation gets a new position when it is next changed or read
       (lua/reissue.lua).
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from ...model.state import Event
from .codec import COMPARED, is_record_of, observed_fields
from .keys import Shard
from .links import Link, run_script
from .scripts import FAILOVER, RESTORE

__all__ = [
    "GRACE",
    "MIN_RESTORE_TIME",
    "NODE_TIMEOUT",
    "POLL_INTERVAL",
    "Registration",
    "register",
    "restore",
]

GRACE = 5.0
"""Seconds after the beginning of a generation at which the shard opens at the latest: a node that
has died does not delay the others for longer."""
MIN_RESTORE_TIME = 1.0
"""Seconds after the beginning of a generation before which the shard does not open: a node that is
no longer registered has this time to return."""
NODE_TIMEOUT = 15.0
"""Seconds without a call of `register` after which a node is no longer registered. Each node calls
it every `poller.CHECK_INTERVAL`."""
POLL_INTERVAL = 0.1
"""Seconds between two calls of `register` while other nodes restore their states."""
COMPARE_BATCH = 1_000
RESTORE_BATCH = 100
"""Jobs per call of the script: Redis serves no other client for some milliseconds."""


@frozen
class Registration:
    """The data about a node that it stores in Redis."""

    node: str
    """Its unique name."""
    history: int
    """The number of events of a job to keep, for all publishers."""
    retention: float
    """The seconds for which to keep a job, for all publishers."""


async def register(
    link: Link,
    shard: Shard,
    registration: Registration,
    *,
    server: bytes,
    followed: bytes,
    newest_epoch: int,
    repaired: int | None,
) -> tuple[int, int, bool]:
    """Registers that this node follows the shard on `server`, has `followed` that or another server
    before, and has restored its states in the repair `repaired`. Returns the newest repair, the
    first epoch of the current generation, and whether the shard is open."""
    repair, generation, is_open = await run_script(
        link,
        FAILOVER,
        shard.keys(),
        [
            "",
            server,
            newest_epoch,
            registration.node,
            "" if repaired is None else repaired,
            registration.history,
            registration.retention,
            followed,
        ],
    )
    return int(repair), int(generation), bool(is_open)


async def restore(link: Link, shard: Shard, observed: Sequence[Event]) -> None:
    """Sends the states that this node has delivered, of jobs that the server has with another
    state. An equal position does not mean the same state: until the first node has registered,
    workers can write to a server that has lost events, at positions that were used before."""
    observed = sorted(observed, key=lambda event: event.job.count("/"))  # groups come first
    for start in range(0, len(observed), COMPARE_BATCH):
        batch = observed[start : start + COMPARE_BATCH]
        commands = [("HMGET", shard.last(event.job), *COMPARED) for event in batch]
        answers = await link.execute(commands)
        differing = [
            event
            for event, answer in zip(batch, answers, strict=True)
            if not is_record_of(event, answer)
        ]
        for start_differing in range(0, len(differing), RESTORE_BATCH):
            events = differing[start_differing : start_differing + RESTORE_BATCH]
            arguments = [text for event in events for text in observed_fields(event)]
            keys = shard.keys(*(event.job for event in events))
            await run_script(link, RESTORE, keys, ["", *arguments])
