"""`gateway serve`: the gateway, until it is told to leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from .. import settings
from .flags import REFUSED, complain, configured, give_up, set_by

if TYPE_CHECKING:
    from .reloading import File

__all__ = ["serve"]


@click.command()
@configured
@set_by(*settings.SERVING, settings.LOG_LEVEL)
@click.option("--worker", type=int, hidden=True)  # which of --workers this is: `supervising.py`
@click.pass_context
def serve(
    context: click.Context,
    /,
    log_level: str,
    redis: str | None,
    workers: int,
    worker: int | None,
    **values: Any,
) -> None:
    """Serve workers, browsers and the page on one port.

    SIGTERM and Ctrl-C send the clients away in order, within the drain time, and end
    with exit code 0; a second one ends it at once. Jobs are kept in memory, or in a Redis
    that several nodes share.

    Without keys everybody who reaches the address may do everything, so it has to be one
    of the loopback. With keys (--keys, GATEWAY_SECRET) each client needs a token, as
    `gateway token` makes them.

    SIGHUP reads the keys anew, and `keys` and the limits of the configuration file, for
    who comes from then on.
    """
    import faulthandler

    from ..errors import BrokerUnavailable, InvalidSettings
    from .logs import log_to_stderr

    log_to_stderr(log_level)
    faulthandler.enable()  # who hangs is sent SIGABRT, by systemd or a supervisor
    limits = context.meta.get("gateway.limits", {})
    try:
        if workers > 1 and worker is None:
            _supervise(workers, redis, limits, **values)
        else:
            _serve(context, worker, redis=redis, limits=limits, **values)
    except InvalidSettings as error:
        complain(error)
    except BrokerUnavailable as error:
        give_up(f"--redis (GATEWAY_REDIS): {error}", code=REFUSED)


def _serve(context: click.Context, worker: int | None, **values: Any) -> None:
    from ..about import is_about
    from .serving import serve_until_told

    if worker is not None:
        is_about(worker=worker)
    serve_until_told(file=_file(context), supervised=worker is not None, **values)


def _file(context: click.Context) -> File | None:
    from .reloading import File

    path = context.meta.get("gateway.config")
    if path is None:
        return None
    left_to_it = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    heeded = {name for name in context.params if context.get_parameter_source(name) in left_to_it}
    return File(path, context.default_map or {}, frozenset(heeded))


def _supervise(workers: int, redis: str | None, limits: Mapping[str, Any], **values: Any) -> None:
    from .supervising import CannotStart, supervise_until_told

    ours = {name: values[name] for name in ("bind", "internal_bind", "drain")}
    try:
        supervise_until_told(workers=workers, redis=redis, limits=limits, **ours)
    except CannotStart as error:
        raise SystemExit(error.code) from None
