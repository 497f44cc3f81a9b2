"""The sources of keys. A real web server in a thread serves the JWK Sets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import jwt
import pytest
import trio
from attrs import define
from cryptography.hazmat.primitives.asymmetric import ec
from trio.testing import MockClock

from gateway.auth.key_sources import MAX_DOCUMENT, MIN_REFRESH_INTERVAL, KeySources
from gateway.auth.keys import read_keys
from gateway.model.errors import InvalidSettings, Unauthorized

from .signing import (
    NOW,
    OTHER_SECRET,
    SECRET,
    jwk,
    jwks,
    private_key,
    private_pem,
    public_pem,
    sign,
)

CLAIMS = {"exp": NOW + 60, "watch": ["*"]}


@define
class Provider:
    """An identity provider: the response that it serves, and the number of requests that it has
    received."""

    url: str = ""
    document: str = ""
    status: int = 200
    rubbish: bytes = b""
    """The bytes that the server sends instead of an HTTP response."""
    requests: int = 0


@pytest.fixture
def provider() -> Iterator[Provider]:
    with _serving(Provider()) as provider:
        yield provider


@contextmanager
def _serving(provider: Provider) -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.requests += 1
            if provider.rubbish:
                self.wfile.write(provider.rubbish)
                return
            self.send_response(provider.status)
            self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(provider.document.encode())

        def log_message(self, *args: object) -> None:
            """Logs nothing, to keep the output of the tests readable."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        provider.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
        try:
            yield provider
        finally:
            server.shutdown()
            serving.join()


def test_keys_are_read_from_files_and_a_secret(tmp_path: Path) -> None:
    pem, other_path = tmp_path / "a.pem", tmp_path / "b"
    pem.write_text(public_pem("ES256"))
    other_path.write_text(f"{SECRET}\n")
    key_sources = KeySources([str(pem), str(other_path)], secret="s" * 32)
    key_sources.load()
    assert [key.algorithm for key in key_sources.keys] == ["HS256", "ES256", "HS256"]


def test_a_document_of_keys_may_be_a_mebibyte(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(jwks(jwk("ES256", "k1")).ljust(MAX_DOCUMENT))
    key_sources = KeySources([str(file)])
    key_sources.load()
    assert [key.algorithm for key in key_sources.keys] == ["ES256"]
    file.write_text(jwks(jwk("ES256", "k1")).ljust(MAX_DOCUMENT + 1))
    with pytest.raises(InvalidSettings, match="over 1048576 bytes"):
        key_sources.load()


async def test_a_reload_may_change_the_sources(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text(SECRET)
    new.write_text(OTHER_SECRET)
    key_sources = KeySources([str(old)])
    key_sources.load()
    added = sign(CLAIMS, key=OTHER_SECRET)
    with pytest.raises(Unauthorized):
        await key_sources.permissions_of(added, now=NOW)
    await key_sources.reload([str(old), str(new)])
    for key in (SECRET, OTHER_SECRET):
        assert (await key_sources.permissions_of(sign(CLAIMS, key=key), now=NOW)).expires_at
    await key_sources.reload([str(new)])
    await key_sources.reload()
    assert [source for source, _ in key_sources.by_source()] == [str(new)]


async def test_a_failed_reload_changes_nothing(tmp_path: Path) -> None:
    file, wrong_path = tmp_path / "keys", tmp_path / "wrong"
    file.write_text(public_pem("ES256"))
    wrong_path.write_text("short")
    key_sources = KeySources([str(file)])
    key_sources.load()
    before = key_sources.keys
    for sources, expected in (([str(file), str(wrong_path)], "openssl"), ([], "no keys are left")):
        with pytest.raises(InvalidSettings, match=expected):
            await key_sources.reload(sources)
        await key_sources.reload()
        assert key_sources.keys == before


async def test_a_provider_that_never_answers_does_not_block_for_long(
    autojump_clock: MockClock,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(InvalidSettings, match="too slow"):
            await KeySources([]).reload([url])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/no/such/file", "No such file"),
        ("http://keys.example/jwks.json", "https:// only"),
        ("file:///etc/passwd", "https:// only"),
        ("ftp://127.0.0.1/", "https:// only"),
        ("http://127.0.0.1:1/", "refused"),
    ],
)
def test_an_unreadable_source_is_named(source: str, expected: str) -> None:
    with pytest.raises(InvalidSettings, match=expected) as caught:
        KeySources([source]).load()
    assert source in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "0123456789abcdef" * 4,
        "+/Aa" * 10 + "Aa8=",
        "/+Aa" * 21 + "A/==",
        private_pem("EdDSA"),
        json.dumps(jwk("EdDSA", None, private=True)),
    ],
)
def test_a_key_given_as_a_file_name_is_not_shown(key: str) -> None:
    for source in key.split(","):
        if len(source) > 40:  # the part with the secret in it
            with pytest.raises(InvalidSettings, match="PROGRESS_GATEWAY_SECRET") as caught:
                KeySources([source]).load()
            assert source not in str(caught.value)


def test_a_missing_file_is_named_even_with_a_long_name() -> None:
    name = f"/no/such/{'directory/' * 5}keys"
    with pytest.raises(InvalidSettings, match="directory/keys: No such file"):
        KeySources([name]).load()


def test_redirects_of_a_provider_are_not_followed(provider: Provider) -> None:
    provider.status, provider.document = 302, jwks(jwk("ES256", "a"))
    with pytest.raises(InvalidSettings, match="302"):
        KeySources([provider.url]).load()
    assert provider.requests == 1


def test_an_oversized_key_set_is_not_read(provider: Provider) -> None:
    provider.document = " " * 2_000_000
    with pytest.raises(InvalidSettings, match="over 1048576 bytes"):
        KeySources([provider.url]).load()


async def test_an_html_page_is_not_accepted_as_a_secret(
    provider: Provider, mock_clock: MockClock
) -> None:
    """A mistyped URL, or a provider under maintenance, returns such a page."""
    page = "<title>We'll-be-right-back</title>"
    provider.document = jwks(jwk("ES256", "a"))
    key_sources = KeySources([provider.url])
    key_sources.load()
    for document in (page, SECRET):
        provider.document = document
        with pytest.raises(InvalidSettings, match="not a JWK Set"):
            KeySources([provider.url]).load()
        mock_clock.jump(MIN_REFRESH_INTERVAL)
        await key_sources.refresh()
        assert [key.id for key in key_sources.keys] == ["a"]
        with pytest.raises(Unauthorized):
            await key_sources.permissions_of(sign(CLAIMS, key=document), now=NOW)


async def test_a_token_with_an_unknown_key_triggers_a_fetch(
    provider: Provider, mock_clock: MockClock
) -> None:
    provider.document = jwks(jwk("ES256", "old"))
    key_sources = KeySources([provider.url])
    key_sources.load()
    provider.document = jwks(jwk("ES256", "old"), jwk("EdDSA", "new"))
    token = sign(CLAIMS, key=private_key("EdDSA"), algorithm="EdDSA", kid="new")
    assert (await key_sources.permissions_of(token, now=NOW)).expires_at
    assert provider.requests == 2

    # Any client can send tokens with unknown keys, so not each causes a fetch.
    forged = sign(CLAIMS, key=private_key("EdDSA"), algorithm="EdDSA", kid="forged")
    for _ in range(5):
        with pytest.raises(Unauthorized):
            await key_sources.permissions_of(forged, now=NOW)
    assert provider.requests == 2
    mock_clock.jump(MIN_REFRESH_INTERVAL)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(_refused, key_sources, forged)
    assert provider.requests == 3


async def _refused(key_sources: KeySources, token: str) -> None:
    with pytest.raises(Unauthorized):
        await key_sources.permissions_of(token, now=NOW)


async def test_an_unavailable_provider_keeps_its_keys(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.document = jwks(jwk("ES256", "a"))
    key_sources = KeySources([provider.url])
    key_sources.load()
    provider.status, provider.document = 500, "sorry"
    await key_sources.refresh()
    assert [key.id for key in key_sources.keys] == ["a"]
    assert "keeping the current ones" in caplog.text


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "rubbish",
    [
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70_000 + b"\r\n\r\n",
        CHUNKED + b"40\r\nabc",
        CHUNKED + b"rubbish\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{",
        b'HTTP/1.1 200 OK\r\n\r\n{"keys":' + b"[" * 200_000,
        b"HTTP/1.1 200 OK\r\n\r\n\xff",
    ],
)
async def test_an_invalid_key_set_keeps_the_old_keys(
    provider: Provider, rubbish: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    provider.document = jwks(jwk("ES256", "a"))
    key_sources = KeySources([provider.url])
    key_sources.load()
    provider.rubbish = rubbish
    await key_sources.refresh()
    assert [key.id for key in key_sources.keys] == ["a"]
    assert "keeping the current ones" in caplog.text


async def test_a_withdrawn_key_is_dropped_at_the_next_fetch(provider: Provider) -> None:
    provider.document = jwks(jwk("ES256", "a"), jwk("EdDSA", "b"))
    key_sources = KeySources([provider.url])
    key_sources.load()
    provider.document = jwks(jwk("EdDSA", "b"))
    await key_sources.refresh()
    assert [key.id for key in key_sources.keys] == ["b"]


@pytest.mark.parametrize(
    ("operations", "verifies", "signs"),
    [
        (None, True, True),
        (["verify"], True, False),
        (["sign"], True, True),  # the public half may verify what the private one has signed
        (["sign", "verify"], True, True),
        (["encrypt"], False, False),
        ([], False, False),
    ],
)
def test_key_ops_are_respected(operations: list[str] | None, verifies: bool, signs: bool) -> None:
    pair = jwk("ES256", "pair", private=True)
    if operations is not None:
        pair["key_ops"] = operations
    found = read_keys(jwks(pair, jwk("EdDSA", "other")), source="set")
    keys = [key for key in found if key.id == "pair"]
    assert bool(keys) == verifies
    assert any(key.private for key in keys) == signs


def test_a_key_verifies_only_if_its_key_ops_allow_it() -> None:
    public = jwk("ES256", "public") | {"key_ops": ["sign"]}
    secret = {"kty": "oct", "kid": "s", "k": "c2VjcmV0" * 8, "key_ops": ["sign"]}
    found = read_keys(jwks(public, secret, jwk("EdDSA", "other")), source="set")
    assert [key.id for key in found] == ["other"]


@pytest.mark.parametrize("operations", ["verify", 7, [7], {"verify": 1}])
def test_malformed_key_ops_are_named(operations: object) -> None:
    with pytest.raises(InvalidSettings, match="key_ops"):
        read_keys(jwks(jwk("ES256", "a") | {"key_ops": operations}), source="set")


def test_a_repeated_kid_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first_path, second_path = tmp_path / "first", tmp_path / "second"
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    again = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(other)) | {"kid": "a"}
    first_path.write_text(jwks(jwk("ES256", "a"), jwk("EdDSA", "a")))
    second_path.write_text(jwks(jwk("ES256", "a")))
    KeySources([str(first_path), str(second_path)]).load()
    assert "kid" not in caplog.text  # the same key twice, and another algorithm's, are no conflict
    second_path.write_text(jwks(again))
    KeySources([str(first_path), str(second_path)]).load()
    assert "several keys have the same kid, trying each: a" in caplog.text
