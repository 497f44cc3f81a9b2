"""`gateway cancel`: requests that a running job stop, and can wait until it has stopped."""

from __future__ import annotations

import json
from math import inf
from secrets import token_urlsafe
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import click

from ..model.constants import MAX_TEXT
from ..model.statuses import FINAL
from ..worker.publisher import Unreachable
from .client_options import gateway_options, require_token
from .exits import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, fail
from .options import job_argument
from .terminal import echo

if TYPE_CHECKING:
    from ..worker.publisher import Token

__all__ = ["cancel"]

REQUEST_TIMEOUT = 10.0  # seconds for one request
RETRY_PAUSE = 1.0  # seconds until a request without an answer is sent again
POLL_WAIT = 30.0  # seconds that the gateway waits for the next state before it answers


@click.command()
@click.argument("job", callback=job_argument)
@click.option("--verb", default="cancel", show_default=True, help="The request to send.")
@click.option("--args", metavar="JSON", help="Arguments of the request, for the worker.")
@click.option(
    "--wait",
    is_flag=True,
    help="Wait until the job has ended or refuses; with another verb, until it has received it.",
)
@click.option(
    "--timeout", type=click.FloatRange(1, 86_400), default=60.0, show_default=True,
    metavar="SECONDS", help="The maximum time that --wait waits.",
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

    The job must accept the request: Job(..., accepts={"cancel"}), or `gateway run`.

    Exits with 0 if the request was accepted (with --wait: if the job has ended), 1 if the job does
    not accept the request, or its worker or the gateway refuses it, 2 if the command line is
    invalid or the token file has no token, 3 if the gateway or its broker does not answer. --wait
    continues through an outage of the gateway.
    """
    body: dict[str, Any] = {"verb": verb, "id": token_urlsafe(12)}
    if args is not None:
        try:
            body["args"] = json.loads(args)
        except ValueError as error:
            fail(f"--args: not JSON: {error}", code=EXIT_USAGE)
    require_token(token)
    path = f"{url.rstrip('/')}/api/jobs/{_quoted(job)}"
    deadline = monotonic() + timeout if wait else 0.0
    status, document, repeated = _send(f"{path}/requests", token, body, deadline=deadline)
    if repeated and status == 409:  # perhaps the job has ended because of the first one
        status, document = 202, {"id": body["id"], "attempt": inf, "applied": True}
    if status not in (200, 202):
        code = EXIT_USAGE if status == 400 else EXIT_UNREACHABLE if status == 503 else EXIT_FAILED
        fail(f"{job}: {document.get('detail', status)}", code=code)
    if not wait:
        echo(f"{job}: {verb} requested")
        return
    raise SystemExit(_wait(path, token, job, verb, document, deadline=deadline))


class AnswerLostError(Unreachable):
    """A request was sent, and the connection ended without an answer."""


def _send(
    url: str, token: Token, body: dict[str, Any], *, deadline: float
) -> tuple[int, dict[str, Any], bool]:
    """Sends the request. Returns the status, the document, and whether it was sent repeatedly.

    Without an answer it is unknown whether the gateway has stored the request. So it is sent again
    with the same id, which is harmless, until the deadline.
    """
    repeated = False
    while True:
        try:
            status, document, _ = _call(url, token, body)
        except AnswerLostError as error:
            status, document = 503, {"detail": str(error)}
        except Unreachable as error:
            if not repeated:
                fail(str(error), code=EXIT_UNREACHABLE)
            status, document = 503, {"detail": str(error)}
        if status != 503 or monotonic() + RETRY_PAUSE > deadline:
            return status, document, repeated
        repeated = True
        sleep(RETRY_PAUSE)


def _wait(
    path: str, token: Token, job: str, verb: str, sent: dict[str, Any], *, deadline: float
) -> int:
    """Follows the job until it has ended, or has refused the request `sent`. Returns the exit
    code."""
    etag, last = "", "no answer of the gateway"
    while (remaining := deadline - monotonic()) > 0:
        poll = f"{path}?wait={min(remaining, POLL_WAIT):.1f}"
        try:
            status, document, etag = _call(poll, token, etag=etag)
        except Unreachable as error:
            status, document, last = 503, {}, str(error)
        if status == 503:
            sleep(min(remaining, RETRY_PAUSE))
            continue
        if status == 304:
            continue
        if status != 200:
            fail(f"{job}: {document.get('detail', status)}", code=EXIT_FAILED)
        state = document["state"]
        if state["status"] in FINAL:
            echo(f"{job}: {state['status']}")
            return 0
        if state["attempt"] > sent["attempt"]:
            echo(f"{job}: another attempt has begun", err=True)
            return EXIT_FAILED
        request = state.get("request") or {}
        # If the request was not applied, an earlier one of the job is still open.
        if request.get("id") == sent["id"] or not sent["applied"]:
            if "refused" in request:
                echo(f"{job}: refused: {request['refused'][: MAX_TEXT['refused']]}", err=True)
                return EXIT_FAILED
            if request.get("verb") == verb != "cancel" and "seen_at" in request:
                echo(f"{job}: {verb} received")
                return 0
        health = state.get("health", "ok")
        last = f"still {state['status']}" + (f", and {health}" if health != "ok" else "")
    echo(f"{job}: {last}", err=True)
    return EXIT_FAILED


def _call(
    url: str, token: Token, body: dict[str, Any] | None = None, *, etag: str = ""
) -> tuple[int, dict[str, Any], str]:
    """Sends one request to the gateway. Returns the status, the JSON document and the ETag.

    Raises:
        AnswerLostError: The gateway may have received it, but there is no answer.
        Unreachable: No gateway answers, or there is no token.
    """
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from ..worker.token import newest_token

    token_text = newest_token(token)
    headers = {"content-type": "application/json"}
    headers |= {"authorization": f"Bearer {token_text}"} if token_text else {}
    headers |= {"if-none-match": etag} if etag else {}
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, headers)  # noqa: S310 - the setting is an http(s) URL
    try:
        with urlopen(request, timeout=REQUEST_TIMEOUT + POLL_WAIT) as response:  # noqa: S310 - an http(s) URL
            return response.status, json.load(response), response.headers.get("etag", "")
    except HTTPError as error:
        text = error.read()
        if error.code == 304:
            return 304, {}, etag
        if error.headers.get("content-type") != "application/problem+json":
            raise Unreachable(f"{url}: {error.code}, but not the answer of a gateway") from error
        return error.code, json.loads(text), ""
    except URLError as error:
        raise Unreachable(f"the gateway does not answer: {error.reason}") from error
    except (OSError, ValueError) as error:
        raise AnswerLostError(f"the gateway does not answer: {error}") from error


def _quoted(job: str) -> str:
    from urllib.parse import quote

    return quote(job, safe=":@")
