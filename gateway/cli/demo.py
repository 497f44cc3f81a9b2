"""`gateway demo`: the whole thing at work, on this machine."""

from __future__ import annotations

import click

from .. import settings
from .flags import REFUSED, complain, give_up, set_by

__all__ = ["demo"]


@click.command()
@set_by(settings.BIND)
@set_by(settings.REDIS)
@click.option("--once", is_flag=True, help="Run each job once, then say how each ended.")
@click.pass_context
def demo(context: click.Context, bind: str, redis: str | None, *, once: bool) -> None:
    """Start a gateway and watch real jobs at work on your Python installation.

    Worker processes hash, compress and parse it; one fails, and one is killed in the
    middle, as happens. It goes on until Ctrl-C. With --once it takes about a minute and
    exits with 0 if every job ended as it should. With --redis the jobs are kept there, and
    the workers report straight to it.
    """
    from ..demo.show import run_demo
    from ..errors import BrokerUnavailable, InvalidSettings
    from .logs import log_to_stderr

    log_to_stderr("warning")
    given = context.get_parameter_source("bind") is not click.core.ParameterSource.DEFAULT
    try:
        code = run_demo(bind, any_port=not given, once=once, redis=redis)
    except InvalidSettings as error:
        complain(error)
    except BrokerUnavailable as error:
        give_up(f"--redis (GATEWAY_REDIS): {error}", code=REFUSED)
    raise SystemExit(code)
