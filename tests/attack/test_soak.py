"""A gateway through an hour's trouble, shortened: clients come and go in every way, jobs too,
and its Redis is killed and comes back. At the end it is as at the start.

`GATEWAY_TEST_SOAK` is how many seconds it takes (5 unless it says; 3600 is the real thing).
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path

import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.brokers.server import Server, redis_server
from tests.e2e.client import PATIENCE, Reset, connect, open_client, publication

from .siege import Siege, started

SECONDS = float(os.environ.get("GATEWAY_TEST_SOAK", "5"))
CLIENTS, JOBS = 20, 200
OUTAGES = 3
SETTINGS = """
bind = "127.0.0.1:0"
log_level = "error"
[limits]
linger = 0.5
reap_every = 0.2
check_every = 0.5
"""
"""What lingers must be gone at the end."""
POOLED = 16
"""Connections to Redis that are kept for later, and that the start did not need yet."""
GROWTH = 25.0
"""MiB: the heap of its busiest moment, and the pools of libraries."""


async def test_it_is_at_the_end_as_at_the_start(tmp_path: Path) -> None:
    settings = tmp_path / "gateway.toml"
    settings.write_text(SETTINGS)
    redis = Server(redis_server())
    try:
        async with started("--config", str(settings), "--redis", redis.url) as siege:
            await _churn(siege, seconds=1)  # what is loaded or pooled at first use
            await _at_rest(siege)
            before = siege.memory, siege.descriptors
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_outages, redis)
                await _churn(siege, seconds=SECONDS)
                nursery.cancel_scope.cancel()
            await _at_rest(siege)
            after = siege.memory, siege.descriptors
            print(f"MiB and descriptors: {before} before, {after} after")  # noqa: T201
            assert siege.lives
            assert after[1] <= before[1] + POOLED
            assert after[0] < before[0] + GROWTH
    finally:
        redis.close()


async def _churn(siege: Siege, *, seconds: float) -> None:
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(_come_and_go, siege.port, random.Random(number))
                nursery.start_soon(_publish, siege.port, random.Random(number))


async def _come_and_go(port: int, chance: random.Random) -> None:
    while True:
        with suppress(Reset, ConnectionError):
            async with open_client(port) as client:
                jobs = [f"soak:{chance.randrange(JOBS)}" for _ in range(chance.randrange(1, 20))]
                await client.say("sync_subscriptions", jobs=jobs)
                with trio.move_on_after(chance.random()):
                    while True:
                        await client.hear()
                match chance.randrange(3):
                    case 0:
                        await client.say("sync_subscriptions", jobs=[])
                    case 1:
                        client.raw.reset()


async def _publish(port: int, chance: random.Random) -> None:
    while True:
        with suppress(Reset, ConnectionError):
            async with connect(port) as raw:
                for _ in range(chance.randrange(1, 50)):
                    body = b'{"start":true,"percent":%d}' % chance.randrange(100)
                    job = chance.randrange(JOBS)
                    await raw.send(publication(f"soak:{job}", body))
                    status, _, _ = await raw.response()
                    assert status in (200, 503), status
                    await trio.sleep(0.01)


async def _outages(redis: Server) -> None:
    while True:
        await trio.sleep(SECONDS / (OUTAGES + 1))
        redis.kill()
        await trio.sleep(0.2)
        await trio.to_thread.run_sync(redis.start)


async def _at_rest(siege: Siege) -> None:
    """Return when the gateway has noticed that all are gone, and nothing lingers."""
    with trio.fail_after(PATIENCE * 3):
        while True:
            now = await _metrics(siege.port)
            if (
                now["gateway_connections"] == 0
                and now["gateway_topics"] == 0
                and now["gateway_ready"]
            ):
                return
            await trio.sleep(0.1)


async def _metrics(port: int) -> dict[str, float]:
    async with connect(port) as raw:
        await raw.send(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        status, _, body = await raw.response()
    assert status == 200
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
