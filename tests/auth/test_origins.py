"""The matrix of origins: allowed ones, and those that only look similar."""

from __future__ import annotations

import pytest
from attrs import evolve

from gateway.auth.origins import SAME_ORIGIN, Origins
from gateway.model.errors import InvalidSettings

HOST = "progress.example"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        (f"https://{HOST}", True),
        (f"http://{HOST}", True),  # a proxy may terminate TLS, so the scheme is not compared
        (f"https://{HOST}:443", True),
        (f"https://{HOST}:8443", False),
        ("null", False),
        ("", False),
        ("https://other.example", False),
        (f"https://{HOST}.evil.example", False),
        (f"https://evil{HOST}", False),
        (f"https://evil.{HOST}", False),
        (f"https://evil@{HOST}", False),
        (f"https://{HOST}/", False),  # browsers send no final slash
        (f"https://{HOST.upper()}", False),  # browsers send lower case
        (f"ftp://{HOST}", False),
        (f"https://{HOST}, https://{HOST}", False),
        (HOST, False),
    ],
)
def test_the_same_origin_is_allowed(origin: str | None, allowed: bool) -> None:
    assert SAME_ORIGIN.allow(origin, host=HOST) is allowed
    assert SAME_ORIGIN.allow(origin, host=HOST.upper()) is allowed


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8001", False),
        ("http://127.0.0.1:8000", "localhost:8000", False),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://a", "a:80", True),
        ("https://a", "a:80", False),
        ("http://a:8000", "a", False),
        ("http://a", "", False),
    ],
)
def test_origins_with_ports_are_compared_with_the_host(
    origin: str, host: str, allowed: bool
) -> None:
    assert SAME_ORIGIN.allow(origin, host=host) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://shop.example", True),
        ("http://localhost:3000", True),
        ("http://shop.example", False),
        ("https://shop.example:444", False),
        ("https://shop.example.evil", False),
        ("https://a.shop.example", False),
        ("http://localhost", False),
        ("null", False),
        (f"https://{HOST}", True),
    ],
)
def test_listed_origins_are_allowed(origin: str, allowed: bool) -> None:
    origins = Origins.parse(" https://Shop.example:443/ , http://localhost:3000,")
    assert origins.allow(origin, host=HOST) is allowed


def test_an_asterisk_allows_every_origin() -> None:
    assert Origins.parse("*").allow("null", host=HOST)


@pytest.mark.parametrize(
    "text", ["shop.example", "https://*.example", "https://a/b", "null", "a b"]
)
def test_an_invalid_origin_is_named(text: str) -> None:
    with pytest.raises(InvalidSettings, match="origin") as caught:
        Origins.parse(f"https://fine.example,{text}")
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8000", True),
        ("127.0.0.1", True),
        ("10.0.0.7:8000", True),
        ("[::1]:8000", True),
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("app.localhost:8000", True),
        ("evil.example:8000", False),  # its DNS record now has 127.0.0.1
        ("127.0.0.1.evil.example", False),
        ("evil-localhost:8000", False),
        ("localhost.evil.example", False),
        ("", False),
        ("localhost:8000, evil.example", False),
    ],
)
def test_a_rebound_host_name_does_not_count_as_local(host: str, allowed: bool) -> None:
    local = evolve(SAME_ORIGIN, local_only=True)
    assert local.allow(None, host=host) is allowed
    assert not local.allow("http://evil.example:8000", host=host)


def test_a_listed_host_counts_as_local() -> None:
    origins = evolve(Origins.parse(f"https://{HOST}"), local_only=True)
    assert origins.allow(f"https://{HOST}", host=HOST)
    assert not origins.allow(None, host=f"evil.{HOST}")


def test_the_remedy_for_a_refused_origin_keeps_those_that_are_listed() -> None:
    origins = evolve(SAME_ORIGIN, listed=frozenset({"https://shop.example"}))
    refusal = origins.refusal("https://blog.example", host=HOST)
    assert refusal is not None
    assert refusal.endswith("add it to the gateway's --origins: https://blog.example")
