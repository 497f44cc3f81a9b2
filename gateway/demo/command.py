"""`gateway demo`: a gateway with workers on this machine."""

from __future__ import annotations

import click

from ..cli.options import REFUSED, exit_for_setting, give_up, needs_server, set_by
from ..config import settings

__all__ = ["demo"]


@click.command()
@set_by(settings.BIND)
@set_by(settings.REDIS)
@click.option("--once", is_flag=True, help="Run each job once, then print how each ended.")
@click.pass_context
def demo(context: click.Context, bind: str, redis: str | None, *, once: bool) -> None:
    """Start a gateway and watch real jobs at work on your Python installation.

    Worker processes hash, compress and parse it. One is a group that can be stopped, one fails on
    purpose, and one is killed. It runs until Ctrl-C. With --once it takes about a minute, and exits
    with 0 if every job ended as expected. With --redis the jobs are stored there, and the workers
    report directly to it.
    """
    needs_server()
    from ..cli.logs import log_to_stderr
    from ..model.errors import BrokerUnavailable, InvalidSettings
    from .show import run_demo

    log_to_stderr("warning")
    given = context.get_parameter_source("bind") is not click.core.ParameterSource.DEFAULT
    try:
        code = run_demo(bind, any_port=not given, once=once, broker_url=redis)
    except InvalidSettings as error:
        exit_for_setting(error)
    except BrokerUnavailable as error:
        give_up(f"--redis (PROGRESS_GATEWAY_REDIS): {error}", code=REFUSED)
    raise SystemExit(code)
