"""Faults of Redis. Nothing is done to the nodes, so no client loses its connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import trio

from .stores import Store, open_replicated_store, open_store, open_watched_store
from .story import story

READ_ANEW = 20.0
"""Seconds in which a node has read all its topics anew, whatever the feed said."""
REAPED = 4.0
"""Seconds in which a lease of one second has run out, and a node has noticed."""


async def test_nothing_at_all() -> None:
    """The stage itself: if nothing goes wrong, all holds that must hold."""
    async with story() as it:
        await it.goes_on()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="and-has-forgotten-everything"),
        pytest.param(["--appendonly", "yes", "--appendfsync", "everysec"], id="aof-everysec"),
        pytest.param(["--appendonly", "yes", "--appendfsync", "always"], id="aof-always"),
    ],
)
async def test_killed_and_started_again(options: list[str]) -> None:
    async with story(partial(open_store, *options)) as it:
        async with it.fault():
            it.redis.kill()
            it.end("meanwhile")
            await it.stale()
            await it.ready(503)
            it.join()
            await it.redis.start()
        await it.ready(200)
        await it.goes_on()


async def test_stopped_for_ten_seconds() -> None:
    """It is connected, takes what it is sent, and does not say a word."""
    async with story() as it:
        async with it.fault():
            it.redis.stop()
            it.end("meanwhile")
            await trio.sleep(10)
            await it.stale()
            it.redis.go_on()
        await it.ready(200)
        await it.goes_on()


async def test_flushed_in_mid_stream() -> None:
    async with story() as it:
        async with it.fault():
            await it.redis.command("FLUSHALL")
        await it.goes_on()


async def test_flushed_as_the_very_last_thing() -> None:
    """An end that has been told is never taken back."""
    async with story() as it:
        await it.conclude()
        async with it.fault():
            await it.redis.command("FLUSHALL")
        await trio.sleep(READ_ANEW)


async def test_read_only_for_a_while() -> None:
    """As when the address of a primary leads to a replica: it answers, and refuses."""
    async with story() as it:
        async with it.fault():
            await it.redis.command("REPLICAOF", "127.0.0.1", 1)
            it.end("meanwhile")
            await it.stale()
            await it.ready(503)
            await it.redis.command("REPLICAOF", "NO", "ONE")
        await it.ready(200)
        await it.goes_on()


async def test_out_of_memory_for_a_while() -> None:
    async with story() as it:
        async with it.fault():
            await it.redis.command("CONFIG", "SET", "maxmemory", 1)
            it.end("meanwhile")
            await it.stale()
            await it.ready(503)
            await it.redis.command("CONFIG", "SET", "maxmemory", 0)
        await it.ready(200)
        await it.goes_on()


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(open_replicated_store, id="at-the-same-address"),
        pytest.param(open_watched_store, id="by-sentinel"),
    ],
)
async def test_failover_to_a_replica_that_missed_writes(opened: Callable[[], Store]) -> None:
    """It has never heard of the end of one job, and soon sees that nobody works on it. Of
    the others it knows less than any client, and one of them ends before it has caught up."""
    async with story(opened, cast={"meanwhile": {"lease": 1.0}}) as it:
        await it.redis.in_step()
        async with it.fault():
            await it.redis.cut_replica_off()
            await it.has_ended("meanwhile")
            await it.goes_on(steps=30)
            await it.redis.fail_over()
            it.end("late:2")
        await it.goes_on()
        await it.ready(200)
        await trio.sleep(REAPED)
