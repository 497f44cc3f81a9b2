"""`gateway watch`: jobs in the terminal, live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .calling import asks
from .flags import REFUSED, give_up, job_argument

if TYPE_CHECKING:
    from ..worker.publisher import Token

__all__ = ["watch"]


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, callback=job_argument)
@asks
@click.option("--json", "as_json", is_flag=True, help="Print each progress frame, one a line.")
@click.option(
    "--mode",
    type=click.Choice(["latest", "every"]),
    default="latest",
    show_default=True,
    help="The newest state when there is much to tell, or each single one.",
)
def watch(jobs: tuple[str, ...], *, url: str, token: Token, as_json: bool, mode: str) -> None:
    """Follow one or more jobs until all have ended.

    Bars in a terminal, plain lines elsewhere. A lost connection is made again, for as
    long as it takes. Exits with 0 if all jobs succeeded, 1 if one failed or was
    cancelled, 3 if the gateway refuses.
    """
    from .line import Refused
    from .watching import watch_until_final

    try:
        code = watch_until_final(jobs, url, token=token, as_json=as_json, mode=mode)
    except Refused as error:
        give_up(str(error), code=REFUSED)
    raise SystemExit(code)
