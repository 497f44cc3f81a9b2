"""The keys that tokens are signed with, read from what an operator has: text.

A text is a JWK Set (RFC 7517), PEM blocks with or without words around them (RFC 7468 §2),
or a shared secret, which is one word. Nothing becomes a secret for want of another meaning:
what is public, such as a page, a certificate or a public key in some other form, would let
everybody sign. For the same reason a text that was fetched holds no secrets.

Each key knows the one algorithm it is for, so that a token's header, which its sender
writes, never decides how it is checked (RFC 8725 §3.1); `none` is no algorithm here.

    secret, `oct`    HS256
    RSA              RS256
    EC P-256         ES256
    Ed25519          EdDSA
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jwt
from attrs import field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_der_x509_certificate

from ..errors import InvalidSettings

__all__ = ["MAX_KEYS", "MIN_SECRET", "Key", "read_keys"]

MIN_SECRET = 32
"""Bytes of a shared secret (RFC 7518 §3.2): a shorter one can be guessed from a token."""
MIN_RSA = 2048
"""Bits of an RSA key (RFC 7518 §3.3)."""
MAX_KEYS = 32
"""In one set: a token that names no key is checked against each."""

_BEGIN = "-----BEGIN"
_AFTER_BLOCK = re.compile(r"(-----END [^\n]*?-----).*", re.DOTALL)
_NO_SECRET = re.compile(r"\s|^[\[<]|://")
"""Lines and sentences; a list, a page, a URL."""

_ALGORITHMS = {"oct": "HS256", "RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
_SECRET_FIELDS = {"d", "p", "q", "dp", "dq", "qi", "oth"}


_UNREADABLE = (
    ValueError, TypeError, KeyError, AttributeError, RecursionError, UnsupportedAlgorithm,
    jwt.PyJWTError,
)  # fmt: skip
"""What the libraries raise for a text of another form or shape, or too deep a one."""


class _NotAKey(ValueError):
    """What an operator may read about why this is none."""


@frozen
class Key:
    """What tokens are checked with, and perhaps signed."""

    algorithm: str
    public: Any = field(repr=False)
    """As PyJWT takes it; of a shared secret, the secret."""
    private: Any = field(default=None, repr=False)
    """None: this key can check, not sign."""
    id: str | None = None
    """The `kid` of tokens signed with it."""


def read_keys(text: str, *, source: str, fetched: bool = False) -> list[Key]:
    """The keys in a text; those of a JWK Set for other uses are left out.

    What was `fetched`, as anybody could, is a JWK Set, and its shared secrets are left out.
    Raises `InvalidSettings` (field `keys`) naming `source`, never quoting the text.
    """
    text = text.strip()
    try:
        if text.startswith("{"):
            keys = _from_jwks(json.loads(text))
        elif fetched:
            raise _NotAKey("no JWK Set")
        elif _BEGIN in text:
            keys = [_from_pem(block) for block in _blocks(text)]
        else:
            keys = [_from_secret(_word(text))]
    except _UNREADABLE as error:
        # Errors of the libraries may quote what they were given.
        told = isinstance(error, _NotAKey)
        reason = str(error) if told else f"not readable ({type(error).__name__})"
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
    """A shared secret, if the text can be meant as one."""
    if not text.isprintable() or _NO_SECRET.search(text) or _is_public(text):
        raise _NotAKey(
            "none of a JWK Set, PEM with its BEGIN and END lines, and a shared secret, which is "
            "one word; `openssl rand -hex 32` makes one"
        )
    return text.encode()


def _is_public(text: str) -> bool:
    """Whether it is a public key or certificate as it stands in PEM, without the lines."""
    for load in (load_der_public_key, load_der_x509_certificate):
        with suppress(ValueError, UnsupportedAlgorithm):
            load(base64.b64decode(text))
            return True
    return False


def _blocks(text: str) -> list[bytes]:
    """Each PEM block of a text, without what stands around it."""
    blocks = [_BEGIN + part for part in text.split(_BEGIN)[1:]]
    return [_AFTER_BLOCK.sub(r"\1", block).encode() for block in blocks]


def _from_pem(block: bytes) -> Key:
    private = load_pem_private_key(block, None) if b"PRIVATE" in block.split(b"\n")[0] else None
    public: Any = load_pem_public_key(block) if private is None else private.public_key()
    return Key(_algorithm(public), public, private)


def _algorithm(public: Any) -> str:
    """The algorithm for a public key. Raises `ValueError` if there is none."""
    match public:
        case rsa.RSAPublicKey() if public.key_size >= MIN_RSA:
            return "RS256"
        case rsa.RSAPublicKey():
            raise _NotAKey(f"an RSA key of {public.key_size} bits, not of at least {MIN_RSA}")
        case ec.EllipticCurvePublicKey() if isinstance(public.curve, ec.SECP256R1):
            return "ES256"
        case ed25519.Ed25519PublicKey():
            return "EdDSA"
    raise _NotAKey("a key of a kind that is none of RSA, EC P-256, Ed25519")


def _from_jwks(document: Mapping[str, Any]) -> list[Key]:
    members = document.get("keys", [document] if "kty" in document else None)
    if not isinstance(members, list) or not all(isinstance(one, dict) for one in members):
        raise _NotAKey("a JSON text that is no JWK Set")
    keys = []
    for jwk in members:
        algorithm = _ALGORITHMS.get(jwk.get("kty", ""))
        # A set may hold keys for other uses and others' algorithms: RFC 7517 §5.
        if algorithm and jwk.get("use", "sig") == "sig" and jwk.get("alg", algorithm) == algorithm:
            keys.append(_from_jwk(jwk, algorithm))
    return keys


def _from_jwk(jwk: Mapping[str, Any], algorithm: str) -> Key:
    id_ = jwk.get("kid")
    if id_ is not None and not isinstance(id_, str):
        raise _NotAKey("a key whose kid is no text")
    if algorithm == "HS256":
        secret = jwt.PyJWK(dict(jwk), algorithm).key
        key = _from_secret(secret)
        return Key(algorithm, key.public, key.private, id_)
    open_part = {name: value for name, value in jwk.items() if name not in _SECRET_FIELDS}
    public = jwt.PyJWK(open_part, algorithm).key
    private = jwt.PyJWK(dict(jwk), algorithm).key if "d" in jwk else None
    if _algorithm(public) != algorithm:
        raise _NotAKey("a key that its algorithm is not for")
    return Key(algorithm, public, private, id_)
