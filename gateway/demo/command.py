"""`gateway demo`: a gateway with workers on this machine."""

from __future__ import annotations

import click

from ..cli.exits import EXIT_UNREACHABLE, fail, fail_for_setting, require_server_packages
from ..cli.options import setting_options
from ..config import settings

__all__ = ["demo"]


@click.command()
@setting_options(settings.BIND)
@setting_options(settings.REDIS)
@click.option("--once", is_flag=True, help="Run each job once, then print how each ended.")
@click.option("--quick", is_flag=True, help="Work on a fifth of the files.")
@click.pass_context
def demo(context: click.Context, bind: str, redis: str | None, *, once: bool, quick: bool) -> None:
    """Start a gateway and watch real jobs at work on your Python installation.

    Worker processes hash, compress, parse and index it. One is a group that can be stopped, one
    fails on purpose, and one is killed. It runs until Ctrl-C. With --once it takes about a minute
    (with --quick, some 15 seconds), and exits with 0 if every job ended as expected. With --redis
    the jobs are stored there, and the workers report directly to it.
    """
    require_server_packages()
    from ..cli.logs import log_to_stderr
    from ..model.errors import BrokerUnavailable, InvalidSettings
    from .show import run_demo

    log_to_stderr("warning")
    given = context.get_parameter_source("bind") is not click.core.ParameterSource.DEFAULT
    try:
        code = run_demo(bind, any_port=not given, once=once, quick=quick, broker_url=redis)
    except InvalidSettings as error:
        fail_for_setting(error)
    except BrokerUnavailable as error:
        fail(f"--redis (PROGRESS_GATEWAY_REDIS): {error}", code=EXIT_UNREACHABLE)
    raise SystemExit(code)
