"""A token's text → rights, and back. JSON Web Tokens (RFC 7519, checked as RFC 8725 says).

    {"watch": ["user:7:*"], "publish": [], "exp": 1767225600, "jti": "…", "sub": "user 7"}

`exp` is required. `watch` and `publish` are lists of patterns, `revoke` is true for those
who may revoke other people's tokens; what is absent is not allowed. `nbf` and `aud` are
heeded, other claims ignored. Signatures are PyJWT's part; what is claimed is read here, by
a clock that is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from secrets import token_urlsafe

import jwt
import msgspec
from msgspec import Struct

from .. import endings
from ..errors import InvalidInput, Unauthorized
from ..limits import MAX_TOKEN
from .keys import Key
from .patterns import Patterns
from .revocations import TokenId
from .rights import LEEWAY, Rights

__all__ = ["UnknownKey", "mint", "read_token"]


class UnknownKey(Unauthorized):
    """Signed with a key that is not known here, or not yet."""


class _Claims(Struct):
    exp: float
    nbf: float = 0.0
    watch: list[str] = []
    publish: list[str] = []
    revoke: bool = False
    sub: str | None = None
    jti: TokenId | None = None
    aud: str | list[str] = []


_claims = msgspec.json.Decoder(_Claims)
_jws = jwt.PyJWS()


def read_token(
    text: str, keys: Iterable[Key], *, now: float, audience: str | None = None
) -> Rights:
    """The rights that a token gives at the Unix time `now`.

    `expires_at` has the leeway in it. Raises `Unauthorized`: with `endings.EXPIRED` if it
    was good once, `UnknownKey` if it may be good, but we have no key for it.
    """
    claims = _signed(text, keys)
    if audience is None:
        if claims.aud:
            raise Unauthorized("the token is for another audience")
    elif audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise Unauthorized("the token is for another audience")
    if now < claims.nbf - LEEWAY:
        raise Unauthorized("the token is not valid yet")
    if now >= claims.exp + LEEWAY:
        raise Unauthorized("the token has expired", endings.EXPIRED)
    try:
        return Rights(
            watch=Patterns.parse(claims.watch),
            publish=Patterns.parse(claims.publish),
            revoke=claims.revoke,
            expires_at=claims.exp + LEEWAY,
            token_id=claims.jti,
            subject=claims.sub,
        )
    except InvalidInput as error:
        raise Unauthorized(f"the token is not understood: {error}") from None


def _signed(text: str, keys: Iterable[Key]) -> _Claims:
    """What a token claims, if one of the keys has signed it."""
    if len(text) > MAX_TOKEN:
        raise Unauthorized(f"the token is longer than {MAX_TOKEN} characters")
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthorized("the token is no JSON Web Token") from None
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
            raise Unauthorized(f"the token's claims are not understood: {error}") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthorized("the token is not valid") from None
    raise UnknownKey("the token is signed with no key that is known here")


def mint(
    key: Key,
    *,
    now: float,
    ttl: float,
    watch: Sequence[str] = (),
    publish: Sequence[str] = (),
    revoke: bool = False,
    subject: str | None = None,
    audience: str | None = None,
    token_id: str | None = None,
) -> str:
    """A new token that is good for `ttl` seconds.

    Raises `InvalidInput` if something in `watch` or `publish` is no pattern, or `token_id`
    none by which it could be revoked.
    """
    for patterns in (watch, publish):
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
        "revoke": revoke or None,
        "sub": subject,
        "aud": audience,
    }
    payload = {name: value for name, value in claims.items() if value is not None}
    headers = {"kid": key.id} if key.id is not None else None
    return jwt.encode(payload, key.private, algorithm=key.algorithm, headers=headers)
