"""`gateway publish`: one update, one request. For shell scripts and for trying things."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .calling import reports
from .flags import REFUSED, WRONG, give_up, job_argument, traceparent

if TYPE_CHECKING:
    from ..worker.publisher import Receipt, Token

__all__ = ["publish"]

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")
REASONS = {
    "unchanged": "it was so already; its lease is renewed",
    "stale_attempt": "a newer attempt has begun",
    "final": "it has ended; --start opens a new attempt",
}


def _json(context: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    """The value in a tuple, since null is one too; None if there is none."""
    if text is None:
        return None
    try:
        return (json.loads(text),)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", context, parameter) from None


@click.command()
@click.argument("job", callback=job_argument)
@click.option("--status", type=click.Choice(STATUSES), help="Without it: running, or as it is.")
@click.option("--percent", type=float, metavar="0-100")
@click.option("--done", type=float, metavar="NUMBER", help="How much of --total is done.")
@click.option("--total", type=float, metavar="NUMBER")
@click.option("--unit", metavar="TEXT", help="What is counted, such as frames.")
@click.option("--phase", metavar="TEXT")
@click.option("--message", metavar="TEXT")
@click.option("--error", metavar="TEXT", help="Why it failed.")
@click.option("--data", metavar="JSON", callback=_json, help="The application's own, ≤ 8 KiB.")
@click.option("--parent", metavar="JOB", help="The job this one belongs to.")
@click.option(
    "--lease",
    type=float,
    metavar="SECONDS",
    help="How long the worker may be silent before the job counts as stalled.",
)
@click.option("--start", is_flag=True, help="Open the next attempt.")
@click.option(
    "--attempt",
    type=click.IntRange(1, 2**53),
    metavar="NUMBER",
    help="Of which attempt this is a word; an older one is rejected.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@reports
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
    from ..worker.publisher import Rejected, Unreachable

    about = {
        "status": status,
        "start": start,
        "attempt": attempt,
        "traceparent": traceparent(),
    }
    update = {name: value for name, value in about.items() if value}
    given = {name: value for name, value in fields.items() if value is not None}
    if "data" in given:
        (given["data"],) = given["data"]
    try:
        update |= checks.update(**given)
    except ValueError as error:
        give_up(f"--{error}", code=WRONG)
    connection = publisher.connect(url, token)
    try:
        receipt = connection.publish(job, update)
    except Unreachable as error:
        give_up(f"{publisher.shown(url)} does not answer: {error}", code=REFUSED)
    except Rejected as error:
        # With a field: what was said is wrong. Without: it is not for us.
        give_up(f"rejected: {error}", code=WRONG if error.field else 1)
    finally:
        connection.close()
    accepted = receipt.applied or receipt.reason == "unchanged"
    if as_json:
        click.echo(_as_json(job, receipt))
    else:
        click.echo(_as_line(job, receipt), err=not accepted)
    raise SystemExit(0 if accepted else 1)


def _as_json(job: str, receipt: Receipt) -> str:
    told = {name: value for name, value in receipt._asdict().items() if value is not None}
    return json.dumps({"job": job} | told)


def _as_line(job: str, receipt: Receipt) -> str:
    what = f"{job}: " + (f"attempt {receipt.attempt}, " if receipt.attempt > 1 else "")
    if receipt.applied:
        return f"{what}applied"
    reason = receipt.reason or "no reason given"
    kind = "unchanged" if reason == "unchanged" else "rejected"
    return f"{what}{kind} ({REASONS.get(reason, reason)})"
