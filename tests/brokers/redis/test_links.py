"""A link to a Redis whose Sentinels do not answer, and one that is closed during a call."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
from redis import RedisError
from trio.testing import MockClock

from gateway.brokers.redis.links import SENTINEL_TIMEOUT, RedisConnector
from gateway.brokers.redis.servers import Servers, open_servers
from gateway.brokers.redis.url import parse_address
from tests.brokers.redis.server import session_server
from tests.e2e.conftest import eventually


class SilentSentinels:
    """One server, whose Sentinels never answer until the test ends."""

    def __init__(self, servers: Servers, end: threading.Event) -> None:
        self.client = servers.client
        self.connection = servers.connection
        self.close = servers.close
        self.resolve_count = 0
        self.was_asked = threading.Event()
        self._end = end

    def is_current(self, connection: Any) -> bool:
        self.resolve_count += 1
        self.was_asked.set()
        self._end.wait()
        return False


async def test_silent_sentinels_delay_a_check_briefly_and_no_command(
    autojump_clock: MockClock,
) -> None:
    end = threading.Event()
    servers = SilentSentinels(open_servers(parse_address(session_server().url), calls=1), end)
    limiter = trio.CapacityLimiter(1)
    link = await RedisConnector(servers).connect("feed", name="feed", limiter=limiter)
    try:
        began = trio.current_time()
        assert await link.is_current()
        assert trio.current_time() - began == SENTINEL_TIMEOUT
        assert await link.is_current()  # the first check is still waiting
        assert trio.current_time() - began == SENTINEL_TIMEOUT
        # The virtual clock may jump before the thread of the first check has begun.
        assert await trio.to_thread.run_sync(servers.was_asked.wait, 30)
        assert servers.resolve_count == 1
        assert await link.execute([("PING",)]) == [b"PONG"]
    finally:
        end.set()
        link.close()


async def test_a_closed_link_is_disconnected_by_the_thread_of_a_running_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread of the call is reading from the connection, and only one thread may use a
    connection."""
    server = session_server()
    connector = RedisConnector(open_servers(parse_address(server.url), calls=1))
    link: Any = await connector.connect("feed", name="closed", limiter=trio.CapacityLimiter(1))
    disconnect, threads = link._connection.disconnect, []

    def record(*args: Any) -> None:
        threads.append(threading.current_thread())
        disconnect(*args)

    monkeypatch.setattr(link._connection, "disconnect", record)

    def blocked() -> bool:
        return any("blpop" in client["cmd"] for client in server.client.client_list())

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def call() -> None:
            with pytest.raises((OSError, RedisError)):
                await link.execute([("BLPOP", "no-such-list", 0)])

        await eventually(blocked)
        link.close()
    assert threads[0] is not threading.main_thread()
    assert not link.alive
    connector.close_idle_connections()
