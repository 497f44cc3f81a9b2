"""The parsing of Redis URLs, and the errors in them."""

from __future__ import annotations

import pytest

from gateway.brokers.redis.url import Address, parse_address
from gateway.cli.summary import describe_broker


def shown(address: Address) -> tuple[object, ...]:
    return address.kind, address.hosts, address.service, address.options


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", ("server", (("h", 6379),), None, {"db": 0})),
        ("redis://h:1/3", ("server", (("h", 1),), None, {"db": 3})),
        ("redis://[::1]:7?db=2", ("server", (("::1", 7),), None, {"db": 2})),
        (
            "redis://u%40x:p%3A@h",
            ("server", (("h", 6379),), None, {"db": 0, "username": "u@x", "password": "p:"}),
        ),
        ("redis://:p@h", ("server", (("h", 6379),), None, {"db": 0, "password": "p"})),
        (
            "rediss://h?ssl_ca_certs=/ca",
            ("server", (("h", 6379),), None, {"db": 0, "ssl_ca_certs": "/ca"}),
        ),
        ("unix:///run/r%20.sock", ("server", (), None, {"db": 0})),
        (
            "redis+sentinel://a,b:2/main/1?sentinel_password=s",
            ("sentinel", (("a", 26379), ("b", 2)), "main", {"db": 1}),
        ),
        ("redis+cluster://a:1,b:2", ("cluster", (("a", 1), ("b", 2)), None, {})),
    ],
)
def test_a_url_is_parsed_to_an_address(url: str, expected: tuple[object, ...]) -> None:
    assert shown(parse_address(url)) == expected


def test_the_options_of_a_url_are_parsed() -> None:
    address = parse_address("redis+sentinel://a/m?sentinel_password=s&prefix=p&shards=2")
    assert address.sentinel_options == {"password": "s"}
    assert [shard.prefix[:3] for shard in address.layout.shards] == ["{p:", "{p:"]
    assert parse_address("unix:///a b".replace(" ", "%20")).path == "/a b"
    assert parse_address("rediss+cluster://h").tls


def test_the_repr_of_an_address_has_no_password() -> None:
    assert repr(parse_address("redis://u:secret@h")) == "<Address server h:6379>"


def test_the_description_of_an_address() -> None:
    """A node logs this description of its Redis at its start."""
    assert describe_broker("redis://u:secret@h") == ("jobs", "in Redis, server h:6379")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("", "redis://"),
        ("http://h", "redis://"),
        ("redis://", "host"),
        ("redis:///1", "host"),
        ("redis://a,b", "several servers"),
        ("redis://h:99999", "port"),
        ("redis://h:x", "host"),
        ("redis://h/x", "db"),
        ("redis://h/1/2", "path"),
        ("redis://h?shards=0", "shards"),
        ("redis://h?shards=1001", "shards"),
        ("redis://h?shards=²", "shards"),
        ("redis://h?prefix={a}", "prefix"),
        ("redis://h?prefix=", "prefix"),
        ("redis://h?shards=", "shards"),
        ("redis://h?colour=red", "colour"),
        ("redis://h?ssl_ca_certs=/ca", "ssl_ca_certs"),
        ("redis://h#x", "fragment"),
        ("redis://h h", "spaces"),
        ("redis://[::1", "not a URL"),
        ("unix://h/x", "socket"),
        ("unix:///", "socket"),
        ("redis+sentinel://a", "service"),
        ("redis+cluster://a/1", "path"),
        ("redis+cluster://a?db=1", "db"),
    ],
)
def test_the_error_in_a_url_is_named(url: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_address(url)
