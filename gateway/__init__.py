"""Live job progress, from any worker to every browser, that is never wrong.

A worker needs only `Job` (and its queue `announce`); importing them loads no part of the
server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .broker import Broker, Receipt
    from .brokers.memory import MemoryBroker
    from .errors import GatewayError, InvalidInput
    from .limits import Limits
    from .node import Node
    from .server import Gateway, serve_gateway
    from .worker import Job, announce

__all__ = [
    "Broker",
    "Gateway",
    "GatewayError",
    "InvalidInput",
    "Job",
    "Limits",
    "MemoryBroker",
    "Node",
    "Receipt",
    "announce",
    "serve_gateway",
]

_HOMES = {
    "Broker": "broker",
    "Gateway": "server",
    "GatewayError": "errors",
    "InvalidInput": "errors",
    "Job": "worker",
    "Limits": "limits",
    "MemoryBroker": "brokers.memory",
    "Node": "node",
    "Receipt": "broker",
    "announce": "worker",
    "serve_gateway": "server",
}


def __getattr__(name: str) -> object:
    # Lazy (PEP 562), so that a worker loads no server.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
