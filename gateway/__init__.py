"""Live job progress, from any worker to every browser.

A worker needs only `Job`, and the program that queues a job only `announce`. Importing them loads
no part of the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from .asgi_app import GatewayApp, create_app
    from .auth.authenticator import Authenticator
    from .auth.connection_auth import ConnectionAuth
    from .auth.factory import open_authenticator
    from .auth.key_sources import KeySources
    from .auth.keys import Key
    from .auth.origins import Origins
    from .auth.permissions import Permissions
    from .auth.revocations import Revocations, Revoked
    from .brokers import open_broker
    from .brokers.base import FEED_RESET, Broker, JobFilter, Page, PublishResult
    from .brokers.memory import MemoryBroker
    from .delivery.hub import HubStatistics
    from .delivery.set_registry import SetStatistics
    from .delivery.transport import Sink, Source
    from .model.children import Children
    from .model.errors import (
        BrokerUnavailable,
        GatewayError,
        InvalidInput,
        InvalidSettings,
        Unauthorized,
    )
    from .model.ids import job_id
    from .model.limits import Limits
    from .model.patterns import Patterns
    from .model.requests import Request
    from .model.state import Event, Position, State, Update
    from .node.node import Node, NodeStatistics
    from .protocol.close_codes import CloseCode
    from .protocol.commands import WatchSet
    from .protocol.messages import Message
    from .protocol.update_fields import UpdateFields
    from .server import Gateway, Internal, open_gateway, serve_gateway
    from .transports.proxies import Proxies
    from .transports.trio_websocket import serve_trio_websocket
    from .worker import Cancelled, Job, JobRequest, Phase, announce

_MODULE_OF = {
    "Authenticator": "auth.authenticator",
    "Broker": "brokers.base",
    "BrokerUnavailable": "model.errors",
    "Cancelled": "worker",
    "Children": "model.children",
    "CloseCode": "protocol.close_codes",
    "ConnectionAuth": "auth.connection_auth",
    "Event": "model.state",
    "FEED_RESET": "brokers.base",
    "Gateway": "server",
    "GatewayApp": "asgi_app",
    "GatewayError": "model.errors",
    "HubStatistics": "delivery.hub",
    "Internal": "server",
    "InvalidInput": "model.errors",
    "InvalidSettings": "model.errors",
    "Job": "worker",
    "JobRequest": "worker",
    "JobFilter": "brokers.base",
    "Key": "auth.keys",
    "KeySources": "auth.key_sources",
    "Limits": "model.limits",
    "Message": "protocol.messages",
    "MemoryBroker": "brokers.memory",
    "Node": "node.node",
    "NodeStatistics": "node.node",
    "Origins": "auth.origins",
    "Page": "brokers.base",
    "Patterns": "model.patterns",
    "Permissions": "auth.permissions",
    "Phase": "worker",
    "Position": "model.state",
    "Proxies": "transports.proxies",
    "PublishResult": "brokers.base",
    "Request": "model.requests",
    "Revocations": "auth.revocations",
    "Revoked": "auth.revocations",
    "SetStatistics": "delivery.set_registry",
    "Sink": "delivery.transport",
    "Source": "delivery.transport",
    "State": "model.state",
    "Unauthorized": "model.errors",
    "Update": "model.state",
    "UpdateFields": "protocol.update_fields",
    "WatchSet": "protocol.commands",
    "announce": "worker",
    "create_app": "asgi_app",
    "job_id": "model.ids",
    "open_authenticator": "auth.factory",
    "open_broker": "brokers",
    "open_gateway": "server",
    "serve_gateway": "server",
    "serve_trio_websocket": "transports.trio_websocket",
}
"""The public names with their modules. A module is imported when one of its names is first used
(PEP 562), so that a worker loads no server code."""

__all__ = [
    "FEED_RESET",
    "Authenticator",
    "Broker",
    "BrokerUnavailable",
    "Cancelled",
    "Children",
    "CloseCode",
    "ConnectionAuth",
    "Event",
    "Gateway",
    "GatewayApp",
    "GatewayError",
    "HubStatistics",
    "Internal",
    "InvalidInput",
    "InvalidSettings",
    "Job",
    "JobFilter",
    "JobRequest",
    "Key",
    "KeySources",
    "Limits",
    "MemoryBroker",
    "Message",
    "Node",
    "NodeStatistics",
    "Origins",
    "Page",
    "Patterns",
    "Permissions",
    "Phase",
    "Position",
    "Proxies",
    "PublishResult",
    "Request",
    "Revocations",
    "Revoked",
    "SetStatistics",
    "Sink",
    "Source",
    "State",
    "Unauthorized",
    "Update",
    "UpdateFields",
    "WatchSet",
    "announce",
    "create_app",
    "job_id",
    "open_authenticator",
    "open_broker",
    "open_gateway",
    "serve_gateway",
    "serve_trio_websocket",
]


def __getattr__(name: str) -> object:
    if name in _MODULE_OF:
        value = getattr(_import_module_of(name), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _import_module_of(name: str) -> ModuleType:
    try:
        return import_module(f".{_MODULE_OF[name]}", __name__)
    except ModuleNotFoundError as error:
        from .config.server_packages import how_to_install, missing_server_packages

        missing = missing_server_packages()
        if not missing:
            raise
        text = f"gateway.{name} needs the server: {how_to_install(missing)}"
        raise ModuleNotFoundError(text, name=error.name) from error


def __dir__() -> list[str]:
    return sorted(__all__)
