"""`gateway serve`: the gateway, until it is told to leave."""

from __future__ import annotations

import click

from .. import settings
from .flags import complain, set_by

__all__ = ["serve"]

GOODBYES = 4
"""How many time-outs of a closing handshake fit in the drain time: the WebSocket's, TCP's,
and as much again for the work around them."""


@click.command()
@set_by(settings.BIND)
@set_by(settings.DRAIN)
@set_by(settings.LOG_LEVEL)
def serve(bind: str, drain: float, log_level: str) -> None:
    """Serve workers, browsers and the page on one port.

    SIGTERM and Ctrl-C send the clients away in order, within the drain time, and end
    with exit code 0; a second one ends it at once. Jobs are kept in memory.
    """
    from ..errors import InvalidSettings
    from ..limits import Limits
    from .logs import log_to_stderr
    from .serving import serve_until_told

    log_to_stderr(log_level)
    # A client that does not answer our goodbye must not outlast a short drain.
    goodbye = min(Limits().close_timeout, drain / GOODBYES)
    try:
        serve_until_told(bind, limits=Limits(drain_timeout=drain, close_timeout=goodbye))
    except InvalidSettings as error:
        complain(error)
