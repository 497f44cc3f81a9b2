"""A token's text → permissions, and back. JSON Web Tokens (RFC 7519), checked as in RFC 8725.

    {"watch": ["user:7:*"], "publish": [], "exp": 1767225600, "jti": "…", "sub": "user 7"}

`exp` is required. `watch`, `publish` and `control` are lists of patterns; `revoke` is true for
clients that may revoke tokens of others. A missing claim grants nothing. `nbf` and `aud` are
checked, other claims are ignored. PyJWT checks the signature; this module reads the claims, with
the time as an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from secrets import token_urlsafe

import jwt
import msgspec
from msgspec import Struct

from ..model.constants import MAX_TOKEN
from ..model.errors import InvalidInput, Unauthorized
from ..model.patterns import Patterns
from .keys import Key
from .permissions import LEEWAY, Permissions
from .revocations import TokenId

__all__ = ["UnknownKey", "mint", "read_token"]


class UnknownKey(Unauthorized):
    """The token is signed with a key that is unknown here, or not yet known."""


class _Claims(Struct):
    exp: float
    nbf: float = 0.0
    watch: list[str] = []
    publish: list[str] = []
    control: list[str] = []
    revoke: bool = False
    sub: str | None = None
    jti: TokenId | None = None
    aud: str | list[str] = []


_claims = msgspec.json.Decoder(_Claims)
_jws = jwt.PyJWS()


def read_token(
    text: str, keys: Iterable[Key], *, now: float, audience: str | None = None
) -> Permissions:
    """The permissions that a token grants at the Unix time `now`.

    `expires_at` includes the leeway.

    Raises:
        Unauthorized: The token is not valid; `why` is "expired" if it was valid before.
        UnknownKey: The key is unknown, so the token may be valid.
    """
    claims = _signed(text, tuple(keys))
    if audience is None:
        if claims.aud:
            raise Unauthorized("the token is for another audience: there is no --audience here")
    elif audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise Unauthorized("the token is for another audience: its `aud` is not the --audience")
    if now < claims.nbf - LEEWAY:
        raise Unauthorized(f"the token is not valid yet: `nbf` is {claims.nbf - now:.0f} s ahead")
    if now >= claims.exp + LEEWAY:
        raise Unauthorized(f"the token has expired {now - claims.exp:.0f} s ago", "expired")
    try:
        return Permissions(
            watch=Patterns.parse(claims.watch),
            publish=Patterns.parse(claims.publish),
            control=Patterns.parse(claims.control),
            revoke=claims.revoke,
            expires_at=claims.exp + LEEWAY,
            token_id=claims.jti,
            subject=claims.sub,
        )
    except InvalidInput as error:
        raise Unauthorized(f"the token cannot be read: {error}") from None


def _signed(text: str, keys: Sequence[Key]) -> _Claims:
    """The claims of a token, if one of the keys has signed it."""
    if len(text) > MAX_TOKEN:
        raise Unauthorized(f"the token is longer than {MAX_TOKEN} characters")
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthorized(f"not a JSON Web Token{_hint(text)}") from None
    algorithm, id_ = header.get("alg"), header.get("kid")
    fitting = [
        key
        for key in keys
        if key.algorithm == algorithm and (key.id is None or id_ is None or key.id == id_)
    ]
    for key in fitting:
        try:
            payload = _jws.decode(text, key.public, algorithms=[key.algorithm])
            return _claims.decode(payload)
        except jwt.InvalidSignatureError:
            continue
        except msgspec.MsgspecError as error:
            raise Unauthorized(f"the token's claims cannot be read: {error}") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthorized("the token is not valid") from None
    if not any(key.algorithm == algorithm for key in keys):
        raise UnknownKey(f"no key here is for the token's `alg`, {str(algorithm)[:20]!r}")
    if not fitting:
        raise UnknownKey(f"the token's `kid`, {str(id_)[:40]!r}, is not the id of a key here")
    raise UnknownKey("no key here matches the token's signature: is it the same secret?")


def _hint(text: str) -> str:
    """The most common mistake that produces such a text."""
    if text.startswith(("b'", 'b"')):
        return ": it is Python's repr of bytes, decode() it first"
    if text[:7].lower() == "bearer ":
        return ': leave out "Bearer "'
    if text.lstrip()[:1] in ("{", "<"):
        return ": it is a JSON document, perhaps an error"
    return "; a token has three parts, with dots between them"


def mint(
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
    """Return a new token that is valid for `ttl` seconds.

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
