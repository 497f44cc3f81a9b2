"""`gateway demo`: the whole thing at work, on this machine."""

from __future__ import annotations

import click

from .. import settings
from .flags import complain, set_by

__all__ = ["demo"]


@click.command()
@set_by(settings.BIND)
@click.option("--once", is_flag=True, help="Run each job once, then say how each ended.")
@click.pass_context
def demo(context: click.Context, bind: str, *, once: bool) -> None:
    """Start a gateway and watch real jobs at work on your Python installation.

    Worker processes hash, compress and parse it; one fails, and one is killed in the
    middle, as happens. It goes on until Ctrl-C. With --once it takes about a minute and
    exits with 0 if every job ended as it should.
    """
    from ..demo.show import run_demo
    from ..errors import InvalidSettings
    from .logs import log_to_stderr

    log_to_stderr("warning")
    given = context.get_parameter_source("bind") is not click.core.ParameterSource.DEFAULT
    try:
        code = run_demo(bind, any_port=not given, once=once)
    except InvalidSettings as error:
        complain(error)
    raise SystemExit(code)
