"""Makes response bodies: JSON, and problems (RFC 9457) that name what was wrong.

Problems contain nothing about the inside of the gateway: only what a client can act on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..auth.permissions import NOTHING, Permissions
from ..model.errors import (
    BrokerUnavailable,
    InvalidInput,
    JobUnknown,
    NodeFull,
    RecordUnreadable,
    Unauthorized,
)
from ..observability.counters import Counters
from ..protocol.close_codes import CODE_BY_REFUSAL

__all__ = [
    "REFUSED",
    "as_json",
    "handlers",
    "problem",
    "problem_document",
    "response_to",
    "status_of",
    "unavailable_detail",
]

log = logging.getLogger("gateway.http")

REFUSED = (401, 403)
"""The responses to clients that are not authenticated or not allowed to do what they ask for."""
MAX_PATH = 300
"""Characters of a path that the log shows; every job id fits."""


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
    close_code: int | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Returns an RFC 9457 problem. `type` is about:blank, so `title` is that of the status.
    `close_code` is the code with which a WebSocket would be closed for the same reason."""
    document = problem_document(status, detail, field=field, code=code)
    if close_code is not None:
        document["close_code"] = close_code
    return as_json(document, status=status, headers=headers, media_type="application/problem+json")


def problem_document(
    status: int, detail: str, *, field: str | None = None, code: str | None = None
) -> dict[str, Any]:
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
    return document


def status_of(error: InvalidInput) -> int:
    """Returns 404 if the update must not create the job, 409 if the gateway must not change its
    record (the request itself is valid in both cases), otherwise 400."""
    if isinstance(error, JobUnknown):
        return 404
    return 409 if isinstance(error, RecordUnreadable) else 400


def _invalid(request: Request, error: Exception) -> Response:
    invalid = cast("InvalidInput", error)
    status = status_of(invalid)
    return problem(status, str(invalid), field=invalid.field, code=invalid.code)


def _unauthorized(request: Request, error: Exception) -> Response:
    refused = cast("Unauthorized", error)
    close_code = CODE_BY_REFUSAL[refused.refusal].code
    if refused.refusal == "forbidden_origin":
        return problem(403, str(refused), close_code=close_code)
    has_token = "authorization" in request.headers
    challenge = 'Bearer error="invalid_token"' if has_token else "Bearer"
    return problem(
        401, str(refused), close_code=close_code, headers={"www-authenticate": challenge}
    )


def _http_error(request: Request, error: Exception) -> Response:
    refused = cast("HTTPException", error)
    headers = dict(refused.headers) if refused.headers else None
    return problem(refused.status_code, refused.detail, headers=headers)


def _disconnected(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # it is not sent, because the client has disconnected


def unavailable_detail(error: Exception) -> str:
    """Returns the text about a `BrokerUnavailable` for clients: the kind of refusal, without the
    broker's own text, which may name users and keys."""
    refusal = error.refusal if isinstance(error, BrokerUnavailable) else None
    cause = "does not answer" if refusal is None else f"refuses ({refusal})"
    return f"The broker {cause}; try again."


def _unavailable(request: Request, error: Exception) -> Response:
    return problem(503, unavailable_detail(error), headers={"retry-after": "1"})


def _full(request: Request, error: Exception) -> Response:
    full = cast("NodeFull", error)
    detail = f"Quota used up: {full}."
    return problem(503, detail, code=full.code, headers={"retry-after": "1"})


def _defect(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this response, so that it is logged.
    return problem(500, "Internal error of the gateway. Its log has the traceback.")


_HANDLERS: dict[Any, Callable[[Request, Exception], Response]] = {
    InvalidInput: _invalid,
    Unauthorized: _unauthorized,
    HTTPException: _http_error,
    ClientDisconnect: _disconnected,
    NodeFull: _full,
    BrokerUnavailable: _unavailable,
    Exception: _defect,
}


def _context(request: Request, error: Exception, response: Response) -> dict[str, Any]:
    permissions: Permissions = request.scope.get("permissions", NOTHING)
    return {
        "status": response.status_code,
        "reason": error.detail if isinstance(error, HTTPException) else str(error),
        "path": request.url.path[:MAX_PATH],
        "subject": permissions.subject,
        "token_id": permissions.token_id,
    }


def response_to(request: Request, error: Exception, counters: Counters) -> Response:
    """Returns the response to an error. It is counted; refusals for lack of permission are also
    logged."""
    kind = next(kind for kind in type(error).__mro__ if kind in _HANDLERS)
    response = _HANDLERS[kind](request, error)
    counters.http_errors[response.status_code] += 1
    if response.status_code in REFUSED:
        log.info("HTTP request refused", extra=_context(request, error, response))
    return response


def handlers(counters: Counters) -> dict[Any, Any]:
    """Returns the exception handlers for Starlette: `response_to` for every error."""
    return dict.fromkeys(_HANDLERS, partial(response_to, counters=counters))
