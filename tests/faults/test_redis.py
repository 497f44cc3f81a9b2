"""Faults of Redis. The nodes have none, so no client may lose its connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio

from .scenario import run_scenario
from .stores import Store, open_replicated_store, open_store, open_watched_store

READ_ANEW = 20.0
"""Seconds within which a node has read all its topics again, also without a feed reset."""
REAPED = 4.0
"""Seconds in which a lease of one second has run out, and a node has noticed."""


async def test_without_a_fault_all_rules_hold() -> None:
    """The scenario itself breaks no rule."""
    async with run_scenario() as scenario:
        await scenario.progress_continues()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="and-has-forgotten-everything"),
        pytest.param(["--appendonly", "yes", "--appendfsync", "everysec"], id="aof-everysec"),
        pytest.param(["--appendonly", "yes", "--appendfsync", "always"], id="aof-always"),
    ],
)
async def test_redis_is_killed_and_restarted(options: list[str]) -> None:
    async with run_scenario(partial(open_store, *options)) as scenario:
        async with scenario.fault():
            scenario.redis.kill()
            scenario.end("meanwhile")
            await scenario.wait_for_stale()
            await scenario.wait_for_readyz(503)
            scenario.add_clients()
            await scenario.redis.start()
        await scenario.wait_for_readyz(200)
        await scenario.progress_continues()


async def test_redis_is_stopped_for_ten_seconds() -> None:
    """Redis accepts connections and requests, and does not answer."""
    async with run_scenario() as scenario:
        async with scenario.fault():
            scenario.redis.stop()
            scenario.end("meanwhile")
            await trio.sleep(10)
            await scenario.wait_for_stale()
            scenario.redis.resume()
        await scenario.wait_for_readyz(200)
        await scenario.progress_continues()


async def test_redis_is_flushed_while_jobs_run() -> None:
    async with run_scenario() as scenario:
        async with scenario.fault():
            await scenario.redis.command("FLUSHALL")
        await scenario.progress_continues()


async def test_redis_is_flushed_at_the_end() -> None:
    """An end that clients have received is never taken back."""
    async with run_scenario() as scenario:
        await scenario.end_all()
        async with scenario.fault():
            await scenario.redis.command("FLUSHALL")
        await trio.sleep(READ_ANEW)


async def test_redis_is_read_only_for_a_while() -> None:
    """A replica answers at the address of the primary, and refuses writes."""
    async with run_scenario() as scenario:
        async with scenario.fault():
            await scenario.redis.command("REPLICAOF", "127.0.0.1", 1)
            scenario.end("meanwhile")
            await scenario.wait_for_stale()
            await scenario.wait_for_readyz(503)
            await scenario.redis.command("REPLICAOF", "NO", "ONE")
        await scenario.wait_for_readyz(200)
        await scenario.progress_continues()


async def test_redis_is_out_of_memory_for_a_while() -> None:
    async with run_scenario() as scenario:
        async with scenario.fault():
            await scenario.redis.command("CONFIG", "SET", "maxmemory", 1)
            scenario.end("meanwhile")
            await scenario.wait_for_stale()
            await scenario.wait_for_readyz(503)
            await scenario.redis.command("CONFIG", "SET", "maxmemory", 0)
        await scenario.wait_for_readyz(200)
        await scenario.progress_continues()


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(open_replicated_store, id="at-the-same-address"),
        pytest.param(open_watched_store, id="by-sentinel"),
    ],
)
async def test_failover_to_a_replica_that_missed_writes(opened: Callable[[], Store]) -> None:
    """The replica lacks the end of one job, whose lease then expires there. The replica has older
    states of the other jobs than any client. One of these jobs ends before the replica has caught
    up."""
    async with run_scenario(opened, worker_options={"meanwhile": {"lease": 1.0}}) as scenario:
        await scenario.redis.in_step()
        async with scenario.fault():
            await scenario.redis.cut_replica_off()
            await scenario.wait_for_ends("meanwhile")
            await scenario.progress_continues(steps=30)
            await scenario.redis.fail_over()
            scenario.end("late:2")
        await scenario.progress_continues()
        await scenario.wait_for_readyz(200)
        await trio.sleep(REAPED)
