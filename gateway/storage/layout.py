"""Which keys a job has, and in which shard.

    {prefix}:last:<job>   hash     the snapshot: state in plain text, `epoch`, `seq`; and what
                                   the fold remembers: `run`, `pace`, `heard_at`
    {prefix}:log:<job>    stream   its recent events, with id `<seq>-0`
    {prefix}:feed         stream   all events, each with its `traceparent` if the update had one:
                                   what nodes poll
    {prefix}:leases       zset     job → when to look at it next: its lease may have run out,
                                   or it is to be forgotten
    {prefix}:recent       zset     job → the number in the feed of its last update's event
    {prefix}:counters     hash     `events`: how many there were; `epoch`: the newest one;
                                   `server` and `era`: see lua/takeover.lua

One shard on one server has the plain prefix (`progress`). In a Redis Cluster all keys of
a shard belong together in one slot, so its prefix is a hash tag (`{progress}`), with a
number in it if there are several (`{progress:7}`). Pure.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from typing import Final, NamedTuple
from zlib import crc32

__all__ = ["FEED_LENGTH", "HISTORY", "RETENTION", "Layout", "Shard"]

HISTORY: Final = 128
"""Events of a job that are kept for exact replay, about."""
FEED_LENGTH: Final = 100_000
"""Events the feed keeps, about: some 40 MiB, and 10 s of a storm in which a node may be away."""
RETENTION: Final = 86_400.0
"""Seconds that a job is remembered after its last update."""

SLOTS = 16_384
"""Of a Redis Cluster."""


class Shard(NamedTuple):
    """A part of all jobs, with a feed of its own."""

    prefix: str

    @property
    def feed(self) -> str:
        return f"{self.prefix}:feed"

    @property
    def counters(self) -> str:
        return f"{self.prefix}:counters"

    @property
    def recent(self) -> str:
        return f"{self.prefix}:recent"

    def last(self, job: str) -> str:
        return f"{self.prefix}:last:{job}"

    def log(self, job: str) -> str:
        return f"{self.prefix}:log:{job}"

    def keys(self, *jobs: str) -> list[str]:
        """The keys that every script takes: the shard's own, then two of each job."""
        names = [f"{self.prefix}:{name}" for name in ("feed", "leases", "recent", "counters")]
        for job in jobs:
            names += (self.last(job), self.log(job))
        return names


class Layout:
    """All shards of one prefix. `tagged`: for a Redis Cluster."""

    def __init__(self, prefix: str, *, shards: int = 1, tagged: bool = False) -> None:
        if shards > 1:
            prefixes = [f"{{{_tag(prefix, index, shards)}}}" for index in range(shards)]
        else:
            prefixes = [f"{{{prefix}}}" if tagged else prefix]
        self.shards = tuple(map(Shard, prefixes))

    def __repr__(self) -> str:
        return f"<Layout {' '.join(shard.prefix for shard in self.shards)}>"

    def shard(self, job: str) -> Shard:
        """Where `job` is: the CRC-32 of its id modulo the number of shards."""
        if len(self.shards) == 1:
            return self.shards[0]
        return self.shards[crc32(job.encode()) % len(self.shards)]

    def by_shard(self, jobs: Iterable[str]) -> dict[Shard, list[str]]:
        """The jobs, shard by shard; shards without any are left out."""
        found: dict[Shard, list[str]] = {}
        for job in jobs:
            found.setdefault(self.shard(job), []).append(job)
        return found


def _tag(prefix: str, index: int, shards: int) -> str:
    """The first tag whose slot is in the `index`-th part of the slots.

    A cluster's primaries divide the slots among them evenly and in order, so as many
    shards as primaries give each of them one.
    """
    first, end = index * SLOTS // shards, (index + 1) * SLOTS // shards
    number = 0
    while not first <= crc_hqx(f"{prefix}:{number}".encode(), 0) % SLOTS < end:
        number += 1
    return f"{prefix}:{number}"
