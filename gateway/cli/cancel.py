"""`gateway cancel`: request that a running job stop, and perhaps wait until it has."""

from __future__ import annotations

import json
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import click

from ..model.constants import MAX_TEXT
from ..model.statuses import FINAL
from ..worker.publisher import Unreachable
from .client_options import gateway_options
from .options import REFUSED, WRONG, give_up, job_argument
from .terminal import echo

if TYPE_CHECKING:
    from ..worker.publisher import Token

__all__ = ["cancel"]

REQUEST_TIMEOUT = 10.0  # seconds for one request
RETRY_PAUSE = 1.0  # seconds after an outage until the next attempt to read the job
POLL_WAIT = 30.0  # seconds for which the gateway holds a request for the next state


@click.command()
@click.argument("job", callback=job_argument)
@click.option("--verb", default="cancel", show_default=True, help="Another request than that.")
@click.option("--args", metavar="JSON", help="Arguments of the request, for the worker.")
@click.option(
    "--wait",
    is_flag=True,
    help="Wait until the job has ended or refuses; of another verb, until it has received it.",
)
@click.option(
    "--timeout", type=click.FloatRange(1, 86_400), default=60.0, show_default=True,
    metavar="SECONDS", help="How long --wait waits, at most.",
)  # fmt: skip
@gateway_options
def cancel(
    job: str,
    *,
    verb: str,
    args: str | None,
    wait: bool,
    timeout: float,
    url: str,
    token: Token,
) -> None:
    """Request that the worker of JOB stop.

    The job must say that it accepts it: Job(..., accepts={"cancel"}), `gateway run`.

    Exits with 0 if the request was accepted (with --wait: if the job has ended), 1 if it does not
    accept it or refuses, 2 if the call is wrong, 3 if the gateway does not answer. While --wait
    waits, an outage of the gateway ends nothing.
    """
    body: dict[str, Any] = {"verb": verb}
    if args is not None:
        try:
            body["args"] = json.loads(args)
        except ValueError as error:
            give_up(f"--args: not JSON: {error}", code=WRONG)
    path = f"{url.rstrip('/')}/api/jobs/{_quoted(job)}"
    try:
        status, answer, _ = _call(f"{path}/requests", token, body)
    except Unreachable as error:
        give_up(str(error), code=REFUSED)
    if status not in (200, 202):
        code = WRONG if status == 400 else REFUSED if status == 503 else 1
        give_up(f"{job}: {answer.get('detail', status)}", code=code)
    if not wait:
        echo(f"{job}: {verb} requested")
        return
    raise SystemExit(_wait(path, token, job, verb, answer, until=monotonic() + timeout))


def _wait(
    path: str, token: Token, job: str, verb: str, sent: dict[str, Any], *, until: float
) -> int:
    """Follow the job until it has ended, or has refused the request `sent`; the exit code."""
    tag, last = "", "no answer of the gateway"
    while (left := until - monotonic()) > 0:
        poll = f"{path}?wait={min(left, POLL_WAIT):.1f}"
        try:
            status, answer, tag = _call(poll, token, tag=tag)
        except Unreachable as error:
            status, answer, last = 503, {}, str(error)
        if status == 503:
            sleep(min(left, RETRY_PAUSE))
            continue
        if status == 304:
            continue
        if status != 200:
            give_up(f"{job}: {answer.get('detail', status)}", code=1)
        state = answer["state"]
        if state["status"] in FINAL:
            echo(f"{job}: {state['status']}")
            return 0
        if state["attempt"] > sent["attempt"]:
            echo(f"{job}: another attempt has begun", err=True)
            return 1
        request = state.get("request") or {}
        # A request that was not applied changes nothing: there is an earlier one.
        if request.get("id") == sent["id"] or not sent["applied"]:
            if "refused" in request:
                echo(f"{job}: refused: {request['refused'][: MAX_TEXT['refused']]}", err=True)
                return 1
            if request.get("verb") == verb != "cancel" and "seen_at" in request:
                echo(f"{job}: {verb} received")
                return 0
        health = state.get("health", "ok")
        last = f"still {state['status']}" + (f", and {health}" if health != "ok" else "")
    echo(f"{job}: {last}", err=True)
    return 1


def _call(
    url: str, token: Token, body: dict[str, Any] | None = None, *, tag: str = ""
) -> tuple[int, dict[str, Any], str]:
    """One request to the gateway: its status, its document, and the ETag.

    Raises:
        Unreachable: There is no answer of a gateway, or no token.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from ..worker.token import newest_token

    shown = newest_token(token)
    headers = {"content-type": "application/json"}
    headers |= {"authorization": f"Bearer {shown}"} if shown else {}
    headers |= {"if-none-match": tag} if tag else {}
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, headers)  # noqa: S310 - the setting is an http(s) URL
    try:
        with urlopen(request, timeout=REQUEST_TIMEOUT + POLL_WAIT) as answer:  # noqa: S310 - likewise
            return answer.status, json.load(answer), answer.headers.get("etag", "")
    except HTTPError as error:
        text = error.read()
        if error.code == 304:
            return 304, {}, tag
        if error.headers.get("content-type") != "application/problem+json":
            raise Unreachable(f"{url}: {error.code}, but not the answer of a gateway") from error
        return error.code, json.loads(text), ""
    except (OSError, ValueError) as error:
        raise Unreachable(f"the gateway does not answer: {error}") from error


def _quoted(job: str) -> str:
    from urllib.parse import quote

    return quote(job, safe=":@")
