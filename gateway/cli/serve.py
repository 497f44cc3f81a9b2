"""`gateway serve`: the gateway, until it is told to leave."""

from __future__ import annotations

import click

from .. import settings
from .flags import REFUSED, complain, give_up, set_by

__all__ = ["serve"]


@click.command()
@set_by(settings.BIND)
@set_by(settings.DRAIN)
@set_by(settings.LOG_LEVEL)
@set_by(settings.REDIS)
def serve(bind: str, drain: float, log_level: str, redis: str | None) -> None:
    """Serve workers, browsers and the page on one port.

    SIGTERM and Ctrl-C send the clients away in order, within the drain time, and end
    with exit code 0; a second one ends it at once. Jobs are kept in memory, or in a Redis
    that several nodes share.
    """
    from ..errors import BrokerUnavailable, InvalidSettings
    from ..limits import Limits
    from .logs import log_to_stderr
    from .serving import serve_until_told

    log_to_stderr(log_level)
    try:
        serve_until_told(bind, redis=redis, limits=Limits(drain_timeout=drain))
    except InvalidSettings as error:
        complain(error)
    except BrokerUnavailable as error:
        give_up(f"--redis (GATEWAY_REDIS): {error}", code=REFUSED)
