"""A gateway under load and faults for a long time (shortened here): clients connect and disconnect,
jobs start and end in every way, and its Redis is killed and restarted. At the end its resources
equal those at the start.

`GATEWAY_TEST_SOAK` is the duration in seconds (default 5; use 3600 for a real soak test).
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path

import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.brokers.redis.server import Server, redis_server
from tests.e2e.client import PATIENCE, Reset, connect, open_client, publication

from .attacked_gateway import AttackedGateway, idle_gateway

SECONDS = float(os.environ.get("GATEWAY_TEST_SOAK", "5"))
CLIENTS, JOBS = 20, 200
OUTAGES = 3
SETTINGS = """
bind = "127.0.0.1:0"
log_level = "error"
[limits]
linger = 0.5
lease_check_interval = 0.2
compare_interval = 0.5
"""
"""A short `linger`, so that all topics are dropped at the end."""
POOLED = 16
"""Connections to Redis that the pool keeps, and that were not needed at the start."""
GROWTH = 25.0
"""MiB: the heap stays as large as at its peak, and libraries have pools."""


async def test_resources_after_the_soak_equal_those_before(tmp_path: Path) -> None:
    settings = tmp_path / "gateway.toml"
    settings.write_text(SETTINGS)
    redis = Server(redis_server())
    try:
        async with idle_gateway("--config", str(settings), "--redis", redis.url) as gateway:
            await _churn(gateway, seconds=1)  # modules and pools that are created at the first use
            await _at_rest(gateway)
            before = gateway.memory, gateway.descriptors
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_outages, redis)
                await _churn(gateway, seconds=SECONDS)
                nursery.cancel_scope.cancel()
            await _at_rest(gateway)
            after = gateway.memory, gateway.descriptors
            print(f"MiB and descriptors: {before} before, {after} after")  # noqa: T201 - for -s
            assert gateway.is_running
            assert after[1] <= before[1] + POOLED
            assert after[0] < before[0] + GROWTH
    finally:
        redis.close()


async def _churn(gateway: AttackedGateway, *, seconds: float) -> None:
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(CLIENTS):
                nursery.start_soon(_come_and_go, gateway.port, random.Random(number))
                nursery.start_soon(_publish, gateway.port, random.Random(number))


async def _come_and_go(port: int, chance: random.Random) -> None:
    while True:
        with suppress(Reset, ConnectionError):
            async with open_client(port) as client:
                jobs = [f"soak:{chance.randrange(JOBS)}" for _ in range(chance.randrange(1, 20))]
                await client.send("sync_subscriptions", jobs=jobs)
                with trio.move_on_after(chance.random()):
                    while True:
                        await client.receive()
                match chance.randrange(3):
                    case 0:
                        await client.send("sync_subscriptions", jobs=[])
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
                    status, _, _ = await raw.receive_response()
                    assert status in (200, 503), status
                    await trio.sleep(0.01)


async def _outages(redis: Server) -> None:
    while True:
        await trio.sleep(SECONDS / (OUTAGES + 1))
        redis.kill()
        await trio.sleep(0.2)
        await trio.to_thread.run_sync(redis.start)


async def _at_rest(gateway: AttackedGateway) -> None:
    """Returns when the gateway has closed all connections and dropped all topics."""
    with trio.fail_after(PATIENCE * 3):
        while True:
            now = await _metrics(gateway.port)
            if (
                now["progress_gateway_connections"] == 0
                and now["progress_gateway_topics"] == 0
                and now["progress_gateway_ready"]
            ):
                return
            await trio.sleep(0.1)


async def _metrics(port: int) -> dict[str, float]:
    async with connect(port) as raw:
        await raw.send(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        status, _, body = await raw.receive_response()
    assert status == 200
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
