"""Who is silent is pinged, and ended if it stays so."""

from __future__ import annotations

import pytest
import trio

from gateway import Gateway, Limits

from .client import Client, open_client
from .conftest import eventually
from .hosts import Host

ROUNDS = 3


@pytest.fixture
def limits() -> Limits:
    return Limits(ping_after=0.1, pong_within=0.3, close_timeout=0.3)


async def rounds(client: Client) -> None:
    """Be there for some pings."""
    await client.hear_type("welcome")
    for _ in range(ROUNDS):
        await client.hear_type("ping")


async def test_one_that_answers_nothing_is_ended(gateway: Gateway, port: int) -> None:
    async with open_client(port) as client:
        client.answers_pings = False
        await client.hear_type("welcome")
        assert (await client.hear())["type"] == "ping"
        assert await client.ending() == 4000
        assert client.pings == 1
        await eventually(lambda: gateway.node.statistics().connections == 0)


async def test_a_browser_that_only_listens_stays(port: int) -> None:
    """It answers WebSocket pings by itself."""
    async with open_client(port) as client:
        await rounds(client)
        assert client.pings >= ROUNDS - 1
        assert await client.ask("ping") == {"type": "pong"}


async def test_one_that_answers_in_json_stays(host: Host) -> None:
    async with open_client(host.port) as client:
        client.answers_pings = False
        await client.hear_type("welcome")
        for _ in range(ROUNDS):
            await client.hear_type("ping")
            await client.say("pong")
        assert await client.ask("ping") == {"type": "pong"}


@pytest.mark.parametrize("limits", [Limits(ping_after=0.3)])
async def test_one_that_pings_by_itself_is_not_pinged(port: int) -> None:
    async with open_client(port) as client:
        client.answers_pings = False
        await client.hear_type("welcome")
        deadline = trio.current_time() + 0.6
        while trio.current_time() < deadline:
            assert await client.ask("ping") == {"type": "pong"}
        assert client.pings == 0


async def test_what_it_is_told_says_nothing_about_it(gateway: Gateway, port: int) -> None:
    """Progress goes out all the time; the client is silent all the same."""
    async with open_client(port) as client, trio.open_nursery() as nursery:
        client.answers_pings = False
        await client.say("subscribe", jobs=["a"])

        async def publish() -> None:
            for done in range(1_000_000):
                await gateway.publish("a", done=done)

        nursery.start_soon(publish)
        assert await client.ending() == 4000
        nursery.cancel_scope.cancel()


async def test_behind_a_stock_server_json_alone_counts(host: Host) -> None:
    async with open_client(host.port) as client:
        client.answers_pings = False
        assert await client.ending() == 4000
