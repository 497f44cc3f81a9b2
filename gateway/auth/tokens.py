"""Reads the permissions in a token, and signs tokens. JSON Web Tokens (RFC 7519), checked as in RFC
8725.

    {"watch": ["user:7:*"], "publish": [], "exp": 1767225600, "jti": "…", "sub": "user 7"}

`exp` is required. `watch`, `publish` and `control` are lists of patterns; `revoke` is true for
clients that may revoke tokens of others. A missing claim grants nothing, and a token without any of
them is refused, because that is a mistake. `nbf` and `aud` are checked, other claims are ignored.
Each refusal is one sentence that fits into a close reason. PyJWT checks the signature; this module
reads the claims, with the time as an argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from secrets import token_urlsafe

import jwt
import msgspec
from msgspec import UNSET, Struct, UnsetType

from ..model.constants import MAX_TOKEN
from ..model.errors import InvalidInput, Unauthorized
from ..model.patterns import Patterns
from .keys import Key
from .permissions import LEEWAY, Permissions
from .revocations import TokenId

__all__ = ["UnknownKey", "read_token", "sign_token"]


class UnknownKey(Unauthorized):
    """The token is signed with a key that this gateway does not have, perhaps not yet."""


class _Claims(Struct):
    exp: float
    nbf: float = 0.0
    watch: list[str] | UnsetType = UNSET
    publish: list[str] | UnsetType = UNSET
    control: list[str] | UnsetType = UNSET
    revoke: bool | UnsetType = UNSET
    sub: str | None = None
    jti: TokenId | None = None
    aud: str | list[str] = []


_claims = msgspec.json.Decoder(_Claims)
_jws = jwt.PyJWS()

_TIME_EXPECTED = "a number, the Unix time in seconds"
_PATTERNS_EXPECTED = 'a list of patterns, such as ["user:7:*"]'
_RULES = {
    "exp": _TIME_EXPECTED,
    "nbf": _TIME_EXPECTED,
    "watch": _PATTERNS_EXPECTED,
    "publish": _PATTERNS_EXPECTED,
    "control": _PATTERNS_EXPECTED,
    "revoke": "true or false",
    "sub": "a text",
    "jti": "a text of 1 to 200 characters",
    "aud": "a text or a list of texts",
}
"""The requirement of each claim, for error messages."""

_EARLIEST = 1e9
"""An earlier `exp`, in seconds, is a duration: 2001 was before JSON Web Tokens."""
_LATEST = 1e11
"""A later time is in milliseconds: in seconds it would be in the year 5138."""
MAX_QUOTED = 30
"""Characters of a token's text that an error quotes, so that it fits into a close reason."""


def read_token(
    text: str, keys: Iterable[Key], *, now: float, audience: str | None = None
) -> Permissions:
    """Returns the permissions that a token grants at the Unix time `now`.

    Their `expires_at` includes the leeway.

    Raises:
        Unauthorized: The token is not valid; `refusal` is "expired" if it was valid before.
        UnknownKey: The key is unknown, so the token may be valid.
    """
    claims = _signed(text, tuple(keys))
    _check_times(claims, now)
    if audience is None:
        if claims.aud:
            raise Unauthorized("the token is for another audience: there is no --audience here")
    elif audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise Unauthorized("the token is for another audience: its `aud` is not the --audience")
    if (claims.watch, claims.publish, claims.control, claims.revoke) == (UNSET,) * 4:
        raise Unauthorized(
            "the token grants nothing: it has none of `watch`, `publish`, `control` and `revoke`"
        )
    return Permissions(
        watch=_patterns("watch", claims.watch),
        publish=_patterns("publish", claims.publish),
        control=_patterns("control", claims.control),
        revoke=claims.revoke is True,
        expires_at=claims.exp + LEEWAY,
        token_id=claims.jti,
        subject=claims.sub,
    )


def _check_times(claims: _Claims, now: float) -> None:
    for name, time in (("exp", claims.exp), ("nbf", claims.nbf)):
        if time > _LATEST:
            raise Unauthorized(
                f"the token's `{name}` is in milliseconds: it must be {_TIME_EXPECTED}"
            )
    if claims.exp < _EARLIEST:
        raise Unauthorized(f"the token's `exp` is {claims.exp:.0f}: it must be {_TIME_EXPECTED}")
    if now < claims.nbf - LEEWAY:
        raise Unauthorized(f"the token is not valid before {_utc(claims.nbf)}, its `nbf`")
    if now >= claims.exp + LEEWAY:
        raise Unauthorized(f"the token expired at {_utc(claims.exp)}, its `exp`", "expired")


def _utc(time: float) -> str:
    """Returns the time as a text. It is absolute, because the log contains an equal text only
    once."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _patterns(name: str, texts: list[str] | UnsetType) -> Patterns:
    patterns: list[str] = [] if texts is UNSET else texts
    try:
        return Patterns.parse(patterns)
    except InvalidInput:
        invalid = next(text for text in patterns if not _is_pattern(text))
        plain = invalid.encode("ascii", "replace").decode()  # a byte for each character
        quoted = repr(plain if len(plain) <= MAX_QUOTED else f"{plain[:MAX_QUOTED]}...")
        raise Unauthorized(
            f"the token's `{name}` has {quoted}: not a job id, nor its beginning with * at the end"
        ) from None


def _is_pattern(text: str) -> bool:
    try:
        Patterns.parse([text])
    except InvalidInput:
        return False
    return True


def _signed(text: str, keys: Sequence[Key]) -> _Claims:
    """Returns the claims of a token, if one of the keys has signed it."""
    if len(text) > MAX_TOKEN:
        raise Unauthorized(f"the token is longer than {MAX_TOKEN} characters")
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthorized(f"not a JSON Web Token: {_mistake_in(text)}") from None
    algorithm, id_ = header.get("alg"), header.get("kid")
    candidates = [
        key
        for key in keys
        if key.algorithm == algorithm and (key.id is None or id_ is None or key.id == id_)
    ]
    for key in candidates:
        try:
            payload = _jws.decode(text, key.public, algorithms=[key.algorithm])
            return _claims.decode(payload)
        except jwt.InvalidSignatureError:
            continue
        except msgspec.MsgspecError as error:
            raise Unauthorized(f"the token's {_malformed(str(error))}") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthorized("the token's header or its signature is malformed") from None
    if not any(key.algorithm == algorithm for key in keys):
        known = " and ".join(sorted({key.algorithm for key in keys}))
        raise UnknownKey(
            f"no key here is for the token's `alg`, {str(algorithm)[:20]!r}, only for {known}"
        )
    if not candidates:
        raise UnknownKey(f"the token's `kid`, {str(id_)[:40]!r}, is not the id of a key here")
    raise UnknownKey("no key here matches the token's signature: is it the same secret?")


def _malformed(error: str) -> str:
    """Returns what is wrong with claims that msgspec cannot decode."""
    if missing := re.search(r"missing required field `(\w+)`", error):
        return f"claims have no `{missing[1]}`: it must be {_RULES[missing[1]]}"
    name = re.search(r"\$\.(\w+)", error)
    return f"`{name[1]}` must be {_RULES[name[1]]}" if name else "claims are not a JSON object"


_MISTAKES = [
    (re.compile(pattern), words)
    for pattern, words in (
        ("$", "it is empty"),
        ("b['\"]", "it is Python's repr of bytes, decode() it first"),
        ("(?i:bearer) ", 'leave out "Bearer "'),
        (r"(undefined|null|None|\[object \w+\])$", "it is the text '{}'"),
        (r"[{[]", "it is a JSON document, perhaps an error"),
        ("<", "it is an HTML page, perhaps the error of a proxy"),
        ("[\"']", "leave out the quotation marks"),
        (r"[^.]*\.[^.]*\.[^.]*$", "its parts are not base64url; perhaps it was cut off or changed"),
        ("", "a token has three parts, with dots between them"),
    )
]
"""The most common mistakes that produce a text which is no token. `web/src/tokens.js` has the same
table, because the client sends no such text."""


def _mistake_in(text: str) -> str:
    return next(words for pattern, words in _MISTAKES if pattern.match(text)).replace("{}", text)


def sign_token(
    key: Key,
    *,
    now: float,
    ttl: float,
    watch: Sequence[str] = (),
    publish: Sequence[str] = (),
    control: Sequence[str] = (),
    revoke: bool = False,
    subject: str | None = None,
    audience: str | None = None,
    token_id: str | None = None,
) -> str:
    """Returns a new token that is valid for `ttl` seconds.

    Raises:
        InvalidInput: `watch`, `publish` or `control` has a text that is not a pattern,
            `token_id` cannot be used to revoke the token, or the token would be too long for
            a gateway.
    """
    for patterns in (watch, publish, control):
        Patterns.parse(patterns)
    try:
        msgspec.convert(token_id, TokenId | None)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"not a token's id: {error}") from None
    claims = {
        "iat": int(now),
        "exp": int(now + ttl),
        "jti": token_urlsafe(12) if token_id is None else token_id,
        "watch": list(watch),
        "publish": list(publish),
        "control": list(control) or None,
        "revoke": revoke or None,
        "sub": subject,
        "aud": audience,
    }
    payload = {name: value for name, value in claims.items() if value is not None}
    headers = {"kid": key.id} if key.id is not None else None
    token = jwt.encode(payload, key.private, algorithm=key.algorithm, headers=headers)
    if len(token) > MAX_TOKEN:
        raise InvalidInput(
            f"the token would have {len(token):,} characters, and gateways accept "
            f"{MAX_TOKEN:,}: give it fewer patterns"
        )
    return token
