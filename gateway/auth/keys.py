"""The keys that sign tokens, read from text that an operator provides.

The text is a JWK Set (RFC 7517), PEM blocks with or without other text around them (RFC 7468
§2), or a shared secret, which is one word. A text that is none of these is refused and never
taken as a secret: if a page, a certificate or a public key were one, every client could sign.
For the same reason a fetched text contains no secrets.

Each key has one algorithm. So the token's header, which the client writes, cannot choose how
the token is checked (RFC 8725 §3.1); the algorithm `none` is not supported.

    secret, `oct`    HS256
    RSA              RS256
    EC P-256         ES256
    Ed25519          EdDSA
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import jwt
from attrs import evolve, field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_der_x509_certificate

from ..model.errors import InvalidSettings

__all__ = ["MAX_KEYS", "MIN_SECRET", "Key", "read_keys", "repeated_ids"]

MIN_SECRET = 32
"""Bytes of a shared secret (RFC 7518 §3.2): a shorter one can be guessed from a token."""
MIN_RSA_BITS = 2048
"""Bits of an RSA key (RFC 7518 §3.3)."""
MAX_KEYS = 32
"""Keys in one set: a token that names no key is checked against each."""

_BEGIN = "-----BEGIN"
_AFTER_BLOCK = re.compile(r"(-----END [^\n]*?-----).*", re.DOTALL)
_NO_SECRET = re.compile(r"\s|^[\[<]|://")
"""Texts that cannot be a secret: several lines or words, a list, a page, a URL."""

_ALGORITHMS = {"oct": "HS256", "RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_SECRET_FIELDS = {"d", "p", "q", "dp", "dq", "qi", "oth"}


_UNREADABLE = (
    ValueError, TypeError, KeyError, AttributeError, RecursionError, UnsupportedAlgorithm,
    jwt.PyJWTError,
)  # fmt: skip
"""The exceptions of the libraries for a text of another format or structure, or with deep
nesting."""


class _NotAKey(ValueError):
    """The text is not a key. The message says why, for the operator."""


@frozen
class Key:
    """A key that checks tokens, and perhaps signs them."""

    algorithm: str
    public: Any = field(repr=False)
    """The public key in the form that PyJWT takes; for a shared secret, its bytes."""
    private: Any = field(default=None, repr=False)
    """None: this key can check tokens, but not sign them."""
    id: str | None = None
    """The `kid` of tokens signed with it."""


def read_keys(text: str, *, source: str, fetched: bool = False) -> list[Key]:
    """Returns the keys in a text, without keys of a JWK Set that are for other uses.

    A `fetched` text must be a JWK Set; its shared secrets are ignored. Raises `InvalidSettings`
    (field `keys`), which names `source` and never quotes the text.
    """
    text = text.strip()
    try:
        if text.startswith("{"):
            keys = _from_jwks(json.loads(text))
        elif fetched:
            raise _NotAKey("not a JWK Set")
        elif _BEGIN in text:
            keys = [_from_pem(block) for block in _blocks(text)]
        else:
            keys = [_from_secret(_word(text))]
    except _UNREADABLE as error:
        # The libraries' errors may quote the text.
        is_explained = isinstance(error, _NotAKey)
        reason = str(error) if is_explained else f"not readable ({type(error).__name__})"
        raise InvalidSettings(f"{source}: {reason}", field="keys") from None
    if fetched:
        keys = [key for key in keys if key.algorithm != "HS256"]
    if not 1 <= len(keys) <= MAX_KEYS:
        raise InvalidSettings(f"{source}: {len(keys)} keys, not 1 to {MAX_KEYS}", field="keys")
    return keys


def _from_secret(secret: bytes) -> Key:
    if len(secret) < MIN_SECRET:
        raise _NotAKey(
            f"a shared secret of {len(secret)} bytes, not of at least {MIN_SECRET}; "
            "`openssl rand -hex 32` makes one"
        )
    return Key("HS256", secret, secret)


def _word(text: str) -> bytes:
    """Returns the text as a shared secret, if it can be one."""
    if not text.isprintable() or _NO_SECRET.search(text) or _is_public(text):
        raise _NotAKey(
            "neither a JWK Set, nor PEM with its BEGIN and END lines, nor a shared secret, which "
            "is one word; `openssl rand -hex 32` makes one"
        )
    return text.encode()


def _is_public(text: str) -> bool:
    """Returns whether it is the body of a public key or certificate in PEM, without the BEGIN
    line."""
    for load in (load_der_public_key, load_der_x509_certificate):
        with suppress(ValueError, UnsupportedAlgorithm):
            load(base64.b64decode(text))
            return True
    return False


def _blocks(text: str) -> list[bytes]:
    """Returns the PEM blocks of a text, without the text around them."""
    blocks = [_BEGIN + part for part in text.split(_BEGIN)[1:]]
    return [_AFTER_BLOCK.sub(r"\1", block).encode() for block in blocks]


def _from_pem(block: bytes) -> Key:
    private = load_pem_private_key(block, None) if b"PRIVATE" in block.split(b"\n")[0] else None
    public: Any = load_pem_public_key(block) if private is None else private.public_key()
    return Key(_algorithm(public), public, private)


def _algorithm(public: Any) -> str:
    """Returns the algorithm for a public key. Raises `ValueError` if it is not supported."""
    match public:
        case rsa.RSAPublicKey() if public.key_size >= MIN_RSA_BITS:
            return "RS256"
        case rsa.RSAPublicKey():
            raise _NotAKey(f"an RSA key of {public.key_size} bits, not of at least {MIN_RSA_BITS}")
        case ec.EllipticCurvePublicKey() if isinstance(public.curve, ec.SECP256R1):
            return "ES256"
        case ed25519.Ed25519PublicKey():
            return "EdDSA"
    raise _NotAKey("a key that is neither RSA nor EC P-256 nor Ed25519")


def _from_jwks(document: Mapping[str, Any]) -> list[Key]:
    members = document.get("keys", [document] if "kty" in document else None)
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise _NotAKey("a JSON text that is not a JWK Set")
    keys = []
    for jwk in members:
        algorithm = _ALGORITHMS.get(jwk.get("kty", ""))
        # A set may hold keys for other uses and unknown algorithms: RFC 7517 §5.
        if algorithm and jwk.get("use", "sig") == "sig" and jwk.get("alg", algorithm) == algorithm:
            may_verify, may_sign = _operations(jwk)
            if may_verify:
                key = _from_jwk(jwk, algorithm)
                keys.append(key if may_sign else evolve(key, private=None))
    return keys


def _operations(jwk: Mapping[str, Any]) -> tuple[bool, bool]:
    """Returns whether a key may verify, and whether it may sign (`key_ops`, RFC 7517 §4.3).

    The public half of a key pair may always verify what the private half signed.
    """
    operations = jwk.get("key_ops", ["verify", "sign"])
    if not isinstance(operations, list) or not all(
        isinstance(member, str) for member in operations
    ):
        raise _NotAKey("a key whose key_ops is not a list of strings")
    may_sign = "sign" in operations
    return "verify" in operations or (may_sign and "d" in jwk), may_sign


def repeated_ids(keys: Iterable[Key]) -> list[str]:
    """Returns each `kid` that several different keys of one algorithm share (RFC 7517 §4.5)."""
    keys_by_id: dict[tuple[str, str | None], list[Any]] = {}
    for key in keys:
        same = keys_by_id.setdefault((key.algorithm, key.id), [])
        if key.public not in same:
            same.append(key.public)
    return sorted(id_ for (_, id_), same in keys_by_id.items() if id_ is not None and len(same) > 1)


def _from_jwk(jwk: Mapping[str, Any], algorithm: str) -> Key:
    id_ = jwk.get("kid")
    if id_ is not None and not isinstance(id_, str):
        raise _NotAKey("a key whose kid is not a string")
    if algorithm == "HS256":
        secret = jwt.PyJWK(dict(jwk), algorithm).key
        key = _from_secret(secret)
        return Key(algorithm, key.public, key.private, id_)
    open_part = {name: value for name, value in jwk.items() if name not in _SECRET_FIELDS}
    public = jwt.PyJWK(open_part, algorithm).key
    private = jwt.PyJWK(dict(jwk), algorithm).key if "d" in jwk else None
    if _algorithm(public) != algorithm:
        raise _NotAKey("a key that does not fit its algorithm")
    return Key(algorithm, public, private, id_)
