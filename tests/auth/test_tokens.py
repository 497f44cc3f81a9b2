"""The matrix of tokens: the error of each kind of invalid token, and the permissions of others."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys import Key, read_keys
from gateway.auth.permissions import LEEWAY
from gateway.auth.tokens import UnknownKey, read_token, sign_token
from gateway.model.errors import InvalidInput, InvalidSettings, Unauthorized
from gateway.model.patterns import Patterns
from gateway.protocol import close_codes

from .signing import (
    NOW,
    OTHER_SECRET,
    SECRET,
    certificate,
    forge,
    jwk,
    jwks,
    private_key,
    private_pem,
    public_pem,
    sign,
)

ALGORITHMS = ["RS256", "ES256", "EdDSA"]
GOOD: dict[str, Any] = {"exp": NOW + 60, "watch": ["video:*"], "sub": "me", "jti": "t1"}
KEYS = read_keys(SECRET, source="test")


def reason(token: str, keys: list[Key] = KEYS, **more: Any) -> str:
    with pytest.raises(Unauthorized) as caught:
        read_token(token, keys, now=NOW, **more)
    return f"{close_codes.CODE_BY_REFUSAL[caught.value.refusal].code} {caught.value}"


def test_a_token_has_the_permissions_of_its_claims() -> None:
    permissions = read_token(sign(GOOD | {"publish": ["a", "b:*"]}), KEYS, now=NOW)
    assert (permissions.subject, permissions.token_id) == ("me", "t1")
    assert permissions.expires_at == NOW + 60 + LEEWAY
    assert permissions.watch == Patterns.parse(["video:*"])
    assert "b:1" in permissions.publish
    assert "video:1" not in permissions.publish
    assert not permissions.revoke


def test_a_token_that_is_minted_without_permissions_has_none() -> None:
    permissions = read_token(sign_token(KEYS[0], now=NOW, ttl=60), KEYS, now=NOW)
    for patterns in (permissions.watch, permissions.publish, permissions.control):
        assert patterns == Patterns.parse([])
    assert not permissions.revoke
    assert permissions.subject is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", ["pem", "private pem", "jwks"])
def test_tokens_with_public_keys_are_verified(algorithm: str, form: str) -> None:
    text = {
        "pem": lambda: public_pem(algorithm),
        "private pem": lambda: private_pem(algorithm),
        "jwks": lambda: jwks(jwk(algorithm, "k1")),
    }[form]()
    keys = read_keys(text, source="test")
    assert [key.algorithm for key in keys] == [algorithm]
    assert (keys[0].private is not None) == (form == "private pem")
    token = sign(GOOD, key=private_key(algorithm), algorithm=algorithm)
    assert read_token(token, keys, now=NOW).subject == "me"
    assert "no key" in reason(sign(GOOD), keys)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": NOW - LEEWAY}, "4100 the token expired"),
        ({"exp": None}, "4500"),
        ({"exp": "tomorrow"}, "4500"),
        ({"nbf": NOW + LEEWAY + 1}, "4500 the token is not valid before"),
        ({"watch": ["a*b"]}, "'a*b'"),
        ({"watch": "video:*"}, "4500"),
        ({"watch": [7]}, "4500"),
        ({"aud": "elsewhere"}, "another audience"),
        ({"jti": 7}, "4500"),
        ({"jti": ""}, "`jti`"),
        ({"jti": "x" * 201}, "`jti`"),
    ],
)
def test_invalid_claims_are_rejected(claims: dict[str, Any], expected: str) -> None:
    token = forge({"alg": "HS256"}, GOOD | claims, key=SECRET.encode())
    assert expected in reason(token)


def test_exp_is_required() -> None:
    assert "`exp`" in reason(sign({"watch": ["*"]}))


@pytest.mark.parametrize("claims", [{"exp": NOW - LEEWAY + 1}, {"nbf": NOW + LEEWAY}])
def test_a_small_clock_difference_is_tolerated(claims: dict[str, Any]) -> None:
    assert read_token(sign(GOOD | claims), KEYS, now=NOW).watch


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "None"}, {"alg": ""}, {}])
def test_the_algorithm_none_is_rejected(header: dict[str, Any]) -> None:
    assert reason(forge(header, GOOD)).startswith("4500")
    assert reason(forge(header, GOOD, key=SECRET.encode())).startswith("4500")


def test_a_wrong_key_or_algorithm_is_rejected() -> None:
    assert "no key" in reason(sign(GOOD, key=OTHER_SECRET))
    assert "no key" in reason(sign(GOOD, key=SECRET * 2, algorithm="HS512"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_public_key_is_not_used_as_a_shared_secret(algorithm: str) -> None:
    """A well-known attack: the public key is used as an HMAC secret."""
    pem = public_pem(algorithm)
    for key in (pem, pem.strip()):
        token = forge({"alg": "HS256"}, GOOD, key=key.encode())
        assert "no key" in reason(token, read_keys(pem, source="test"))


def test_keys_are_chosen_by_kid() -> None:
    keys = read_keys(jwks(jwk("ES256", "old"), jwk("EdDSA", "new")), source="test")
    new = private_key("EdDSA")
    assert read_token(sign(GOOD, key=new, algorithm="EdDSA", kid="new"), keys, now=NOW).watch
    assert read_token(sign(GOOD, key=new, algorithm="EdDSA"), keys, now=NOW).watch
    with pytest.raises(UnknownKey):
        read_token(sign(GOOD, key=new, algorithm="EdDSA", kid="old"), keys, now=NOW)


@pytest.mark.parametrize(
    "header",
    [{"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/"}, {"jwk": {"kty": "oct"}}],
)
def test_a_key_in_the_token_is_ignored(header: dict[str, Any]) -> None:
    assert "no key" in reason(sign(GOOD, key=OTHER_SECRET, **header))


def test_an_unknown_critical_header_is_rejected() -> None:
    token = forge({"alg": "HS256", "crit": ["x"], "x": 1}, GOOD, key=SECRET.encode())
    assert reason(token).startswith("4500")


def test_another_audience_is_rejected() -> None:
    for audience in ("us", ["others", "us"]):
        assert read_token(sign(GOOD | {"aud": audience}), KEYS, now=NOW, audience="us").watch
    for claims in (GOOD, GOOD | {"aud": "others"}, GOOD | {"aud": []}):
        assert "another audience" in reason(sign(claims), audience="us")


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "ü", "\0", "x" * 9_000, "🔑.🔑.🔑"])
def test_texts_that_are_not_tokens_are_rejected(token: str) -> None:
    assert reason(token).startswith("4500")


@given(st.data())
def test_a_modified_token_is_rejected(data: st.DataObject) -> None:
    token = sign(GOOD)
    at = data.draw(st.integers(0, len(token) - 1))
    changed = token[:at] + data.draw(st.characters(max_codepoint=127)) + token[at + 1 :]
    try:
        assert read_token(changed, KEYS, now=NOW).subject == "me"
    except Unauthorized:
        return
    # Base64 has unused bits in its last character: the same bytes in another form.
    assert at in (len(token) - 1, at if changed == token else -1)


def test_a_signed_token_is_valid() -> None:
    (key,) = read_keys(SECRET, source="test")
    token = sign_token(key, now=NOW, ttl=60, watch=["a:*"], subject="me", audience="us")
    permissions = read_token(token, [key], now=NOW, audience="us")
    assert (permissions.subject, permissions.expires_at) == ("me", NOW + 60 + LEEWAY)
    assert permissions.token_id
    with pytest.raises(InvalidInput, match="not a pattern"):
        sign_token(key, now=NOW, ttl=60, watch=["a*b"])
    for wrong in ("", "x" * 201):
        with pytest.raises(InvalidInput, match="not a token's id"):
            sign_token(key, now=NOW, ttl=60, token_id=wrong)


class TestKeys:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("short", "openssl rand"),
            ("", "openssl rand"),
            ("{", "not readable"),
            ("{}", "not a JWK Set"),
            ('{"keys": 7}', "not a JWK Set"),
            ('{"keys": []}', "0 keys"),
            ('{"keys": [{"kty": "EC", "crv": "P-256"}]}', "not readable"),
            ('{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}', "openssl rand"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not readable"),
            ("-----BEGIN", "not readable"),
        ],
    )
    def test_an_invalid_key_is_reported_without_its_text(self, text: str, expected: str) -> None:
        with pytest.raises(InvalidSettings) as caught:
            read_keys(text, source="/etc/keys")
        assert str(caught.value).startswith("/etc/keys: ")
        assert expected in str(caught.value)
        assert caught.value.field == "keys"
        assert not text or text not in str(caught.value)

    @pytest.mark.parametrize(
        "text",
        [
            "<!doctype html>\n<title>Sign in</title>\n" + "We'll be right back. " * 3,
            f"<html><body>{'x' * 40}</body></html>",
            f'[{{"kty":"OKP","crv":"Ed25519","x":"{"x" * 43}"}}]',
            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin",
            f"ssh-ed25519 {'A' * 68} me@there",
            f"---- BEGIN SSH2 PUBLIC KEY ----\n{'A' * 68}\n---- END SSH2 PUBLIC KEY ----",
            "https://idp.example/.well-known/jwks.json",
            f"\ufeff{SECRET}",
            f"{SECRET}\n{OTHER_SECRET}",
            *("".join(public_pem(algorithm).splitlines()[1:-1]) for algorithm in ALGORITHMS),
            "".join(certificate().splitlines()[1:-1]),
        ],
        ids=count(),  # numbers as ids: the random texts of keys must not be in the names of tests
    )
    def test_public_texts_are_rejected_as_secrets(self, text: str) -> None:
        with pytest.raises(InvalidSettings, match="neither a JWK Set, nor PEM"):
            read_keys(text, source="x")

    @pytest.mark.parametrize("secret", ["f" * 64, "a+/9" * 10 + "A==", "ü!@#$%^&*(-_=+)" * 3])
    def test_any_long_word_is_a_secret(self, secret: str) -> None:
        (key,) = read_keys(f"{secret}\n", source="x")
        assert read_token(sign(GOOD, key=secret), [key], now=NOW).watch

    def test_a_fetched_key_set_must_not_contain_secrets(self) -> None:
        secret = {"kty": "oct", "k": "A" * 60}
        document = jwks(secret, jwk("ES256", "a"))
        assert [key.id for key in read_keys(document, source="x", fetched=True)] == ["a"]
        for text, expected in (
            (jwks(secret), "0 keys"), (SECRET, "not a JWK Set"),
            (public_pem("ES256"), "not a JWK Set"),
        ):  # fmt: skip
            with pytest.raises(InvalidSettings, match=expected):
                read_keys(text, source="x", fetched=True)

    @given(
        st.fixed_dictionaries(
            {"kty": st.sampled_from(["oct", "RSA", "EC", "OKP", None, []])},
            optional=dict.fromkeys(
                ("crv", "n", "e", "d", "p", "q", "x", "y", "k", "kid", "use", "alg", "oth"),
                st.sampled_from(["P-256", "Ed25519", "AQAB", "x" * 43, "-", "ü", "", None, 5, []]),
            ),
        )
    )
    def test_any_jwk_is_a_key_or_reported(self, jwk: dict[str, Any]) -> None:
        with suppress(InvalidSettings):
            assert read_keys(jwks(jwk), source="x")

    def test_weak_and_unknown_key_types_are_rejected(self) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        weak = rsa.generate_private_key(65537, 1024).public_key()  # noqa: S505 - weak on purpose
        foreign = ec.generate_private_key(ec.SECP384R1()).public_key()
        for key, expected in ((weak, "1024 bits"), (foreign, "neither RSA")):
            pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            with pytest.raises(InvalidSettings, match=expected):
                read_keys(pem, source="x")

    def test_keys_for_other_uses_are_left_out(self) -> None:
        document = jwks(
            jwk("ES256", "a") | {"use": "enc"}, jwk("ES256", "b") | {"alg": "ES512"},
            jwk("ES256", "c") | {"use": "sig", "alg": "ES256"}, {"kty": "strange"},
        )  # fmt: skip
        assert [key.id for key in read_keys(document, source="x")] == ["c"]

    @pytest.mark.parametrize("before", ["", "\n", "\ufeff", "# since May\n", "Bag <None>\r\n"])
    def test_several_pem_blocks_with_text_between_are_read(self, before: str) -> None:
        text = f"{before}{public_pem('ES256')}{before}{private_pem('EdDSA')}{before}"
        assert [key.algorithm for key in read_keys(text, source="x")] == ["ES256", "EdDSA"]

    def test_one_invalid_pem_block_rejects_the_file(self) -> None:
        for other in (certificate(), public_pem("ES256")[:-9]):
            with pytest.raises(InvalidSettings, match="not readable"):
                read_keys(f"{other}\n{public_pem('EdDSA')}", source="x")

    def test_a_private_jwk_signs_tokens(self) -> None:
        text = jwks(jwk("EdDSA", "k", private=True))
        (key,) = read_keys(text, source="x")
        token = sign_token(key, now=NOW, ttl=60, watch=["*"])
        (public,) = read_keys(jwks(jwk("EdDSA", "k")), source="x")
        assert read_token(token, [public], now=NOW).watch

    def test_keys_are_not_in_the_repr(self) -> None:
        assert SECRET not in repr(read_keys(SECRET, source="x"))
        assert json.loads(jwks(jwk("ES256", "x", private=True)))["keys"][0]["d"] not in repr(
            read_keys(jwks(jwk("ES256", "x", private=True)), source="x")
        )
