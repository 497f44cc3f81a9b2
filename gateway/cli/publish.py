"""`gateway publish`: one update, one request. For shell scripts and for trying things."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..model.constants import MAX_NUMBER
from ..model.statuses import STATUSES
from .client_options import report_options
from .options import REFUSED, WRONG, give_up, job_argument, traceparent
from .terminal import echo

if TYPE_CHECKING:
    from ..worker.publisher import PublishResult, Token

__all__ = ["publish"]

REASONS = {
    "unchanged": "nothing changes; the lease is renewed",
    "stale_attempt": "a newer attempt has begun",
    "final": "the job has ended; --start opens a new attempt",
    "other_run": "another run has the attempt; --start opens a new one",
}


def _json(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """The value in a tuple, because null is one too; None if there is none."""
    if text is None:
        return None
    try:
        return (json.loads(text),)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", context, parameter) from None


def _expected(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """The number, or None for `open`, in a tuple; None if it is not given."""
    if text is None or text == "open":
        return None if text is None else (None,)
    try:
        return (float(text),)
    except ValueError:
        raise click.BadParameter("neither a number nor open", context, parameter) from None


@click.command()
@click.argument("job", callback=job_argument)
@click.option("--status", type=click.Choice(STATUSES), help="Default: running, or unchanged.")
@click.option("--percent", type=float, metavar="0-100")
@click.option("--done", type=float, metavar="NUMBER", help="How much of --total is done.")
@click.option("--total", type=float, metavar="NUMBER")
@click.option("--unit", metavar="TEXT", help="What is counted, such as frames.")
@click.option("--phase", metavar="TEXT")
@click.option("--message", metavar="TEXT")
@click.option("--error", metavar="TEXT", help="Why it failed.")
@click.option("--data", metavar="JSON", callback=_json, help="The application's own, ≤ 8 KiB.")
@click.option(
    "--children",
    metavar="NUMBER",
    callback=_expected,
    help="Make it a group of the jobs JOB/…: the weight of all of them, or `open`.",
)
@click.option("--weight", type=float, metavar="NUMBER", help="What it counts in its group.")
@click.option(
    "--lease",
    type=float,
    metavar="SECONDS",
    help="How long the worker may be silent before the job counts as stalled.",
)
@click.option("--start", is_flag=True, help="Open the next attempt.")
@click.option(
    "--attempt",
    type=click.IntRange(1, MAX_NUMBER),
    metavar="NUMBER",
    help="The attempt this belongs to; an older one is rejected.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
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
    """Report once on JOB. Fields that are not given stay as they are; a text that is too
    long is cut.

    Exits with 0 if it is applied or was so already, 1 if it is rejected, 2 if it is
    wrong, 3 if the gateway, or the Redis that --url names, does not answer.
    """
    from ..worker import checks, publisher
    from ..worker.limits import REPORTING_OFF
    from ..worker.publisher import Rejected, Unreachable

    about = {
        "status": status,
        "start": start,
        "attempt": attempt,
        "traceparent": traceparent(),
    }
    update = {name: value for name, value in about.items() if value}
    given = {name: value for name, value in fields.items() if value is not None}
    for name in ("data", "children"):
        if name in given:
            (given[name],) = given[name]
    try:
        update |= checks.update(**given)
    except ValueError as error:
        give_up(f"--{error}", code=WRONG)
    if url.lower() == REPORTING_OFF:
        return
    connection = publisher.connect(url, token)
    try:
        result = publisher.publish_one(connection, job, update)
    except Unreachable as error:
        give_up(f"{publisher.redacted(url)} does not answer: {error}", code=REFUSED)
    except Rejected as error:
        # With a field the update is invalid. Without one the client is refused.
        give_up(f"rejected: {error}", code=WRONG if error.field else 1)
    finally:
        connection.close()
    accepted = result.applied or result.reason == "unchanged"
    if as_json:
        click.echo(_as_json(job, result))
    else:
        echo(_as_line(job, result), err=not accepted)
    raise SystemExit(0 if accepted else 1)


def _as_json(job: str, result: PublishResult) -> str:
    answer = {name: value for name, value in result._asdict().items() if value is not None}
    return json.dumps({"job": job} | answer)


def _as_line(job: str, result: PublishResult) -> str:
    what = f"{job}: " + (f"attempt {result.attempt}, " if result.attempt > 1 else "")
    if result.applied:
        return f"{what}applied"
    reason = result.reason or "no reason given"
    kind = "unchanged" if reason == "unchanged" else "rejected"
    return f"{what}{kind} ({REASONS.get(reason, reason)})"
