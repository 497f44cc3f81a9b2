"""Reads values from an HTTP request: its body, its numbers and its tags.

Wrong input raises `InvalidInput`, which names the field, or an `HTTPException`.
"""

from __future__ import annotations

from contextlib import aclosing

import msgspec
import trio
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..auth.revocations import TokenId
from ..model.errors import InvalidInput
from ..model.limits import Limits

__all__ = [
    "Revocation",
    "address_of",
    "body_of",
    "check_query",
    "count_in",
    "number_in",
    "revocation_in",
    "tags_in",
]


class Revocation(Struct, forbid_unknown_fields=True):
    """The id of a token to revoke, and its `exp`; null: permanently."""

    id: TokenId
    until: float | None = None


_revocations = msgspec.json.Decoder(Revocation)


def revocation_in(body: bytes) -> Revocation:
    try:
        return _revocations.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InvalidInput(f"not a revocation: {error}", field="id") from None


def address_of(request: Request) -> str:
    """Returns the client's address; "" if the server has none (a Unix socket)."""
    return request.client.host if request.client else ""


def check_query(request: Request, *names: str) -> None:
    """Raises `InvalidInput` for an unknown query parameter, so that a typo is noticed."""
    for name in request.query_params:
        if name not in names:
            allowed = f"only {', '.join(names)} are" if names else "there are none"
            raise InvalidInput(f"{name} is not a parameter here: {allowed}", field=name)


async def body_of(request: Request, limits: Limits, *, maximum: int | None = None) -> bytes:
    """Returns the whole request body, if it is within its limits of size (`maximum`, or that of an
    update) and time."""
    maximum = limits.max_body if maximum is None else maximum
    body = bytearray()
    try:
        with trio.fail_after(limits.body_timeout):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > maximum:
                        raise HTTPException(413, f"The body is over {maximum} bytes.")
    except trio.TooSlowError:
        raise HTTPException(408, f"The body took over {limits.body_timeout:g} s.") from None
    return bytes(body)


def number_in(request: Request, name: str, *, default: float, maximum: float) -> float:
    text = request.query_params.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= maximum:
        raise InvalidInput(f"{name} is not a number from 0 to {maximum:g}", field=name)
    return value


def count_in(request: Request, name: str, *, default: int, minimum: int = 0, maximum: int) -> int:
    text = request.query_params.get(name)
    if not text:
        return default
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not minimum <= value <= maximum:
        raise InvalidInput(f"{name} is not a whole number from {minimum} to {maximum}", field=name)
    return value


def tags_in(header: str) -> set[str]:
    """Returns the tags of an If-None-Match header (RFC 9110 §13.1.2; weak comparison)."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
