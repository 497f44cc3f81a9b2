"""Serving, as `gateway serve` does it: start, say where, drain when told."""

from __future__ import annotations

import logging
from functools import partial

import click
import trio

from ..broker import Broker
from ..limits import Limits
from ..server import Gateway, serve_gateway
from .signals import run_until_told

__all__ = ["announce", "serve_until_told"]

log = logging.getLogger("gateway.cli")


def serve_until_told(bind: str, *, redis: str | None, limits: Limits) -> None:
    """Serve until SIGINT or SIGTERM, then drain; from memory, or the Redis at that URL.

    Raises `InvalidSettings`, and `BrokerUnavailable` if there is no Redis to begin with.
    """
    broker = None
    if redis is not None:
        from ..brokers.redis import RedisBroker

        broker = RedisBroker(redis, limits)
    signal = run_until_told(partial(_serve, bind, broker, limits))
    if signal is not None:
        log.info("left, as told by %s", signal.name)


async def _serve(bind: str, broker: Broker | None, limits: Limits) -> None:
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(serve_gateway, bind, broker, limits)
        announce(gateway)


def announce(gateway: Gateway) -> None:
    """Print where it takes connections: a line for each address, at once."""
    for host, port in gateway.addresses:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"Serving on http://{shown}:{port}/")  # flushes
