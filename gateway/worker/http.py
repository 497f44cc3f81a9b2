"""The publisher over HTTP: `POST /api/jobs` with batches of updates, on one kept-alive connection.

The only module of the worker that uses HTTP. It imports `http.client` when a publisher is
created, because that takes longer than importing the rest of the package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from .limits import (
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    MAX_UPDATES_PER_REQUEST,
    REQUEST_STEP_TIMEOUT,
)
from .publisher import (
    NotConnected,
    Outcome,
    Publisher,
    PublishResult,
    Rejected,
    Token,
    Unreachable,
)
from .token import check_token, newest_token

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

__all__ = ["canonical", "check", "connect"]

_RETRY_STATUSES = frozenset((408, 425, 429))  # try again later, as after any 5xx
_TOO_LARGE_STATUSES = frozenset((400, 413))  # more than the gateway's max_batch or max_batch_body
_PROBLEM_TYPE = "application/problem+json"  # the content type of a gateway's errors (RFC 9457)
_UNAUTHORIZED = 401  # try again later if the token is in a file, whose content will be replaced


def check(url: str, token: Token) -> None:
    """See `gateway.worker.publisher`."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises if it is none
    except ValueError as error:
        raise ValueError(f"url is not valid ({error}): {url!r}") from error
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"url must be printable ASCII: {url!r}")
    if not parts.hostname:
        raise ValueError(f"url has no host: {url!r}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Do not show the URL: the part before the @ may be a password.
        raise ValueError(
            "url must not have a user, a query or a fragment; see PROGRESS_GATEWAY_TOKEN"
        )
    check_token(token)


def canonical(url: str) -> str:
    """See `gateway.worker.publisher`."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port not in (None, 443 if parts.scheme == "https" else 80):
        host += f":{parts.port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def connect(url: str, token: Token) -> Publisher:
    """See `gateway.worker.publisher`."""
    return HttpPublisher(url, token)


class _TooLarge(Rejected):
    """The request may contain more than the gateway accepts in one."""


class HttpPublisher:
    """Posts to one gateway."""

    def __init__(self, url: str, token: Token) -> None:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection
        from urllib.parse import urlsplit

        "localhost".encode("idna")  # imports the codec now, and not inside `connect`
        parts = urlsplit(url)
        host = parts.hostname or ""
        # Always pass the port, because http.client would parse it from an IPv6 address.
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = parts.path.rstrip("/") + "/api/jobs"
        self._headers = {"Content-Type": "application/json", "User-Agent": "progress-gateway"}
        self._token = token
        self._retry_statuses = (
            _RETRY_STATUSES | {_UNAUTHORIZED} if isinstance(token, PathLike) else _RETRY_STATUSES
        )
        # A host name that IDNA refuses raises a UnicodeError in `connect`.
        self._connection_errors = (OSError, HTTPException, UnicodeError)
        self._new_connection: Callable[[], HTTPConnection]
        if parts.scheme == "https":
            import ssl

            context = ssl.create_default_context()
            self._new_connection = partial(
                HTTPSConnection, host, port, timeout=REQUEST_STEP_TIMEOUT, context=context
            )
        else:
            self._new_connection = partial(HTTPConnection, host, port, timeout=REQUEST_STEP_TIMEOUT)
        self._connection = self._new_connection()
        self._max_updates = MAX_UPDATES_PER_REQUEST
        """The maximum number of updates per request. It is lowered if the gateway refuses a request
        as too large."""

    def publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        """Posts the updates in as few requests as their size and the gateway allow. Stops after a
        failed request."""
        outcomes: list[Outcome] = []
        for size, body in _bodies(updates, max_updates=self._max_updates):
            try:
                outcomes += self._post(body, size)
            except _TooLarge as error:
                if size > 1:
                    self._max_updates = size // 2
                    return outcomes + self.publish(updates[len(outcomes) :])
                outcomes.append(error)
            except (Unreachable, Rejected) as error:
                outcomes += [error] * (len(updates) - len(outcomes))
                break
        return outcomes

    def close(self) -> None:
        """See `Publisher`. Closes only the descriptor, without a TLS close notification or a
        flush."""
        sock = self._connection.sock
        self._connection = self._new_connection()
        if sock is not None:
            descriptor = sock.detach()
            if descriptor >= 0:
                os.close(descriptor)

    def _post(self, body: bytes, size: int) -> list[Outcome]:
        """Posts `size` updates. Repeats the request if a reused connection was lost.

        Raises an error that applies to all of these updates.
        """
        token = newest_token(self._token)
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        is_reused = self._connection.sock is not None
        try:
            return self._exchange(body, size)
        except TimeoutError as error:
            raise Unreachable(f"no answer within {REQUEST_STEP_TIMEOUT:g} s") from error
        except self._connection_errors as error:
            if not is_reused:
                raise Unreachable(_error_text(error)) from error
        try:
            return self._exchange(body, size)
        except self._connection_errors as error:
            raise Unreachable(_error_text(error)) from error

    def _exchange(self, body: bytes, size: int) -> list[Outcome]:
        """Sends one request and receives its response. Afterwards the connection is idle or
        closed."""
        idle = False
        try:
            if self._connection.sock is None:
                try:
                    self._connection.connect()
                except TimeoutError as error:
                    raise NotConnected(
                        f"no connection within {REQUEST_STEP_TIMEOUT:g} s"
                    ) from error
                except self._connection_errors as error:
                    raise NotConnected(_error_text(error)) from error
            self._connection.request("POST", self._path, body, self._headers)
            with self._connection.getresponse() as response:
                response_body = response.read(MAX_RESPONSE_BYTES)
                idle = response.isclosed() and not response.will_close
            return _outcomes(response, response_body, size, retry_statuses=self._retry_statuses)
        finally:
            if not idle:
                self.close()


def _bodies(
    updates: Sequence[tuple[str, dict[str, Any]]], *, max_updates: int
) -> Iterator[tuple[int, bytes]]:
    """Yields request bodies of at most `max_updates` updates and `MAX_REQUEST_BYTES`, each with its
    number of updates."""
    texts: list[bytes] = []
    size = 0
    for job, fields in updates:
        update = {"job": job} | fields
        text = json.dumps(update, ensure_ascii=False, separators=(",", ":")).encode()
        if texts and (len(texts) == max_updates or size + len(text) > MAX_REQUEST_BYTES):
            yield len(texts), b"[%b]" % b",".join(texts)
            texts, size = [], 0
        texts.append(text)
        size += len(text) + 1
    yield len(texts), b"[%b]" % b",".join(texts)


def _error_text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _outcomes(
    response: HTTPResponse, body: bytes, size: int, *, retry_statuses: frozenset[int]
) -> list[Outcome]:
    """Returns the outcome of each update. Raises an error if the whole response is one:
    `Unreachable` if its status is in `retry_statuses`."""
    status = response.status
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if 200 <= status < 300:
        if not isinstance(content, list) or len(content) != size:
            raise Unreachable(f"{status}, but not the answer of a gateway")
        return [_outcome(element, retry_statuses) for element in content]
    document: dict[str, Any] = content if isinstance(content, dict) else {}
    if 300 <= status < 400:
        raise Unreachable(f"{status} redirected to {response.getheader('Location')}")
    problem = f"{status} {document.get('detail') or document.get('title') or response.reason}"
    if status >= 500 or status in retry_statuses:
        raise Unreachable(problem, retry_after=_retry_after(response))
    if response.getheader("Content-Type") != _PROBLEM_TYPE or document.get("status") != status:
        # Probably the answer of a proxy while the gateway is being restarted.
        raise Unreachable(f"{problem}, but not the answer of a gateway")
    raise (_TooLarge if status in _TOO_LARGE_STATUSES else Rejected)(problem)


def _outcome(element: Any, retry_statuses: frozenset[int]) -> Outcome:
    """Returns the outcome of one update, from its element of the response."""
    if not isinstance(element, dict):
        return Unreachable("not the answer of a gateway")
    if isinstance(element.get("attempt"), int):
        return PublishResult(
            element["attempt"],
            bool(element.get("applied")),
            element.get("reason"),
            epoch=element.get("epoch"),
            seq=element.get("seq"),
            request=element.get("request") if isinstance(element.get("request"), dict) else None,
        )
    status = element.get("status")
    if not isinstance(status, int):
        return Unreachable("not the answer of a gateway")
    problem = f"{status} {element.get('detail') or element.get('title')}"
    if status >= 500 or status in retry_statuses:
        return Unreachable(problem)
    field = element.get("field")
    return Rejected(problem, field=field if isinstance(field, str) else None)


def _retry_after(response: HTTPResponse) -> float | None:
    """Returns the seconds to wait by the header `Retry-After` (RFC 9110 §10.2.3); None without
    it."""
    value = response.getheader("Retry-After")
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    from email.utils import mktime_tz, parsedate_tz
    from time import time

    date = parsedate_tz(value)
    return None if date is None else max(0.0, mktime_tz(date) - time())
