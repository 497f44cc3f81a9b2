"""The list of revoked tokens in Redis, which all nodes share.

    {prefix}:revoked           zset   token id → the Unix time until which it is listed
    {prefix}:revoked:version   text   a new value after each change

Both are in the first shard, in one slot of a Redis Cluster. Twice a second a node reads only
the version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import chain
from secrets import token_hex
from typing import Any

import trio

from ..brokers.redis.servers import FAILURES, explain, open_servers
from ..brokers.redis.url import Address, parse_address
from ..model.errors import BrokerUnavailable, InvalidSettings
from .revocations import Revoked

__all__ = ["RedisRevocations"]

CALLS = 2
"""Concurrent calls: the node's own reads, and revocations by clients."""

_REVOKE = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
for i = 3, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', ARGV[i + 1], ARGV[i])
end
redis.call('SET', KEYS[2], ARGV[2])
"""


class RedisRevocations:
    """The list in the Redis at `url`, which may be parsed already. Connects when it is first used.

    Raises `InvalidSettings` if the URL is not valid.
    """

    def __init__(self, url: str | Address, *, clock: Callable[[], float] = time.time) -> None:
        try:
            address = parse_address(url) if isinstance(url, str) else url
        except ValueError as error:
            raise InvalidSettings(str(error), field="redis") from None
        prefix = address.layout.shards[0].prefix
        self._keys = f"{prefix}:revoked", f"{prefix}:revoked:version"
        self._servers = open_servers(address, calls=CALLS)
        self._clock = clock
        self._limiter = trio.CapacityLimiter(CALLS)

    async def revoke(self, until: Mapping[str, float]) -> None:
        await self._call(self._revoke, until)

    async def read(self, *, known: str | None) -> Revoked | None:
        revoked: Revoked | None = await self._call(self._read, known)
        return revoked

    def close(self) -> None:
        """Closes idle connections."""
        self._servers.close()

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return await trio.to_thread.run_sync(
                function, *args, abandon_on_cancel=True, limiter=self._limiter
            )
        except FAILURES as error:
            raise BrokerUnavailable(f"Redis: {explain(error)}") from error

    # These run in threads.

    def _revoke(self, until: Mapping[str, float]) -> None:
        arguments = self._clock(), token_hex(8), *chain.from_iterable(until.items())
        self._servers.client.eval(_REVOKE, len(self._keys), *self._keys, *arguments)

    def _read(self, known: str | None) -> Revoked | None:
        ids, version_key = self._keys
        # The version first: if the list is newer than the version, it is only read once more.
        version = (self._servers.client.get(version_key) or b"").decode()
        if version == known:
            return None
        members = self._servers.client.zrange(ids, 0, -1, withscores=True)
        return Revoked(version, {member.decode(): until for member, until in members})
