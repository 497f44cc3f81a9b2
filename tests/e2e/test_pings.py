"""A silent client is pinged, and disconnected if it stays silent."""

from __future__ import annotations

import pytest
import trio

from gateway import Gateway, Limits

from .client import WebSocketClient, open_client
from .conftest import eventually
from .hosts import Host

ROUNDS = 3


@pytest.fixture
def limits() -> Limits:
    return Limits(ping_interval=0.1, ping_timeout=0.3, close_timeout=0.3)


async def listen(client: WebSocketClient) -> None:
    while True:
        await client.receive()


async def test_a_client_that_answers_no_ping_is_disconnected(gateway: Gateway, port: int) -> None:
    async with open_client(port) as client:
        client.answers_pings = False
        await client.receive_type("welcome")
        assert (await client.receive())["type"] == "ping"
        assert await client.close_code() == 4000
        assert client.pings == 1
        await eventually(lambda: gateway.node.statistics().connections == 0)


async def test_a_client_that_answers_websocket_pings_stays(port: int) -> None:
    """The client's library answers WebSocket pings automatically."""
    async with open_client(port) as client:
        await client.receive_type("welcome")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, client)
            await eventually(lambda: client.pings > ROUNDS)
            nursery.cancel_scope.cancel()
        assert await client.request("ping") == {"type": "pong"}


async def test_a_client_that_answers_json_pings_stays(host: Host) -> None:
    async with open_client(host.port) as client:
        client.answers_pings = False
        await client.receive_type("welcome")
        for _ in range(ROUNDS):
            await client.receive_type("ping")
            await client.send("pong")
        assert await client.request("ping") == {"type": "pong"}


@pytest.mark.parametrize("limits", [Limits(ping_interval=0.3)])
async def test_a_client_that_sends_pings_is_not_pinged(port: int) -> None:
    async with open_client(port) as client:
        client.answers_pings = False
        await client.receive_type("welcome")
        deadline = trio.current_time() + 0.6
        while trio.current_time() < deadline:
            assert await client.request("ping") == {"type": "pong"}
        assert client.pings == 0


async def test_frames_sent_to_a_client_are_no_sign_of_life(gateway: Gateway, port: int) -> None:
    """Progress is sent all the time, but the client is silent."""
    async with open_client(port) as client, trio.open_nursery() as nursery:
        client.answers_pings = False
        await client.send("subscribe", jobs=["a"])

        async def publish() -> None:
            for done in range(1_000_000):
                await gateway.publish("a", done=done)

        nursery.start_soon(publish)
        assert await client.close_code() == 4000
        nursery.cancel_scope.cancel()


async def test_under_hypercorn_only_json_pongs_count(host: Host) -> None:
    async with open_client(host.port) as client:
        client.answers_pings = False
        assert await client.close_code() == 4000
