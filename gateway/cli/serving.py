"""Serving, as `gateway serve` does it: start, say where, drain when told."""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import click
import trio

from ..auth.opening import open_gate
from ..brokers import open_broker
from ..errors import InvalidSettings
from ..server import Gateway, Internal, serve_gateway
from ..settings import in_shards
from ..settings_file import limits_of, read_file
from ..transports.addresses import Network, Proxies
from . import descriptors
from .collector import calm_down, collect
from .leash import until_let_go
from .signals import run_until_told
from .systemd import keep_watchdog, notify, reloading

__all__ = ["announce", "serve_until_told"]

log = logging.getLogger("gateway.cli")


def serve_until_told(
    bind: str,
    *,
    config: str | None,
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

    The arguments are the settings of those names; `limits` is the table of the file at
    `config`. Who is `supervised` leaves when its supervisor lets go, too (`leash.py`).
    Raises `InvalidSettings`, and `BrokerUnavailable` if there is no Redis to begin with.
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
    told_by = run_until_told(
        partial(_serve, serve, config=config, drain=drain, supervised=supervised)
    )
    log.info("left, as told by %s", told_by.name if told_by else "the supervisor")


async def _serve(
    serve: Callable[..., Awaitable[None]], *, config: str | None, drain: float, supervised: bool
) -> None:
    async with trio.open_nursery() as nursery:
        if supervised:
            nursery.start_soon(_leave_when_let_go, nursery.cancel_scope)
        gateway: Gateway = await nursery.start(serve)
        nursery.start_soon(keep_watchdog)
        nursery.start_soon(collect)
        await nursery.start(partial(_reload_when_told, gateway, config=config, drain=drain))
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


async def _reload_when_told(
    gateway: Gateway, *, config: str | None, drain: float, task_status: trio.TaskStatus[None]
) -> None:
    """On SIGHUP read keys and limits anew. What cannot be read leaves all as it was."""
    node = gateway.node
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            notify(*reloading())
            try:
                limits = node.limits
                if config is not None:
                    _, table = read_file(await trio.Path(config).read_text("utf-8"))
                    limits = limits_of(table, drain=drain)
                if node.gate.keys is not None:
                    await trio.to_thread.run_sync(node.gate.keys.load)
                node.limits = node.gate.limits = limits
            except (OSError, UnicodeDecodeError, InvalidSettings) as error:
                log.error("nothing is reloaded: %s", error)  # noqa: TRY400 - the text is all there is to say
            else:
                log.info("keys and limits are reloaded, for who comes from now on")
            notify("READY=1")


def announce(public: Iterable[tuple[str, int]], inside: Iterable[tuple[str, int]]) -> None:
    """Print where connections are taken: a line for each (host, port), at once."""
    for url in map(_url, public):
        click.echo(f"Serving on {url}/")  # flushes
    for url in map(_url, inside):
        click.echo(f"Serving inside on {url}/")


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
