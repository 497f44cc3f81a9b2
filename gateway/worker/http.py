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

from .limits import BATCH, BATCH_BYTES, MAX_ANSWER, REQUEST
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

_AGAIN = frozenset((408, 425, 429))  # try again later, like all of 5xx
_SPLIT = frozenset((400, 413))  # over the gateway's max_batch, or its max_batch_body
_PROBLEM = "application/problem+json"  # the content type of a gateway's errors (RFC 9457)
_EXPIRED = 401  # try again later if the token is in a file, which will be replaced


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
    """Perhaps the request has more than the gateway takes at a time."""


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
        self._again = _AGAIN | {_EXPIRED} if isinstance(token, PathLike) else _AGAIN
        # A host name that IDNA refuses raises a UnicodeError in `connect`.
        self._broken = (OSError, HTTPException, UnicodeError)
        self._make: Callable[[], HTTPConnection]
        if parts.scheme == "https":
            import ssl

            context = ssl.create_default_context()
            self._make = partial(HTTPSConnection, host, port, timeout=REQUEST, context=context)
        else:
            self._make = partial(HTTPConnection, host, port, timeout=REQUEST)
        self._connection = self._make()
        self._most = BATCH
        """Updates per request: fewer if the gateway has refused as many."""

    def publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        """Post the updates in as few requests as their size and the gateway allow. Stops after a
        failed request."""
        outcomes: list[Outcome] = []
        for size, body in _bodies(updates, most=self._most):
            try:
                outcomes += self._post(body, size)
            except _TooLarge as error:
                if size > 1:
                    self._most = size // 2
                    return outcomes + self.publish(updates[len(outcomes) :])
                outcomes.append(error)
            except (Unreachable, Rejected) as error:
                outcomes += [error] * (len(updates) - len(outcomes))
                break
        return outcomes

    def close(self) -> None:
        """See `Publisher`. Closes only the descriptor: no TLS close notification, no flush."""
        sock = self._connection.sock
        self._connection = self._make()
        if sock is not None:
            descriptor = sock.detach()
            if descriptor >= 0:
                os.close(descriptor)

    def _post(self, body: bytes, size: int) -> list[Outcome]:
        """Post `size` updates, and repeat the request if the kept-alive connection was lost.

        Raises an error that applies to all of them.
        """
        shown = newest_token(self._token)
        if shown:
            self._headers["Authorization"] = f"Bearer {shown}"
        kept = self._connection.sock is not None
        try:
            return self._exchange(body, size)
        except TimeoutError as error:
            raise Unreachable(f"no answer within {REQUEST:g} s") from error
        except self._broken as error:
            if not kept:
                raise Unreachable(_text(error)) from error
        try:
            return self._exchange(body, size)
        except self._broken as error:
            raise Unreachable(_text(error)) from error

    def _exchange(self, body: bytes, size: int) -> list[Outcome]:
        """One request and its answer. Afterwards the connection is either idle or closed."""
        idle = False
        try:
            if self._connection.sock is None:
                try:
                    self._connection.connect()
                except TimeoutError as error:
                    raise NotConnected(f"no connection within {REQUEST:g} s") from error
                except self._broken as error:
                    raise NotConnected(_text(error)) from error
            self._connection.request("POST", self._path, body, self._headers)
            with self._connection.getresponse() as response:
                answer = response.read(MAX_ANSWER)
                idle = response.isclosed() and not response.will_close
            return _outcomes(response, answer, size, again=self._again)
        finally:
            if not idle:
                self.close()


def _bodies(
    updates: Sequence[tuple[str, dict[str, Any]]], *, most: int
) -> Iterator[tuple[int, bytes]]:
    """Request bodies of at most `most` updates and `BATCH_BYTES`, each with its number of
    updates."""
    texts: list[bytes] = []
    size = 0
    for job, fields in updates:
        whole = {"job": job} | fields
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
        if texts and (len(texts) == most or size + len(text) > BATCH_BYTES):
            yield len(texts), b"[%b]" % b",".join(texts)
            texts, size = [], 0
        texts.append(text)
        size += len(text) + 1
    yield len(texts), b"[%b]" % b",".join(texts)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _outcomes(
    response: HTTPResponse, answer: bytes, size: int, *, again: frozenset[int]
) -> list[Outcome]:
    """The outcome of each update. Raises the error if the answer as a whole is one: `Unreachable`
    if its status is in `again`."""
    status = response.status
    try:
        content = json.loads(answer)
    except ValueError:
        content = None
    if 200 <= status < 300:
        if not isinstance(content, list) or len(content) != size:
            raise Unreachable(f"{status}, but not the answer of a gateway")
        return [_outcome(one, again) for one in content]
    document: dict[str, Any] = content if isinstance(content, dict) else {}
    if 300 <= status < 400:
        raise Unreachable(f"{status} redirected to {response.getheader('Location')}")
    problem = f"{status} {document.get('detail') or document.get('title') or response.reason}"
    if status >= 500 or status in again:
        raise Unreachable(problem, retry_after=_retry_after(response))
    if response.getheader("Content-Type") != _PROBLEM or document.get("status") != status:
        # Probably the answer of a proxy while the gateway is being restarted.
        raise Unreachable(f"{problem}, but not the answer of a gateway")
    raise (_TooLarge if status in _SPLIT else Rejected)(problem)


def _outcome(element: Any, again: frozenset[int]) -> Outcome:
    """The outcome of one update, from its element of the answer."""
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
    if status >= 500 or status in again:
        return Unreachable(problem)
    field = element.get("field")
    return Rejected(problem, field=field if isinstance(field, str) else None)


def _retry_after(response: HTTPResponse) -> float | None:
    """Seconds until the time that the header names (RFC 9110 §10.2.3)."""
    value = response.getheader("Retry-After")
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    from email.utils import mktime_tz, parsedate_tz
    from time import time

    date = parsedate_tz(value)
    return None if date is None else max(0.0, mktime_tz(date) - time())
