"""`gateway serve`: runs a gateway until SIGTERM or Ctrl-C."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ...config import settings
from ..exits import EXIT_UNREACHABLE, fail, fail_for_setting, require_server_packages
from ..options import config_option, setting_options

if TYPE_CHECKING:
    from .reload import SettingsFile

__all__ = ["serve"]


@click.command()
@config_option
@setting_options(*settings.SERVING, settings.LOG_LEVEL)
@click.option(
    "--process-number", type=int, hidden=True
)  # which of --processes this is: `supervisor.py`
@click.pass_context
def serve(
    context: click.Context,
    /,
    log_level: str,
    redis: str | None,
    processes: int,
    process_number: int | None,
    **values: Any,
) -> None:
    """Serve workers, browsers and the page on one port.

    Jobs are kept in memory, or in a Redis that several nodes share.

    SIGTERM and Ctrl-C drain: clients are asked to reconnect to another node, within the shutdown
    timeout, and the exit code is 0. A second signal exits at once.

    Without keys there is no authentication, so the gateway binds to loopback addresses only.
    With keys (--keys, PROGRESS_GATEWAY_SECRET) each client needs a token; `gateway token`
    makes one.

    SIGHUP reads the keys again, and `keys` and the limits of the configuration file. They
    apply to new connections.
    """
    require_server_packages()
    import faulthandler

    from ...model.errors import BrokerUnavailable, InvalidSettings
    from ..logs import log_to_stderr

    log_to_stderr(log_level)
    faulthandler.enable()  # SIGABRT, by systemd or the supervisor, prints where it hangs
    limits = context.meta.get("gateway.limits", {})
    try:
        if processes > 1 and process_number is None:
            _run_supervisor(processes, redis, limits, **values)
        else:
            _run_server_process(context, process_number, broker_url=redis, limits=limits, **values)
    except InvalidSettings as error:
        fail_for_setting(error)
    except BrokerUnavailable as error:
        fail(f"{settings.REDIS.flag} ({settings.REDIS.variable}): {error}", code=EXIT_UNREACHABLE)


def _run_server_process(context: click.Context, process_number: int | None, **values: Any) -> None:
    from structlog.contextvars import bind_contextvars

    from .server_process import serve_until_signal

    if process_number is not None:
        bind_contextvars(server_process=process_number)
    serve_until_signal(
        settings_file=_settings_file(context), supervised=process_number is not None, **values
    )


def _settings_file(context: click.Context) -> SettingsFile | None:
    from ...config.settings_file import limits_of
    from .reload import SettingsFile

    path = context.meta.get("gateway.config")
    if path is None:
        return None
    from_file = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    effective_names = {
        name for name in context.params if context.get_parameter_source(name) in from_file
    }
    limits = limits_of(
        context.meta.get("gateway.limits", {}), shutdown_timeout=context.params["shutdown_timeout"]
    )
    return SettingsFile(path, context.default_map or {}, frozenset(effective_names), limits)


def _run_supervisor(
    processes: int, broker_url: str | None, limits: Mapping[str, Any], **values: Any
) -> None:
    from .supervisor import CannotStart, supervise_until_signal

    supervisor_settings = {
        name: values[name]
        for name in ("bind", "internal_bind", "shutdown_timeout", "shutdown_delay")
    }
    try:
        supervise_until_signal(
            processes=processes, broker_url=broker_url, limits=limits, **supervisor_settings
        )
    except CannotStart as error:
        raise SystemExit(error.code) from None
