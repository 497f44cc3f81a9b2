"""Keys for tests, and tokens signed with them, including invalid ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

SECRET = "a-shared-secret-of-at-least-thirty-two-bytes"  # noqa: S105 - of tests
OTHER_SECRET = "another-shared-secret-of-thirty-two-bytes-too"  # noqa: S105 - of tests
NOW = 1_800_000_000.0


@cache
def private_key(algorithm: str) -> Any:
    """Makes a private key. It is kept for the session, because making RSA keys is slow."""
    match algorithm:
        case "RS256":
            return rsa.generate_private_key(65537, 2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
    raise KeyError(algorithm)


def private_pem(algorithm: str) -> str:
    pem: bytes = private_key(algorithm).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return pem.decode()


def public_pem(algorithm: str) -> str:
    pem: bytes = (
        private_key(algorithm)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return pem.decode()


@cache
def certificate() -> str:
    return trustme.CA().cert_pem.bytes().decode()


def jwk(algorithm: str, kid: str | None, *, private: bool = False) -> dict[str, Any]:
    key = private_key(algorithm)
    of = jwt.get_algorithm_by_name(algorithm)
    fields: dict[str, Any] = json.loads(of.to_jwk(key if private else key.public_key()))
    return fields if kid is None else fields | {"kid": kid}


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": keys})


def sign(
    claims: dict[str, Any], *, key: Any = SECRET, algorithm: str = "HS256", **header: Any
) -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: dict[str, Any], claims: dict[str, Any], *, key: bytes = b"") -> str:
    """Returns a token that a library refuses to make: with any header, and with an HMAC or no
    signature."""
    signed = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}"
    signature = hmac.digest(key, signed.encode(), hashlib.sha256) if key else b""
    return f"{signed}.{_part(signature)}"
