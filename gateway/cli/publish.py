"""`gateway publish`: sends one update, for shell scripts and for experiments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..model.constants import MAX_NUMBER
from ..model.statuses import HINTS, STATUSES
from .client_options import report_options, require_token
from .exits import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, fail
from .options import job_argument, traceparent_from_environment
from .terminal import echo

if TYPE_CHECKING:
    from ..worker.publisher import PublishResult, Token

__all__ = ["publish"]


def _json_option(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Returns the value in a tuple, because it may be null; None if the option is not given."""
    if text is None:
        return None
    try:
        return (json.loads(text),)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", context, parameter) from None


def _children_option(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """Returns the number, or None for `open`, in a tuple; None if the option is not given."""
    if text is None or text == "open":
        return None if text is None else (None,)
    try:
        return (float(text),)
    except ValueError:
        raise click.BadParameter("neither a number nor open", context, parameter) from None


@click.command()
@click.argument("job", callback=job_argument)
@click.option(
    "--status", type=click.Choice(STATUSES), help="Default: running for a new job, else unchanged."
)
@click.option("--percent", type=float, metavar="0-100")
@click.option("--done", type=float, metavar="NUMBER", help="How much of --total is done.")
@click.option("--total", type=float, metavar="NUMBER")
@click.option("--unit", metavar="TEXT", help="What is counted, such as frames.")
@click.option("--phase", metavar="TEXT")
@click.option("--message", metavar="TEXT")
@click.option("--error", metavar="TEXT", help="Why it failed.")
@click.option(
    "--data", metavar="JSON", callback=_json_option, help="Data of the application, ≤ 8 KiB."
)
@click.option(
    "--children",
    metavar="NUMBER",
    callback=_children_option,
    help="Declare a group of the jobs JOB/…: their total weight, or `open` if it is unknown.",
)
@click.option("--weight", type=float, metavar="NUMBER", help="The job's weight in its group.")
@click.option(
    "--lease",
    type=float,
    metavar="SECONDS",
    help="How long without a report until the job is shown as stalled.",
)
@click.option("--start", is_flag=True, help="Open the next attempt.")
@click.option(
    "--attempt",
    type=click.IntRange(1, MAX_NUMBER),
    metavar="NUMBER",
    help="The attempt of this update. It is rejected if there is a newer one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@report_options
def publish(
    job: str,
    *,
    as_json: bool,
    url: str,
    token: Token,
    status: str | None,
    start: bool,
    attempt: int | None,
    **fields: Any,
) -> None:
    """Report once on JOB. Fields that are not given stay unchanged; a text that is too
    long is cut.

    Exits with 0 if the update was applied or changed nothing, 1 if it was rejected or the
    gateway refuses the token, 2 if it is invalid or the token file has no token, 3 if the gateway,
    or the Redis that --url names, does not answer.
    """
    from ..worker import checks, publisher
    from ..worker.limits import REPORTING_OFF
    from ..worker.publisher import Rejected, Unreachable

    call_fields = {
        "status": status,
        "start": start,
        "attempt": attempt,
        "traceparent": traceparent_from_environment(),
    }
    update = {name: value for name, value in call_fields.items() if value}
    values = {name: value for name, value in fields.items() if value is not None}
    for name in ("data", "children"):
        if name in values:
            (values[name],) = values[name]
    try:
        update |= checks.update(**values)
    except ValueError as error:
        fail(f"--{error}", code=EXIT_USAGE)
    if url.lower() == REPORTING_OFF:
        return
    if url.startswith(("http://", "https://")):
        # As a text, so that its refusal is not temporary, as it is for a worker with a token file.
        token = require_token(token)
    connection = publisher.connect(url, token)
    try:
        result = publisher.publish_one(connection, job, update)
    except Unreachable as error:
        fail(f"{publisher.redacted(url)} does not answer: {error}", code=EXIT_UNREACHABLE)
    except Rejected as error:
        # If the error names a field, the update is invalid; otherwise the client is refused.
        fail(f"rejected: {error}", code=EXIT_USAGE if error.field else EXIT_FAILED)
    finally:
        connection.close()
    accepted = result.applied or result.reason == "unchanged"
    if as_json:
        click.echo(_as_json(job, result))
    else:
        echo(_as_line(job, result), err=not accepted)
    raise SystemExit(0 if accepted else EXIT_FAILED)


def _as_json(job: str, result: PublishResult) -> str:
    document = {name: value for name, value in result._asdict().items() if value is not None}
    return json.dumps({"job": job} | document)


def _as_line(job: str, result: PublishResult) -> str:
    prefix = f"{job}: " + (f"attempt {result.attempt}, " if result.attempt > 1 else "")
    if result.applied:
        return f"{prefix}applied"
    if result.reason == "unchanged":
        return f"{prefix}unchanged (the update changes nothing; the lease is renewed)"
    return f"{prefix}rejected: {_explanation(result.reason)}"


def _explanation(reason: str | None) -> str:
    """Returns the gateway's explanation of a reason, with the option of this command."""
    for known, hint in HINTS.items():
        if known == reason:
            return hint.replace("`start: true`", "`--start`")
    return reason or "no reason given"
