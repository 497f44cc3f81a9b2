"""Serving, as `gateway serve` does it: start, say where, drain when told."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import click
import trio

from ..auth.opening import open_gate
from ..brokers import open_broker
from ..limits import Limits
from ..server import Gateway, Internal, serve_gateway
from ..settings import in_shards
from ..transports.addresses import Network, Proxies
from .signals import run_until_told

__all__ = ["announce", "serve_until_told"]

log = logging.getLogger("gateway.cli")

COLLECT_AFTER = 20_000, 20, 10
"""Objects more than before; collections of the young, and of the middle-aged, until the
next older are looked at too (`gc.set_threshold`)."""


def serve_until_told(
    bind: str,
    *,
    redis: str | None,
    shards: int | None,
    drain: float,
    insecure: bool,
    internal_bind: str | None,
    internal: frozenset[str],
    trusted_proxies: tuple[Network, ...],
    forwarded: str,
    **of_the_gate: Any,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain; from memory, or the Redis at that URL.

    The arguments are the settings of those names. Raises `InvalidSettings`, and
    `BrokerUnavailable` if there is no Redis to begin with.
    """
    _calm_the_collector()
    limits = Limits(drain_timeout=drain)
    redis = in_shards(redis, shards)
    gate = open_gate(redis=redis, insecure=insecure, limits=limits, **of_the_gate)
    broker = open_broker(redis, limits)
    serve = partial(
        serve_gateway,
        bind,
        broker,
        limits,
        gate=gate,
        internal=None if internal_bind is None else Internal(internal_bind, internal),
        insecure=insecure,
        proxies=Proxies(trusted_proxies, forwarded),
    )
    signal = run_until_told(partial(_serve, serve))
    if signal is not None:
        log.info("left, as told by %s", signal.name)


def _calm_the_collector() -> None:
    """Let the garbage collector look rarely: what it looks through lives long.

    With the default thresholds it goes through every object of ten thousand connections
    again and again (measured: a fifth of the time, in pauses of 200 ms), to find nothing:
    a connection's objects go by reference counts.
    """
    gc.collect()
    gc.freeze()  # modules and classes: for ever
    gc.set_threshold(*COLLECT_AFTER)


async def _serve(serve: Callable[..., Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(serve)
        announce(gateway)


def announce(gateway: Gateway) -> None:
    """Print where it takes connections: a line for each address, at once."""
    for url in map(_url, gateway.addresses):
        click.echo(f"Serving on {url}/")  # flushes
    for url in map(_url, gateway.internal_addresses):
        click.echo(f"Serving inside on {url}/")


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
