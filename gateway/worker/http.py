"""The publisher over HTTP: `POST /api/jobs/{job}` on one kept-alive connection.

The only module of the worker that knows HTTP. Imports `http.client` when a publisher is
made, because that costs more than all the rest of the package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from .limits import MAX_ANSWER, REQUEST
from .publisher import Publisher, Receipt, Rejected, Token, Unreachable
from .token import check_token, newest_token

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

__all__ = ["check", "connect"]

_AGAIN = frozenset((408, 425, 429))  # "not now"; like all of 5xx
_PROBLEM = "application/problem+json"  # what a gateway refuses with (RFC 9457)
_EXPIRED = 401  # the same, if the token is in a file: another one will come


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
        # Not shown: what stands before the @ is a password.
        raise ValueError("url must not have a user, a query or a fragment; see GATEWAY_TOKEN")
    check_token(token)


def connect(url: str, token: Token) -> Publisher:
    """See `gateway.worker.publisher`."""
    return HttpPublisher(url, token)


class HttpPublisher:
    """Posts to one gateway."""

    def __init__(self, url: str, token: Token) -> None:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection
        from urllib.parse import quote, urlsplit

        "localhost".encode("idna")  # its codec is imported here, and not inside a connect
        parts = urlsplit(url)
        host = parts.hostname or ""
        # Always said, as http.client would look for it in an IPv6 address.
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._path = parts.path.rstrip("/") + "/api/jobs/"
        self._quote = quote
        self._headers = {"Content-Type": "application/json", "User-Agent": "progress-gateway"}
        self._token = token
        self._again = _AGAIN | {_EXPIRED} if isinstance(token, PathLike) else _AGAIN
        # A host name that IDNA refuses shows only in connect, as a UnicodeError.
        self._broken = (OSError, HTTPException, UnicodeError)
        self._make: Callable[[], HTTPConnection]
        if parts.scheme == "https":
            import ssl

            context = ssl.create_default_context()
            self._make = partial(HTTPSConnection, host, port, timeout=REQUEST, context=context)
        else:
            self._make = partial(HTTPConnection, host, port, timeout=REQUEST)
        self._connection = self._make()

    def publish(self, job: str, fields: dict[str, Any]) -> Receipt:
        """Post once; once more at once if a kept-alive connection turns out to be dead."""
        path = self._path + self._quote(job, safe="")
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        shown = newest_token(self._token)
        if shown:
            self._headers["Authorization"] = f"Bearer {shown}"
        kept = self._connection.sock is not None
        try:
            return self._post(path, body)
        except TimeoutError as error:
            raise Unreachable(f"no answer within {REQUEST:g} s") from error
        except self._broken as error:
            if not kept:
                raise Unreachable(str(error) or type(error).__name__) from error
        try:
            return self._post(path, body)
        except self._broken as error:
            raise Unreachable(str(error) or type(error).__name__) from error

    def close(self) -> None:
        """See `Publisher`. Closes the descriptor alone: TLS says no goodbye, no file flushes."""
        sock = self._connection.sock
        self._connection = self._make()
        if sock is not None:
            descriptor = sock.detach()
            if descriptor >= 0:
                os.close(descriptor)

    def _post(self, path: str, body: bytes) -> Receipt:
        """One request and its answer. Afterwards the connection is either idle or closed."""
        idle = False
        try:
            self._connection.request("POST", path, body, self._headers)
            with self._connection.getresponse() as response:
                answer = response.read(MAX_ANSWER)
                idle = response.isclosed() and not response.will_close
            return _understood(response, answer, again=self._again)
        finally:
            if not idle:
                self.close()


def _understood(response: HTTPResponse, answer: bytes, *, again: frozenset[int]) -> Receipt:
    """The receipt, or the error that the answer means; "not now" if its status is in `again`."""
    status = response.status
    try:
        content = json.loads(answer)
    except ValueError:
        content = None
    told: dict[str, Any] = content if isinstance(content, dict) else {}
    if 200 <= status < 300:
        if not isinstance(told.get("attempt"), int):
            raise Unreachable(f"{status}, but not the answer of a gateway")
        return Receipt(
            told["attempt"],
            bool(told.get("applied")),
            told.get("reason"),
            epoch=told.get("epoch"),
            seq=told.get("seq"),
        )
    if 300 <= status < 400:
        raise Unreachable(f"{status} redirected to {response.getheader('Location')}")
    problem = f"{status} {told.get('detail') or told.get('title') or response.reason}"
    if status >= 500 or status in again:
        raise Unreachable(problem)
    if response.getheader("Content-Type") != _PROBLEM or told.get("status") != status:
        # Of whatever stands there while the gateway is started anew, such as a proxy.
        raise Unreachable(f"{problem}, but not the answer of a gateway")
    field = told.get("field")
    raise Rejected(problem, field=field if isinstance(field, str) else None)
