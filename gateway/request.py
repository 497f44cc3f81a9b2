"""What a request says: its body, the numbers and tags in it, and whether its client is
still there. What is wrong raises `InvalidInput` naming the field, or an `HTTPException`.
"""

from __future__ import annotations

import re
from contextlib import aclosing

import msgspec
import trio
from msgspec import Struct
from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.requests import Request

from .auth.revocations import TokenId
from .errors import InvalidInput
from .job import TRACEPARENT, Update
from .limits import Limits

__all__ = [
    "Revocation",
    "body_of",
    "cancel_when_gone",
    "cancel_when_set",
    "count_in",
    "number_in",
    "revocation_in",
    "tags_in",
    "traced",
]


class Revocation(Struct, forbid_unknown_fields=True):
    """Which token is to count no more, and its `exp`; null: for ever."""

    id: TokenId
    until: float | None = None


_revocations = msgspec.json.Decoder(Revocation)


def revocation_in(body: bytes) -> Revocation:
    try:
        return _revocations.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a revocation: {error}", field="id") from None


async def cancel_when_gone(request: Request, scope: trio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def cancel_when_set(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def body_of(request: Request, limits: Limits) -> bytes:
    """The whole request body, within its limits of size and time."""
    body = bytearray()
    try:
        with trio.fail_after(limits.body_timeout):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > limits.max_body:
                        raise HTTPException(413, f"The body is over {limits.max_body} bytes.")
    except trio.TooSlowError:
        raise HTTPException(408, f"The body took over {limits.body_timeout:g} s.") from None
    return bytes(body)


def number_in(request: Request, name: str, *, default: float, most: float) -> float:
    text = request.query_params.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise InvalidInput(f"{name} is not a number from 0 to {most:g}", field=name)
    return value


def count_in(request: Request, name: str, *, default: int, least: int = 0, most: int) -> int:
    text = request.query_params.get(name)
    if not text:
        return default
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not least <= value <= most:
        raise InvalidInput(f"{name} is not a whole number from {least} to {most}", field=name)
    return value


def tags_in(header: str) -> set[str]:
    """The tags of an If-None-Match (RFC 9110 §13.1.2; weak comparison)."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def traced(update: Update, request: Request) -> Update:
    """The update with the `traceparent` of the request's head, if it has none of its own.

    One that is malformed is passed over (W3C Trace Context §4), since a proxy may have
    written it; so is one whose trace is not sampled, since nothing would come of it.
    """
    header = request.headers.get("traceparent")
    if header is None or update.traceparent is not None or not re.fullmatch(TRACEPARENT, header):
        return update
    sampled = int(header[-2:], 16) & 1
    return replace(update, traceparent=header) if sampled else update
