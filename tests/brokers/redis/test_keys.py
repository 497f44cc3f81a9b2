"""The place of a job: always the same shard, and shards that a cluster can distribute."""

from __future__ import annotations

import pytest
import redis.crc
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers.redis.keys import SLOTS, Layout

job_ids = st.text("abcXYZ019_.:/@-", min_size=1, max_size=200)


def test_a_single_shard_has_the_plain_prefix() -> None:
    (shard,) = Layout("progress").shards
    assert shard.keys("video:42") == [
        "progress:feed", "progress:leases", "progress:recent", "progress:counters",
        "progress:last:video:42", "progress:log:video:42",
    ]  # fmt: skip
    assert [shard.feed, shard.counters, shard.recent] == [shard.keys()[i] for i in (0, 3, 2)]


@given(st.integers(1, 40), job_ids)
def test_all_keys_of_a_job_are_in_one_slot(shards: int, job: str) -> None:
    shard = Layout("p", shards=shards, tagged=True).shard(job)
    assert len({redis.crc.key_slot(key.encode()) for key in shard.keys(job)}) == 1


@pytest.mark.parametrize("shards", [2, 3, 5, 100])
def test_shards_are_spread_over_the_primaries(shards: int) -> None:
    slots = [redis.crc.key_slot(shard.feed.encode()) for shard in Layout("p", shards=shards).shards]
    assert [slot * shards // SLOTS for slot in slots] == list(range(shards))


@given(st.lists(job_ids, max_size=20), st.integers(1, 5))
def test_by_shard_divides_the_jobs(jobs: list[str], shards: int) -> None:
    layout = Layout("p", shards=shards)
    divided = layout.by_shard(jobs)
    assert sorted(job for some in divided.values() for job in some) == sorted(jobs)
    assert all(
        Layout("p", shards=shards).shard(job) == s for s, some in divided.items() for job in some
    )
