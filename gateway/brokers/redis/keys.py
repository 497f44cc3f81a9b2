"""The keys of a job, and its shard.

    {prefix}:last:<job>   hash     the record: the version of its layout (`v`), the state in plain
                                   text, `epoch`, `seq`; and the data of the reducer: `run`,
                                   `pace`, `reported_at`
    {prefix}:log:<job>    stream   its recent events, with id `<seq>-0`; from the second one on
    {prefix}:children:<job>  hash  the contributions of its children: see lua/groups.lua
    {prefix}:feed         stream   all events, each with its `traceparent` if the update had one;
                                   nodes poll it
    {prefix}:leases       zset     job → when to check it next: its lease may have expired,
                                   or its retention may be over
    {prefix}:recent       zset     job → the number in the feed of its last update's event
    {prefix}:counters     hash     `events`: their number so far; `epoch`: the newest one;
                                   `server`, `repair`, `repair_at`, `repaired_server`,
                                   `generation`, `node:…`: see lua/failover.lua;
                                   `history`, `retention`: the nodes' settings;
                                   `checked_at`, `leases_from`: see lua/expire_leases.lua

One shard on one server has the plain prefix (`progress`). In a Redis Cluster all keys of
a shard belong together in one slot, so its prefix is a hash tag (`{progress}`), with a
number in it if there are several (`{progress:7}`). Pure.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from typing import NamedTuple
from zlib import crc32

__all__ = ["Layout", "Shard"]

SLOTS = 16_384
"""The number of slots of a Redis Cluster."""


class Shard(NamedTuple):
    """A part of all jobs, with its own feed."""

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

    def children(self, group: str) -> str:
        return f"{self.prefix}:children:{group}"

    def keys(self, *jobs: str) -> list[str]:
        """Returns the keys that every script takes: the shard's own, then two of each job."""
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

    def with_suffix(self, name: str) -> Layout:
        """Returns a layout whose prefixes end in `:name`, so that its keys are in the same slots as
        these. `gateway check` uses it for its temporary keys."""
        other = Layout("")
        other.shards = tuple(Shard(f"{shard.prefix}:{name}") for shard in self.shards)
        return other

    def shard(self, job: str) -> Shard:
        """Returns the shard of `job`: the CRC-32 of its id up to the first slash, modulo the number
        of shards. So a group and all its children are in one shard."""
        if len(self.shards) == 1:
            return self.shards[0]
        return self.shards[crc32(job.partition("/")[0].encode()) % len(self.shards)]

    def by_shard(self, jobs: Iterable[str]) -> dict[Shard, list[str]]:
        """Returns the jobs of each shard; shards without jobs are left out."""
        jobs_by_shard: dict[Shard, list[str]] = {}
        for job in jobs:
            jobs_by_shard.setdefault(self.shard(job), []).append(job)
        return jobs_by_shard


def _tag(prefix: str, index: int, shards: int) -> str:
    """Returns the first tag whose slot is in the `index`-th range of the slots.

    A cluster's primaries divide the slots among them evenly and in order, so as many
    shards as primaries give each of them one.
    """
    first, end = index * SLOTS // shards, (index + 1) * SLOTS // shards
    number = 0
    while not first <= crc_hqx(f"{prefix}:{number}".encode(), 0) % SLOTS < end:
        number += 1
    return f"{prefix}:{number}"
