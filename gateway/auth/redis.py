"""The list of revoked tokens, in the Redis that all nodes share.

    {progress}:revoked           zset     token id → the Unix time until which it is listed
    {progress}:revoked:version   text     another one after each change

The braces keep the two together in a Redis Cluster. The second is all that a node reads
twice a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from secrets import token_hex
from typing import Any

import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import BrokerUnavailable, InvalidSettings
from .revocations import Revoked

__all__ = ["RedisRevocations"]

CALLS = 2
"""Calls at a time: the node's own looks, and somebody who revokes."""
TIMEOUT = 2.0
"""Seconds for a connection and for an answer: a look that takes longer is made anew."""


class RedisRevocations:
    """At `url`, for all who use `prefix`. Connects when it is first used.

    Raises `InvalidSettings` if the URL is none.
    """

    def __init__(
        self, url: str, *, prefix: str = "progress", clock: Callable[[], float] = time.time
    ) -> None:
        tagged = prefix if "{" in prefix else f"{{{prefix}}}"
        self._ids, self._version = f"{tagged}:revoked", f"{tagged}:revoked:version"
        self._clock = clock
        self._limiter = trio.CapacityLimiter(CALLS)
        try:
            self._redis: Any = redis.Redis.from_url(
                url,
                max_connections=CALLS,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise InvalidSettings(str(error), field="redis") from None

    async def revoke(self, token_id: str, *, until: float) -> None:
        await self._call(self._revoke, token_id, until)

    async def read(self, *, known: str | None) -> Revoked | None:
        revoked: Revoked | None = await self._call(self._read, known)
        return revoked

    def close(self) -> None:
        """End the idle connections."""
        self._redis.close()

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return await trio.to_thread.run_sync(
                function, *args, abandon_on_cancel=True, limiter=self._limiter
            )
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error

    # What runs in the threads.

    def _revoke(self, token_id: str, until: float) -> None:
        with self._redis.pipeline(transaction=True) as change:
            change.zremrangebyscore(self._ids, "-inf", self._clock())
            change.zadd(self._ids, {token_id: until}, gt=True)
            change.set(self._version, token_hex(8))
            change.execute()

    def _read(self, known: str | None) -> Revoked | None:
        # The version first: a list that is newer than it is only read once more.
        version = (self._redis.get(self._version) or b"").decode()
        if version == known:
            return None
        members = self._redis.zrange(self._ids, 0, -1)
        return Revoked(version, frozenset(member.decode() for member in members))
