"""One process of `gateway serve`: it starts, prints its addresses, and drains on SIGTERM."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import click
import trio

from ...auth.factory import open_authenticator
from ...brokers import open_broker
from ...config.settings import with_shards
from ...config.settings_file import limits_of
from ...server import Gateway, Internal, serve_gateway
from ...transports.proxies import Network, Proxies
from .. import summary
from ..signals import Stop, run_until_signal
from . import file_limit
from .gc_tuning import Collector, configure_gc
from .reload import SettingsFile, reload_on_sighup
from .supervisor_pipe import wait_until_released
from .systemd import keep_watchdog, notify

__all__ = ["print_addresses", "serve_until_signal"]

log = logging.getLogger("gateway.cli")

SHUTDOWN_DELAY = 5.0
"""Seconds. Kubernetes removes a terminating pod from its Service within one or two seconds."""


def serve_until_signal(
    bind: str,
    *,
    settings_file: SettingsFile | None,
    limits: Mapping[str, Any],
    broker_url: str | None,
    shards: int | None,
    shutdown_timeout: float,
    insecure: bool,
    internal_bind: str | None,
    internal: frozenset[str],
    trusted_proxies: tuple[Network, ...],
    client_ip_header: str,
    shutdown_delay: float | None,
    exit_if_unavailable: bool,
    supervised: bool = False,
    **authenticator_settings: Any,
) -> None:
    """Serves until SIGINT or SIGTERM, then drain.

    A `supervised` process also drains when its supervisor releases it (`supervisor_pipe`).

    Args:
        settings_file: The settings file, if there is one.
        limits: Its table `limits`.
        supervised: Whether this is one of several server processes.

    The other arguments are the settings of those names.

    Raises:
        InvalidSettings: One of them is wrong.
        BrokerUnavailable: The Redis does not answer, with `exit_if_unavailable`.
    """
    configure_gc()
    file_limit.raise_soft_limit()
    checked_limits = limits_of(limits, shutdown_timeout=shutdown_timeout)
    broker_url = with_shards(broker_url, shards)
    authenticator = open_authenticator(
        broker_url=broker_url, insecure=insecure, limits=checked_limits, **authenticator_settings
    )
    broker = open_broker(broker_url, checked_limits)
    serve = partial(
        serve_gateway,
        bind,
        broker,
        checked_limits,
        authenticator=authenticator,
        internal=None if internal_bind is None else Internal(internal_bind, internal),
        insecure=insecure,
        proxies=Proxies(trusted_proxies, client_ip_header),
        wait_for_broker=not exit_if_unavailable,
    )
    stop = Stop()
    delay = default_shutdown_delay(supervised) if shutdown_delay is None else shutdown_delay
    work = partial(
        _serve,
        serve,
        stop,
        broker_url=broker_url,
        delay=delay,
        settings_file=settings_file,
        supervised=supervised,
    )
    stop_signal = run_until_signal(work, stop=stop)
    log.info("exiting after %s", stop_signal.name if stop_signal else "release by the supervisor")


def default_shutdown_delay(supervised: bool, environ: Mapping[str, str] = os.environ) -> float:
    """Returns for how many seconds connections are still accepted after SIGTERM, without a setting.

    A supervisor or Kubernetes routes connections to several processes, and notices only after a
    while that one is no longer ready. In a terminal nothing routes connections to this process.
    """
    is_routed = supervised or "KUBERNETES_SERVICE_HOST" in environ
    return SHUTDOWN_DELAY if is_routed and not sys.stderr.isatty() else 0.0


async def _serve(
    serve: Callable[..., Awaitable[None]],
    stop: Stop,
    *,
    broker_url: str | None,
    delay: float,
    settings_file: SettingsFile | None,
    supervised: bool,
) -> None:
    async with trio.open_nursery() as nursery:
        if supervised:
            nursery.start_soon(_stop_when_released, stop)
        gateway: Gateway = await nursery.start(serve)
        # From now on a proxy may route connections to this process.
        stop.delay, stop.on_request = delay, gateway.node.announce_shutdown
        nursery.start_soon(keep_watchdog)
        nursery.start_soon(Collector().run)
        await nursery.start(reload_on_sighup, gateway.node, settings_file)
        for subject, text in (
            *summary.describe_access(gateway.node.authenticator),
            summary.describe_broker(broker_url),
        ):
            log.info("%s: %s", subject, text)
        if not supervised:
            print_addresses(gateway.addresses, gateway.internal_addresses)
        notify("READY=1")
        try:
            await trio.sleep_forever()
        finally:
            notify("STOPPING=1")


async def _stop_when_released(stop: Stop) -> None:
    await wait_until_released()
    stop.request()


def print_addresses(public: Iterable[tuple[str, int]], internal: Iterable[tuple[str, int]]) -> None:
    """Prints where connections are accepted: a line for each (host, port), flushed at once."""
    for url in map(_url, public):
        click.echo(f"Serving on {url}/")  # flushes
    for url in map(_url, internal):
        click.echo(f"Serving the internal endpoints on {url}/")


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
