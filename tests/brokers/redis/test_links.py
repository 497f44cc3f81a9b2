"""A link to a Redis whose Sentinels do not answer."""

from __future__ import annotations

import threading
from typing import Any

import trio
from trio.testing import MockClock

from gateway.brokers.redis.links import SENTINEL_TIMEOUT, RedisConnector
from gateway.brokers.redis.servers import Servers, open_servers
from gateway.brokers.redis.url import parse_address
from tests.brokers.redis.server import session_server


class SilentSentinels:
    """One server, whose Sentinels never answer until the test ends."""

    def __init__(self, servers: Servers, end: threading.Event) -> None:
        self.client = servers.client
        self.connection = servers.connection
        self.close = servers.close
        self.asked = 0
        self.was_asked = threading.Event()
        self._end = end

    def is_current(self, connection: Any) -> bool:
        self.asked += 1
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
        assert servers.asked == 1
        assert await link.execute([("PING",)]) == [b"PONG"]
    finally:
        end.set()
        link.close()
