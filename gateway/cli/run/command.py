"""`gateway run`: runs any command as a job."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...config.settings import TOKEN, TOKEN_FILE, URL
from ..client_options import report_options
from ..exits import EXIT_USAGE, fail
from ..options import job_argument, traceparent_from_environment

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
    help="How long without a report until the job is shown as stalled.",
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
    help="Read the output with the profile of this program; `none`: do not read it. "
    "Default: by the command's name.",
)
@click.option(
    "--pty",
    is_flag=True,
    help="Run the command in a pseudo-terminal, so that it prints colours and progress bars.",
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
    from .child import START_ERROR_EXIT_CODES, run_child
    from .reader import Reader
    from .reporter import DryRun

    chosen_profile, arguments = _choose_profile(patterns, profile, command)
    log_to_stderr("warning", line_format="gateway: %(message)s")
    job_reporter: Job | DryRun
    environment: dict[str, str] = {}
    if dry_run:
        job_reporter = DryRun(job, chosen_profile, command)
    else:
        try:
            job_reporter = Job(
                job,
                url=url,
                token=token,
                weight=weight,
                lease=lease,
                timeout=wait,
                accepts=() if no_cancel else ("cancel",),
                traceparent=traceparent_from_environment(),
            )
        except ValueError as error:
            fail(str(error), code=EXIT_USAGE)
        environment = _child_environment(job_reporter, url, token)
        logging.getLogger("gateway.worker").addFilter(_drop_ended_elsewhere)
    try:
        code = run_child(
            command,
            job_reporter,
            reader=lambda: Reader(chosen_profile, arguments),
            unit=chosen_profile.unit if chosen_profile else None,
            terminal=pty,
            grace=grace,
            environment=environment,
        )
    except OSError as error:
        reason = f"{command[0]}: {error.strerror or error}"
        job_reporter.fail(reason)
        job_reporter.wait()
        fail(reason, code=START_ERROR_EXIT_CODES.get(type(error), 126))
    raise SystemExit(code)


def _drop_ended_elsewhere(record: logging.LogRecord) -> bool:
    """Returns a log filter that drops the message that another process has ended the job: the
    command has done so."""
    return not getattr(record, "job_ended_elsewhere", False)


def _choose_profile(
    patterns: Sequence[str], name: str | None, command: Sequence[str]
) -> tuple[Profile | None, list[str]]:
    """Returns the profile for reading the output, and the arguments of the program."""
    from .matching import Profile
    from .profiles import PROFILES, profile_for, profile_named

    chosen, arguments = profile_for(command)
    if patterns:
        try:
            chosen = Profile(name="--read", lines=tuple(patterns))
        except re.error as error:
            fail(f"--read: not a regular expression: {error}", code=EXIT_USAGE)
        groups = {group for pattern in chosen.lines for group in pattern.groupindex}
        unknown = groups - {"done", "total", "percent", "phase"}
        if unknown or not groups & {"done", "percent"}:
            problem = (
                f"not {', '.join(sorted(unknown))}" if unknown else "done or percent is needed"
            )
            fail(f"--read: groups are done, total, percent, phase; {problem}", code=EXIT_USAGE)
    elif name == "none":
        chosen = Profile(name="none")
    elif name is not None:
        chosen = profile_named(name)
        if chosen is None:
            names = ", ".join(dict.fromkeys(profile.name for profile in PROFILES))
            fail(f"--profile: unknown profile {name!r}; known are none, {names}", code=EXIT_USAGE)
    return chosen, arguments


def _child_environment(job: Job, url: str, token: Token) -> dict[str, str]:
    """Returns the environment variables with which a `Job` in the command joins this run."""
    from ...worker.inside_run import JOB_VARIABLE, RUN_VARIABLE

    variables = {JOB_VARIABLE: job.name, RUN_VARIABLE: job.run, URL.variable: url}
    if isinstance(token, Path):
        variables[TOKEN_FILE.variable] = str(token)
    elif token:
        variables[TOKEN.variable] = str(token)
    return variables
