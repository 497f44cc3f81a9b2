"""The places states can live: one module a broker."""

from __future__ import annotations

from ..broker import Broker
from ..limits import DEFAULT_LIMITS, Limits
from .memory import MemoryBroker

__all__ = ["open_broker"]


def open_broker(redis: str | None, limits: Limits = DEFAULT_LIMITS) -> Broker:
    """The broker in the Redis at that URL; None: in this process's memory.

    Raises `InvalidSettings`.
    """
    if redis is None:
        return MemoryBroker(limits)
    from .redis import RedisBroker  # redis-py takes its time, and only who uses it needs it

    return RedisBroker(redis, limits)
