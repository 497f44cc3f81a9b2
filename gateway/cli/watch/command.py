"""`gateway watch`: its arguments, options and exit codes. (`run_watch` does the work.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..client_options import gateway_options
from ..exits import EXIT_UNREACHABLE, fail
from ..options import job_or_prefix_argument

if TYPE_CHECKING:
    from ...worker.publisher import Token

__all__ = ["watch"]


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, callback=job_or_prefix_argument)
@gateway_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print each frame of a job or a set, one per line."
)
@click.option(
    "--mode",
    type=click.Choice(["latest", "every"]),
    default="latest",
    show_default=True,
    help="latest: only the newest state when updates are fast. every: each update.",
)
def watch(jobs: tuple[str, ...], *, url: str, token: Token, as_json: bool, mode: str) -> None:
    """Follow one or more jobs until all have ended.

    'user:7:*' watches all jobs whose ids have this prefix, including those that start later. The
    newest 200 are shown, until the command is interrupted.

    It draws bars in a terminal, and prints lines elsewhere. It reconnects after a lost connection,
    without a time limit. Exits with 0 if all jobs have succeeded, 1 if one has failed or was
    cancelled, 3 if the gateway refuses the connection.
    """
    from .client import Refused
    from .run_watch import watch_until_final

    try:
        code = watch_until_final(jobs, url, token=token, as_json=as_json, mode=mode)
    except Refused as error:
        fail(str(error), code=EXIT_UNREACHABLE)
    raise SystemExit(code)
