"""`gateway run`: any command, with its progress shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .calling import reports
from .flags import WRONG, give_up, job_argument, traceparent

if TYPE_CHECKING:
    from ..worker.publisher import Token

__all__ = ["run"]


@click.command()
@click.argument("job", callback=job_argument)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@reports
@click.option("--parent", metavar="JOB", help="The job this one belongs to.")
@click.option(
    "--lease",
    type=click.FloatRange(1, 86_400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long this process may be silent before the job counts as stalled.",
)
@click.option(
    "--wait",
    type=click.FloatRange(2, 3_600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait, at the end, until the gateway has heard of it.",
)
def run(
    job: str,
    *,
    command: tuple[str, ...],
    url: str,
    token: Token,
    parent: str | None,
    lease: float,
    wait: float,
) -> None:
    """Run COMMAND as JOB and end with its exit code.

    Its output goes through untouched; percentages (37%) and counts (12/40) in it are the
    job's progress, its last line is the job's message. It succeeds with exit code 0.
    The gateway may be away: that never disturbs the command. Many programs draw no bar
    unless they are asked to when their output is not a terminal.

    \b
    gateway run site:backup -- rsync -a --info=progress2 site/ backup/
    """
    from ..worker import Job
    from .child import EXIT_CODES, run_child
    from .logs import log_to_stderr

    log_to_stderr("warning", form="gateway: %(message)s")
    try:
        made = Job(
            job,
            url=url,
            token=token,
            parent=parent,
            lease=lease,
            timeout=wait,
            traceparent=traceparent(),
        )
    except ValueError as error:
        give_up(str(error), code=WRONG)
    try:
        raise SystemExit(run_child(command, made))
    except OSError as error:
        reason = f"{command[0]}: {error.strerror or error}"
        made.fail(reason)
        made.wait()
        give_up(reason, code=EXIT_CODES.get(type(error), 126))
