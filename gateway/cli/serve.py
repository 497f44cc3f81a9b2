"""`gateway serve`: the gateway, until it is told to leave."""

from __future__ import annotations

from typing import Any

import click

from .. import settings
from .flags import REFUSED, complain, configured, give_up, set_by

__all__ = ["serve"]


@click.command()
@configured
@set_by(*settings.SERVING, settings.LOG_LEVEL)
@click.pass_context
def serve(context: click.Context, /, log_level: str, redis: str | None, **values: Any) -> None:
    """Serve workers, browsers and the page on one port.

    SIGTERM and Ctrl-C send the clients away in order, within the drain time, and end
    with exit code 0; a second one ends it at once. Jobs are kept in memory, or in a Redis
    that several nodes share.

    Without keys everybody who reaches the address may do everything, so it has to be one
    of the loopback. With keys (--keys, GATEWAY_SECRET) each client needs a token, as
    `gateway token` makes them.

    SIGHUP reads the keys anew, and the limits of the configuration file, for who comes
    from then on.
    """
    from ..errors import BrokerUnavailable, InvalidSettings
    from .logs import log_to_stderr
    from .serving import serve_until_told

    log_to_stderr(log_level)
    try:
        config, limits = (context.meta.get(f"gateway.{name}") for name in ("config", "limits"))
        serve_until_told(redis=redis, config=config, limits=limits or {}, **values)
    except InvalidSettings as error:
        complain(error)
    except BrokerUnavailable as error:
        give_up(f"--redis (GATEWAY_REDIS): {error}", code=REFUSED)
