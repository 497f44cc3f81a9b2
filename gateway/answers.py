"""What the HTTP side answers: JSON, and problems (RFC 9457) that name what was wrong.

Nothing of the inside is in a problem: what is not the client's doing it learns as little
about as it can do about it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .auth.rights import NOTHING, Rights
from .endings import FORBIDDEN_ORIGIN
from .errors import BrokerUnavailable, InvalidInput, NodeFull, Unauthorized
from .tally import Tally

__all__ = ["TURNED_AWAY", "as_json", "handlers", "problem"]

log = logging.getLogger("gateway.api")

TURNED_AWAY = (401, 403)
"""What those are answered who are nobody we know, or may not do what they ask for."""
MAX_PATH = 300
"""Characters of a path that the log repeats: any job is named in full."""


def as_json(
    document: Any,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    return Response(msgspec.json.encode(document), status, headers, media_type)


def problem(
    status: int,
    detail: str,
    *,
    field: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """An RFC 9457 problem: `type` is about:blank, so `title` is the status's own."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if code is not None:
        document["code"] = code
    if field is not None:
        document["field"] = field
    return as_json(document, status=status, headers=headers, media_type="application/problem+json")


def _invalid(request: Request, error: Exception) -> Response:
    invalid = cast("InvalidInput", error)
    return problem(400, str(invalid), field=invalid.field, code=invalid.code)


def _unauthorized(request: Request, error: Exception) -> Response:
    refused = cast("Unauthorized", error)
    if refused.ending is FORBIDDEN_ORIGIN:
        return problem(403, "Pages of this origin are not allowed here; see --origins.")
    shown = "authorization" in request.headers
    challenge = 'Bearer error="invalid_token"' if shown else "Bearer"
    return problem(401, str(refused), headers={"www-authenticate": challenge})


def _http_error(request: Request, error: Exception) -> Response:
    refused = cast("HTTPException", error)
    headers = dict(refused.headers) if refused.headers else None
    return problem(refused.status_code, refused.detail, headers=headers)


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it: the client left in mid-request


def _unavailable(request: Request, error: Exception) -> Response:
    return problem(503, "The broker does not answer; try again.", headers={"retry-after": "1"})


def _full(request: Request, error: Exception) -> Response:
    return problem(503, "This node watches as many jobs as it may.", headers={"retry-after": "1"})


def _defect(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, so that it reaches the log.
    return problem(500, "A defect of the gateway; its log has the reason.")


_HANDLERS: dict[Any, Callable[[Request, Exception], Response]] = {
    InvalidInput: _invalid,
    Unauthorized: _unauthorized,
    HTTPException: _http_error,
    ClientDisconnect: _gone,
    NodeFull: _full,
    BrokerUnavailable: _unavailable,
    Exception: _defect,
}


def _facts(request: Request, error: Exception, response: Response) -> dict[str, Any]:
    rights: Rights = request.scope.get("rights", NOTHING)
    return {
        "status": response.status_code,
        "why": error.detail if isinstance(error, HTTPException) else str(error),
        "path": request.url.path[:MAX_PATH],
        "subject": rights.subject,
        "token": rights.token_id,
    }


def handlers(tally: Tally) -> dict[Any, Any]:
    """The answer to each kind of error, for Starlette. Each is counted; of those who may not
    do what they ask for the log tells as well."""

    def counted(handler: Callable[[Request, Exception], Response]) -> Any:
        def answer(request: Request, error: Exception) -> Response:
            response = handler(request, error)
            tally.problems[response.status_code] += 1
            if response.status_code in TURNED_AWAY:
                log.info("turned away", extra=_facts(request, error, response))
            return response

        return answer

    return {kind: counted(handler) for kind, handler in _HANDLERS.items()}
