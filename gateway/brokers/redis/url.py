"""The address of a Redis, from its URL. Pure, and fast to import, because workers use it too.

    redis://[[user]:password@]host[:port][/db]          one server; rediss:// with TLS
    unix://[[user]:password@]/path/to/socket[?db=0]
    redis+sentinel://[[user]:password@]host:port,…/service[/db]
    redis+cluster://[[user]:password@]host:port,…

`rediss+sentinel` and `rediss+cluster` are the same with TLS. The parameters after a `?` are

    prefix=progress     the beginning of all keys
    shards=1            the number of feeds among which the jobs are divided (in a cluster: the
                        number of primaries). All programs that use the prefix must have the same
                        value
    db=, ssl_ca_certs=, ssl_certfile=, ssl_keyfile=, ssl_cert_reqs=, ssl_check_hostname=
                        the options of redis-py
    sentinel_username=, sentinel_password=
                        for the Sentinels, which have separate users
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
        location = self.path or ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.kind} {location}"


def parse_address(url: str) -> Address:
    """Returns the address in `url`. Raises `ValueError`, which says what is wrong, without a
    password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"it is not a URL: {error}") from None
    kind = SCHEMES.get(parts.scheme)
    if kind is None:
        raise ValueError(f"it must begin with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    if parts.fragment or not url.isprintable() or " " in url:
        raise ValueError("it has spaces, a fragment, or characters that cannot be printed")

    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = parameters.pop("prefix", "progress")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("prefix must be 1-64 characters of A-Z a-z 0-9 _ . : -")
    shards = _number("shards", parameters.pop("shards", "1"), minimum=1, maximum=MAX_SHARDS)
    layout = Layout(prefix, shards=shards, tagged=kind == "cluster")

    sentinel_options: dict[str, str] = {}
    if kind == "sentinel":
        for name in ("sentinel_username", "sentinel_password"):
            if name in parameters:
                sentinel_options[name.removeprefix("sentinel_")] = parameters.pop(name)

    userinfo, _, authority = parts.netloc.rpartition("@")
    path, service, db = _path(parts, kind, authority)
    options: dict[str, str | int] = {}
    if kind != "cluster":
        options["db"] = _number("db", parameters.pop("db", db), minimum=0, maximum=2**31 - 1)
    user, _, password = userinfo.partition(":")
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    tls = parts.scheme.startswith("rediss")
    if tls:
        options |= {name: parameters.pop(name) for name in _TLS if name in parameters}
    if parameters:
        raise ValueError(f"{next(iter(parameters))} is not an option of {parts.scheme}://")
    hosts = () if path else _hosts(authority, kind)
    return Address(kind, hosts, path, service, options, tls, sentinel_options, layout)


def _path(parts: SplitResult, kind: Kind, authority: str) -> tuple[str | None, str | None, str]:
    """Returns the socket, the service, and the database in the URL's path."""
    path = unquote(parts.path)
    if parts.scheme == "unix":
        if authority or not path.strip("/"):
            raise ValueError("unix:// must be followed by the path of a socket: unix:///run/…")
        return path, None, "0"
    segments = [segment for segment in path.split("/") if segment]
    service = None
    if kind == "sentinel":
        if not segments:
            raise ValueError("it must name the service of the Sentinels: /mymaster")
        service = segments.pop(0)
    if len(segments) > (kind != "cluster"):
        raise ValueError(f"its path has more parts than {parts.scheme}:// allows")
    return None, service, segments[0] if segments else "0"


def _hosts(authority: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    matches = [_HOST.fullmatch(text) for text in authority.split(",")]
    if kind == "server" and len(matches) > 1:
        raise ValueError("several servers need redis+sentinel:// or redis+cluster://")
    hosts: list[tuple[str, int]] = []
    for host in matches:
        if host is None:
            raise ValueError("it has no host, or one that is not HOST or HOST:PORT")
        port = _number("port", host["port"] or str(DEFAULT_PORT[kind]), minimum=1, maximum=65_535)
        hosts.append((host["name"] or host["v6"], port))
    return tuple(hosts)


def _number(name: str, text: str, *, minimum: int, maximum: int) -> int:
    if not (text.isascii() and text.isdigit() and minimum <= int(text[:12]) <= maximum):
        raise ValueError(f"{name} must be a whole number from {minimum} to {maximum}")
    return int(text)
