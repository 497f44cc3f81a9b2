"""The gateway for `hypercorn -k trio gateway.asgi:app`, with the settings in the environment.

It uses the settings `keys`, `secret`, `audience`, `origins`, `insecure`, `redis`, `shards`,
`exit_if_unavailable` and `hypercorn_guard`. `docs/architecture.md` lists the disadvantages compared
with `gateway serve`.
"""

from __future__ import annotations

import os

from .asgi_app import GatewayApp, create_app
from .auth.factory import open_authenticator
from .brokers import open_broker
from .config.settings import (
    AUDIENCE,
    EXIT_IF_UNAVAILABLE,
    HYPERCORN_GUARD,
    INSECURE,
    KEYS,
    ORIGINS,
    REDIS,
    SECRET,
    SHARDS,
    read_settings,
    with_shards,
)

__all__ = ["app", "create_app"]


_SETTINGS = (
    KEYS,
    SECRET,
    AUDIENCE,
    ORIGINS,
    INSECURE,
    REDIS,
    SHARDS,
    EXIT_IF_UNAVAILABLE,
    HYPERCORN_GUARD,
)


def _from_environment() -> GatewayApp:
    values = read_settings(os.environ, _SETTINGS)
    broker_url = with_shards(values.pop("redis"), values.pop("shards"))
    hypercorn_guard = values.pop("hypercorn_guard")
    exit_if_unavailable = values.pop("exit_if_unavailable")
    return create_app(
        open_broker(broker_url),
        authenticator=open_authenticator(broker_url=broker_url, **values),
        hypercorn_guard=hypercorn_guard,
        wait_for_broker=not exit_if_unavailable,
    )


app = _from_environment()
