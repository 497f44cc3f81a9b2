"""Where job states live. `open_broker` chooses the broker by the scheme of its URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model.limits import Limits
    from .base import Broker

__all__ = ["open_broker"]


def open_broker(url: str | None, limits: Limits | None = None) -> Broker:
    """Return the broker in the Redis at `url`; with None, one in this process's memory.

    Raises:
        InvalidSettings: `url` names no broker.
    """
    # Imported here: workers use `brokers.redis.url` without loading any broker, and only
    # those who use redis-py wait for its import.
    from ..model.limits import DEFAULT_LIMITS

    if url is None:
        from .memory import MemoryBroker

        return MemoryBroker(limits or DEFAULT_LIMITS)
    from .redis.broker import RedisBroker

    return RedisBroker(url, limits or DEFAULT_LIMITS)
