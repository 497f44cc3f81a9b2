"""`gateway run`: any command, with its progress shown."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...config.settings import TOKEN, TOKEN_FILE, URL
from ..client_options import report_options
from ..options import WRONG, give_up, job_argument, traceparent

if TYPE_CHECKING:
    from ...worker import Job
    from ...worker.publisher import Token
    from .matching import Profile

__all__ = ["run"]


@click.command()
@click.argument("job", callback=job_argument)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@report_options
@click.option("--weight", type=float, metavar="NUMBER", help="The job's weight in its group.")
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
    help="How long to wait at the end until the gateway has the final state.",
)
@click.option(
    "--read",
    "patterns",
    metavar="REGEX",
    multiple=True,
    help="A regular expression for progress, with the groups done, total, percent, phase: "
    "--read '(?P<done>\\d+) of (?P<total>\\d+)'. May be given several times.",
)
@click.option(
    "--profile",
    metavar="NAME",
    help="Read the output as this program's, or, with `none`, do not read it. "
    "Default: by the command's name.",
)
@click.option(
    "--pty", is_flag=True, help="Give the command a terminal: colours, bars, whole lines."
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 3_600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="If a client cancels the job: the time from SIGTERM to SIGKILL.",
)
@click.option("--no-cancel", is_flag=True, help="Do not let clients cancel the job.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Run the command, and print the reports instead of sending them.",
)
def run(
    job: str,
    *,
    command: tuple[str, ...],
    url: str,
    token: Token,
    weight: float | None,
    lease: float,
    wait: float,
    patterns: tuple[str, ...],
    profile: str | None,
    pty: bool,
    grace: float,
    no_cancel: bool,
    dry_run: bool,
) -> None:
    """Run COMMAND as JOB and end with its exit code.

    The command's output is forwarded unchanged. Percentages (37%) and counts (12/40) in it are the
    job's progress, and the last line is its message. The job succeeds if the exit code is 0. The
    command also runs if the gateway is unavailable. Many programs draw no progress bar if their
    output is not a terminal: see --pty.

    \b
    gateway run site:backup -- rsync -a --info=progress2 site/ backup/
    """
    from ...worker import Job
    from ..logs import log_to_stderr
    from .child import EXIT_CODES, run_child
    from .reader import Reader
    from .reporter import DryRun

    read_with, arguments = _profile(patterns, profile, command)
    log_to_stderr("warning", form="gateway: %(message)s")
    reported: Job | DryRun
    environment: dict[str, str] = {}
    if dry_run:
        reported = DryRun(job, read_with, command)
    else:
        try:
            reported = Job(
                job,
                url=url,
                token=token,
                weight=weight,
                lease=lease,
                timeout=wait,
                accepts=() if no_cancel else ("cancel",),
                traceparent=traceparent(),
            )
        except ValueError as error:
            give_up(str(error), code=WRONG)
        environment = _for_child(reported, url, token)
        logging.getLogger("gateway.worker").addFilter(_not_by_the_command)
    try:
        code = run_child(
            command,
            reported,
            reader=lambda: Reader(read_with, arguments),
            unit=read_with.unit if read_with else None,
            terminal=pty,
            grace=grace,
            environment=environment,
        )
    except OSError as error:
        reason = f"{command[0]}: {error.strerror or error}"
        reported.fail(reason)
        reported.wait()
        give_up(reason, code=EXIT_CODES.get(type(error), 126))
    raise SystemExit(code)


def _not_by_the_command(record: logging.LogRecord) -> bool:
    """A log filter that drops the message that the job has already ended: the command has done
    it."""
    return not getattr(record, "job_ended_elsewhere", False)


def _profile(
    patterns: Sequence[str], name: str | None, command: Sequence[str]
) -> tuple[Profile | None, list[str]]:
    """The profile for reading the output, and the arguments of the program."""
    from .matching import Profile
    from .profiles import PROFILES, named, profile_for

    found, arguments = profile_for(command)
    if patterns:
        try:
            found = Profile(name="--read", lines=tuple(patterns))
        except re.error as error:
            give_up(f"--read: not a regular expression: {error}", code=WRONG)
        groups = {group for pattern in found.lines for group in pattern.groupindex}
        unknown = groups - {"done", "total", "percent", "phase"}
        if unknown or not groups & {"done", "percent"}:
            wrong = f"not {', '.join(sorted(unknown))}" if unknown else "done or percent is needed"
            give_up(f"--read: groups are done, total, percent, phase; {wrong}", code=WRONG)
    elif name == "none":
        found = Profile(name="none")
    elif name is not None:
        found = named(name)
        if found is None:
            known = ", ".join(dict.fromkeys(profile.name for profile in PROFILES))
            give_up(f"--profile: unknown profile {name!r}; known are none, {known}", code=WRONG)
    return found, arguments


def _for_child(job: Job, url: str, token: Token) -> dict[str, str]:
    """Environment variables with which a `Job` in the command joins this run of the job."""
    from ...worker.inside_run import JOB_VARIABLE, RUN_VARIABLE

    variables = {JOB_VARIABLE: job.name, RUN_VARIABLE: job.run, URL.variable: url}
    if isinstance(token, Path):
        variables[TOKEN_FILE.variable] = str(token)
    elif token:
        variables[TOKEN.variable] = str(token)
    return variables
