"""The brokers, which store job states. A URL names a Redis; without a URL, `open_broker`
returns the broker in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.limits import Limits
    from .base import Broker

__all__ = ["open_broker"]


def open_broker(url: str | None, limits: Limits | None = None) -> Broker:
    """Returns the broker in the Redis at `url`; if `url` is None, a broker in this process's
    memory.

    Raises:
        InvalidSettings: `url` names no broker.
    """
    # Imported here: workers use `brokers.redis.url` without loading a broker, and only programs
    # that use redis-py wait for its import.
    from ..model.limits import DEFAULT_LIMITS

    if url is None:
        from .memory import MemoryBroker

        return MemoryBroker(limits or DEFAULT_LIMITS)
    from .redis.broker import RedisBroker

    return RedisBroker(url, limits or DEFAULT_LIMITS)
