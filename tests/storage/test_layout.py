"""Where a job is: always in one place, and shards where a cluster can have them."""

from __future__ import annotations

import pytest
import redis.crc
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.storage.layout import HISTORY, RETENTION, SLOTS, Layout

job_ids = st.text("abcXYZ019_.:/@-", min_size=1, max_size=200)


def test_one_shard_on_one_server_has_the_plain_prefix() -> None:
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
def test_as_many_shards_as_primaries_give_each_one(shards: int) -> None:
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


def test_a_worker_and_a_node_keep_as_much() -> None:
    defaults = limits.DEFAULT_LIMITS
    assert (defaults.history, defaults.retention) == (HISTORY, RETENTION)
