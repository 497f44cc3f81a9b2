"""The address of a Redis, from its URL. Pure, and fast to import, because workers use it too.

    redis://[[user]:password@]host[:port][/db]          one server; rediss:// with TLS
    unix://[[user]:password@]/path/to/socket[?db=0]
    redis+sentinel://[[user]:password@]host:port,…/service[/db]
    redis+cluster://[[user]:password@]host:port,…

`rediss+sentinel` and `rediss+cluster` are the same with TLS. After a `?` may stand

    prefix=progress     what all keys begin with
    shards=1            into how many feeds the jobs are divided (in a cluster: as many as
                        it has primaries). All programs that use the prefix must have the same value
    db=, ssl_ca_certs=, ssl_certfile=, ssl_keyfile=, ssl_cert_reqs=, ssl_check_hostname=
                        as redis-py has them
    sentinel_username=, sentinel_password=
                        for the Sentinels, which have users of their own
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from .keys import Layout

__all__ = ["MAX_SHARDS", "SCHEMES", "Address", "parse_address"]

Kind = Literal["server", "sentinel", "cluster"]

SCHEMES: Final[dict[str, Kind]] = {
    "redis": "server",
    "rediss": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}

MAX_SHARDS = 1_000
"""The most primaries that Redis Cluster is meant for."""
DEFAULT_PORT: Final[dict[Kind, int]] = {"server": 6379, "sentinel": 26_379, "cluster": 6379}

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_HOST = re.compile(
    r"(?:(?P<name>[^\s\[\]:,@/]+)|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::(?P<port>\d{1,5}))?"
)
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")


class Address(NamedTuple):
    """The address of a Redis, and the prefix of the keys in it."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    """The server's address, the Sentinels', or some of the cluster's; empty for a Unix socket."""
    path: str | None
    """The path of the Unix socket."""
    service: str | None
    """The name of the service that the Sentinels monitor."""
    options: dict[str, str | int]
    """The options for redis-py's connections."""
    tls: bool
    sentinel_options: dict[str, str]
    layout: Layout

    def __repr__(self) -> str:
        return f"<Address {self}>"

    def __str__(self) -> str:
        # The options may hold a password.
        where = self.path or ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.kind} {where}"


def parse_address(url: str) -> Address:
    """The address in `url`. Raises ValueError saying what is wrong; it shows no password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"it is not a URL: {error}") from None
    kind = SCHEMES.get(parts.scheme)
    if kind is None:
        raise ValueError(f"it must begin with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    if parts.fragment or not url.isprintable() or " " in url:
        raise ValueError("it has spaces, a fragment, or what cannot be printed")

    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = given.pop("prefix", "progress")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("prefix must be 1-64 characters of A-Z a-z 0-9 _ . : -")
    shards = _number("shards", given.pop("shards", "1"), least=1, most=MAX_SHARDS)
    layout = Layout(prefix, shards=shards, tagged=kind == "cluster")

    sentinel_options: dict[str, str] = {}
    if kind == "sentinel":
        for name in ("sentinel_username", "sentinel_password"):
            if name in given:
                sentinel_options[name.removeprefix("sentinel_")] = given.pop(name)

    userinfo, _, authority = parts.netloc.rpartition("@")
    path, service, db = _path(parts, kind, authority)
    options: dict[str, str | int] = {}
    if kind != "cluster":
        options["db"] = _number("db", given.pop("db", db), least=0, most=2**31 - 1)
    user, _, password = userinfo.partition(":")
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    tls = parts.scheme.startswith("rediss")
    if tls:
        options |= {name: given.pop(name) for name in _TLS if name in given}
    if given:
        raise ValueError(f"{next(iter(given))} is no option of {parts.scheme}://")
    hosts = () if path else _hosts(authority, kind)
    return Address(kind, hosts, path, service, options, tls, sentinel_options, layout)


def _path(parts: SplitResult, kind: Kind, authority: str) -> tuple[str | None, str | None, str]:
    """The parts of the URL's path: the socket, the service, and the database."""
    path = unquote(parts.path)
    if parts.scheme == "unix":
        if authority or not path.strip("/"):
            raise ValueError("unix:// must be followed by the path of a socket: unix:///run/…")
        return path, None, "0"
    steps = [step for step in path.split("/") if step]
    service = None
    if kind == "sentinel":
        if not steps:
            raise ValueError("after the Sentinels must stand the service they watch: /mymaster")
        service = steps.pop(0)
    if len(steps) > (kind != "cluster"):
        raise ValueError(f"its path says more than {parts.scheme}:// can take")
    return None, service, steps[0] if steps else "0"


def _hosts(authority: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    found = [_HOST.fullmatch(text) for text in authority.split(",")]
    if kind == "server" and len(found) > 1:
        raise ValueError("several servers need redis+sentinel:// or redis+cluster://")
    hosts: list[tuple[str, int]] = []
    for host in found:
        if host is None:
            raise ValueError("it names no host, or one that is not HOST or HOST:PORT")
        port = _number("port", host["port"] or str(DEFAULT_PORT[kind]), least=1, most=65_535)
        hosts.append((host["name"] or host["v6"], port))
    return tuple(hosts)


def _number(name: str, text: str, *, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text[:12]) <= most):
        raise ValueError(f"{name} must be a whole number from {least} to {most}")
    return int(text)
