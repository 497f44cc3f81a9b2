"""A client that stops reading, while others watch the same job."""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from gateway import Gateway, Limits

from .client import (
    PATIENCE,
    Follower,
    Raw,
    Reset,
    WebSocketClient,
    connect,
    is_final,
    open_client,
    upgrade,
)
from .conftest import eventually
from .hosts import in_process, printed

JOB = "video:42"
BULK = "x" * 8_000
"""Data in each event, so that a socket is soon full."""
TINY = 2_048


@pytest.fixture
def limits() -> Limits:
    return Limits(write_timeout=0.5, close_timeout=0.3, job_replay_bytes=100_000, history=10)


@asynccontextmanager
async def stuck(port: int, kind: str) -> AsyncIterator[Raw]:
    """Yields a client that subscribes to the job and then reads nothing."""
    async with connect(port, receive_buffer=TINY) as raw:
        if kind == "stream":
            await raw.send(
                f"GET /api/events?job={JOB} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
            )
        else:
            await raw.send(upgrade())
            await raw.receive_until(b"\r\n\r\n")
            await WebSocketClient(raw).send("subscribe", jobs=[JOB], mode=kind)
        yield raw


@pytest.mark.parametrize("kind", ["latest", "every", "stream"])
async def test_a_stuck_client_is_closed_and_others_miss_nothing(
    gateway: Gateway, port: int, kind: str
) -> None:
    statistics = gateway.node.statistics
    async with (
        open_client(port) as every,
        open_client(port, subprotocol="progress.v1") as latest,
        stuck(port, kind) as raw,
        trio.open_nursery() as nursery,
    ):
        await every.receive_type("welcome")
        await every.request("subscribe", jobs=[JOB], mode="every")
        await latest.receive_type("welcome")
        await latest.request("subscribe", jobs=[JOB])
        await eventually(lambda: statistics().hub.subscriptions == 3)

        of_every, of_latest = Follower(), Follower()
        of_every.take(await every.receive())
        of_latest.take(await latest.receive())
        nursery.start_soon(of_latest.follow, latest, is_final)
        done = 0
        with trio.fail_after(PATIENCE):
            while statistics().connections == 3:
                done += 1
                await gateway.publish(JOB, done=done, data=BULK)
                of_every.take(await every.receive())  # each event arrives before the next is made
        await gateway.publish(JOB, status="succeeded")
        await of_every.follow(every, is_final)
        assert [seq for _, seq in of_every.steps] == list(range(done + 2))

        assert statistics().hub.subscriptions == 2
        with pytest.raises(Reset):  # no close frame: half a frame may be on the wire
            await raw.receive_rest()
    assert of_latest.at[JOB][1] == done + 1


@pytest.mark.parametrize(
    "limits", [Limits(job_replay_bytes=100_000, history=10, write_timeout=60, ping_timeout=60)]
)
@pytest.mark.parametrize("kind", ["latest", "every", "stream"])
async def test_a_stuck_client_uses_bounded_memory(gateway: Gateway, port: int, kind: str) -> None:
    events = 500
    async with open_client(port) as other_client, stuck(port, kind):
        await other_client.receive_type("welcome")
        await other_client.request("subscribe", jobs=[JOB], mode="every")
        await eventually(lambda: gateway.node.statistics().hub.subscriptions == 2)
        await other_client.receive()
        for _ in range(100):  # fills sockets, replay and history
            await gateway.publish(JOB, phase=str(_), data=BULK)
            await other_client.receive()
        tracemalloc.start()
        try:
            for number in range(events):
                await gateway.publish(JOB, done=number, data=BULK)
                await other_client.receive()
                other_client.frames.clear()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # Allows for a second copy of the replay and the history, and for tracemalloc's own memory.
        assert grown < events * len(BULK) / 4
        assert gateway.node.statistics().connections == 2


async def test_a_client_that_does_not_read_replies_is_slowed(gateway: Gateway, port: int) -> None:
    for number in range(100):
        await gateway.publish(f"job:{number}", data=BULK)
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with connect(port, receive_buffer=TINY) as raw:
        await raw.send(b"GET /api/jobs?limit=200 HTTP/1.1\r\nhost: localhost\r\n\r\n" * 50)
        await eventually(lambda: trio.lowlevel.current_statistics().tasks_living > tasks)
        await eventually(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
        with pytest.raises(Reset):
            await raw.receive_rest()


async def test_sigterm_with_a_stuck_client_exits_in_time() -> None:
    """The node exits within the drain time, with code 0; clients that read receive `goaway`."""
    drain = 1.0
    arguments = [
        "-m",
        "gateway.cli",
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--shutdown-timeout",
        f"{drain}",
    ]
    async with in_process(*arguments) as process:
        line = await printed(process, b"http://127.0.0.1:")
        port = int(line.partition(b"http://127.0.0.1:")[2].split()[0].rstrip(b"/"))
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
            open_client(port) as reader,
            open_client(port, subprotocol="progress.v1") as other_client,
            stuck(port, "latest"),
            stuck(port, "every"),
            stuck(port, "stream"),
        ):
            for client in (reader, other_client):
                await client.receive_type("welcome")
                await client.request("subscribe", jobs=[JOB])
                await client.receive()
            for done in range(100):
                answer = await http.post(f"/api/jobs/{JOB}", json={"done": done, "data": BULK})
                assert answer.json()["applied"] is True
            process.send_signal(signal.SIGTERM)
            began = trio.current_time()
            for client in (reader, other_client):
                goaway = await client.receive_type("goaway")
                assert goaway["code"] == 1001
                assert len(goaway["retry"]) == 2
                assert await client.close_code() == 1001
            with trio.fail_after(PATIENCE):
                assert await process.wait() == 0
            assert trio.current_time() - began < drain + 2.0  # and the time to exit
