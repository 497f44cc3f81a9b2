"""Serving, as `gateway serve` does it: start, say where, drain when told."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import click
import trio

from ..auth.opening import open_gate
from ..brokers import open_broker
from ..server import Gateway, Internal, serve_gateway
from ..settings import in_shards
from ..settings_file import limits_of
from ..transports.addresses import Network, Proxies
from . import descriptors
from .collector import calm_down, collect
from .leash import until_let_go
from .reloading import File, reload_when_told
from .signals import run_until_told
from .systemd import keep_watchdog, notify

__all__ = ["announce", "serve_until_told"]

log = logging.getLogger("gateway.cli")


def serve_until_told(
    bind: str,
    *,
    file: File | None,
    limits: Mapping[str, Any],
    redis: str | None,
    shards: int | None,
    drain: float,
    insecure: bool,
    internal_bind: str | None,
    internal: frozenset[str],
    trusted_proxies: tuple[Network, ...],
    forwarded: str,
    supervised: bool = False,
    **of_the_gate: Any,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain; from memory, or the Redis at that URL.

    The arguments are the settings of those names; `limits` is the table of `file`. Who is
    `supervised` leaves when its supervisor lets go, too (`leash.py`). Raises
    `InvalidSettings`, and `BrokerUnavailable` if there is no Redis to begin with.
    """
    calm_down()
    descriptors.raise_to_allowed()
    bounds = limits_of(limits, drain=drain)
    redis = in_shards(redis, shards)
    gate = open_gate(redis=redis, insecure=insecure, limits=bounds, **of_the_gate)
    broker = open_broker(redis, bounds)
    serve = partial(
        serve_gateway,
        bind,
        broker,
        bounds,
        gate=gate,
        internal=None if internal_bind is None else Internal(internal_bind, internal),
        insecure=insecure,
        proxies=Proxies(trusted_proxies, forwarded),
    )
    told_by = run_until_told(partial(_serve, serve, file=file, drain=drain, supervised=supervised))
    log.info("left, as told by %s", told_by.name if told_by else "the supervisor")


async def _serve(
    serve: Callable[..., Awaitable[None]], *, file: File | None, drain: float, supervised: bool
) -> None:
    async with trio.open_nursery() as nursery:
        if supervised:
            nursery.start_soon(_leave_when_let_go, nursery.cancel_scope)
        gateway: Gateway = await nursery.start(serve)
        nursery.start_soon(keep_watchdog)
        nursery.start_soon(collect)
        await nursery.start(partial(reload_when_told, gateway.node, file, drain=drain))
        if not supervised:
            announce(gateway.addresses, gateway.internal_addresses)
        notify("READY=1")
        try:
            await trio.sleep_forever()
        finally:
            notify("STOPPING=1")


async def _leave_when_let_go(serving: trio.CancelScope) -> None:
    await until_let_go()
    serving.cancel()


def announce(public: Iterable[tuple[str, int]], inside: Iterable[tuple[str, int]]) -> None:
    """Print where connections are taken: a line for each (host, port), at once."""
    for url in map(_url, public):
        click.echo(f"Serving on {url}/")  # flushes
    for url in map(_url, inside):
        click.echo(f"Serving inside on {url}/")


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
