"""From where a client comes, also behind proxies, and how many come from there.

A proxy hides its clients' addresses and tells them instead: in `X-Forwarded-For`, in
`Forwarded` (RFC 7239), or before the first byte by the PROXY protocol. Anybody can write
such a thing, so it is believed of trusted proxies alone, and only in the one form that
they are known to use: a proxy passes on the headers it does not know.

Of a list the last entry that is no trusted proxy counts; what stands left of it was
written by that client.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from struct import unpack
from typing import Final

import trio
from attrs import frozen

from ..limits import Limits
from .stream import ClientStream

__all__ = ["Crowd", "Network", "Proxies", "canonical", "read_proxy_header"]

OVERFLOW: Final = 100
"""Connections of an address that are told they are too many, instead of being dropped."""
HANDSHAKES: Final = 10
"""At a time: each is up to a millisecond of work, and waits for nobody."""
DEPARTURES: Final = 10
"""In one pass of the scheduler: each takes some ten steps of up to 50 µs."""
SPARE: Final = 1_000
"""Sockets besides the connections: requests, handshakes, and those who are told."""

Network = IPv4Network | IPv6Network

# RFC 7239 §4, but lenient about blanks. In quotes anything may stand, also commas that a client
# has written; so the last element is looked for from the end, where a proxy's own word is.
_NAME = r'[^\s=,;"\\]+'
_VALUE = r'"(?:[^"\\]|\\.)*"|[^\s=,;"\\]*'
_PAIR = re.compile(f"({_NAME})=({_VALUE})")
_LAST_ELEMENT = re.compile(f"(?:^|,)((?:[ \\t;]|{_NAME}=(?:{_VALUE}))++)$")
_V1 = re.compile(rb"PROXY (?:UNKNOWN[^\r\n]*|TCP[46] ([0-9a-fA-F.:]+) \S+ \d+ \d+)\r\n")
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
MAX_V1: Final = 108
"""Bytes of a header of version 1 (the specification's own bound)."""
MAX_V2: Final = 16 + 4096
"""Bytes of one of version 2: more than anybody has to tell."""


@frozen
class Proxies:
    """Whom to believe what they tell about where a client comes from."""

    trusted: tuple[Network, ...] = (ip_network("127.0.0.1"), ip_network("::1"))
    """By default this machine, whose processes are trusted with more than that."""
    form: str = "x-forwarded-for"
    """How they tell: `x-forwarded-for`, `forwarded` or `proxy-protocol`."""

    def trust(self, address: str) -> bool:
        """Whether there is a trusted proxy at this address."""
        parsed = _parsed(address)
        return any(parsed in network for network in self.trusted)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address of a client whose request came from `peer` with these headers."""
        text = headers.get(self.form)
        if text is None or self.form not in _READERS or not self.trust(peer):
            return peer
        address = peer
        for name in _READERS[self.form](text):
            told = _address(name)
            if told is None:
                break
            address = told
            if not self.trust(told):
                break
        return address


def _in_x_forwarded_for(text: str) -> Iterator[str]:
    """Whom the header names, the last first."""
    return reversed(text.split(","))


def _in_forwarded(text: str) -> Iterator[str]:
    while element := _LAST_ELEMENT.search(text):
        pairs = {name.lower(): value for name, value in _PAIR.findall(element[1])}
        yield pairs.get("for", "")
        text = text[: element.start()]


_READERS = {"x-forwarded-for": _in_x_forwarded_for, "forwarded": _in_forwarded}
"""Of the forms that are headers: the PROXY protocol is none, though one may have its name."""


def _address(name: str) -> str | None:
    """The address in one of these names; None if there is none that is legible."""
    name = name.strip().strip('"')
    if name.startswith("["):  # [2001:db8::1]:4711
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:  # 192.0.2.1:4711
        name = name.partition(":")[0]
    try:
        return canonical(name)
    except ValueError:
        return None


_parsed = lru_cache(maxsize=1024)(ip_address)
"""Each request asks several times of the same few addresses."""


def canonical(text: str) -> str:
    """An address in its usual form, without zone. Raises `ValueError` if it is none."""
    address = _parsed(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


async def read_proxy_header(stream: ClientStream, limits: Limits) -> str | None:
    """The client's address that a PROXY protocol header (version 1 or 2) tells, which must
    come first; None if it tells none (the proxy speaks for itself).

    Raises `trio.BrokenResourceError` if there is none in time.
    """
    data = b""
    with trio.move_on_after(limits.head_timeout):
        while _may_become_one(data):
            more = await stream.receive_some()
            data += more
            try:
                found = _proxy_header(data)
            except ValueError:
                break
            if found is not None:
                stream.unread(data[found[1] :])
                return found[0]
            if not more:
                break
    raise trio.BrokenResourceError("no PROXY protocol header")


def _may_become_one(data: bytes) -> bool:
    if data[:6] == b"PROXY "[: len(data)]:
        return len(data) < MAX_V1
    return data[:12] == _V2[: len(data)] and len(data) < MAX_V2


def _proxy_header(data: bytes) -> tuple[str | None, int] | None:
    """What the header says, and its size; None if it is not whole, or none.

    Raises `ValueError` if it tells what is no address.
    """
    if data.startswith(_V2) and len(data) >= 16:
        command, family, size = unpack("!BBH", data[12:16])
        if len(data) < 16 + size:
            return None
        length = {0x11: 4, 0x21: 16}.get(family, 0)
        if command != 0x21 or size < length or not length:
            return None if command >> 4 != 2 else (None, 16 + size)
        return canonical(str(ip_address(data[16 : 16 + length]))), 16 + size
    match = _V1.match(data[:MAX_V1])
    if match is None:
        return None
    return canonical(match[1].decode()) if match[1] else None, match.end()


class Crowd:
    """How many sockets are open, in all and by address.

    An IPv6 address counts by its network (/64): that is what one customer gets.
    """

    def __init__(self, limits: Callable[[], Limits]) -> None:
        self._limits = limits
        """Asked for each socket: they may be reloaded."""
        self.turnstile = trio.Semaphore(HANDSHAKES)
        """Lets clients shake hands a few at a time."""
        self.way_out = trio.Semaphore(DEPARTURES)
        """Lets clients leave a few at a time."""
        self._of: Counter[str] = Counter()
        self._all = 0

    def __repr__(self) -> str:
        return f"<Crowd of {self._all}, {len(self._of)} addresses>"

    @contextmanager
    def socket(self) -> Iterator[None]:
        """Count one more socket for as long as the context is open.

        Raises `trio.BrokenResourceError` if there are as many as there may be.
        """
        if self._all >= self._limits().max_connections + SPARE:
            raise trio.BrokenResourceError("too many sockets")
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1

    @contextmanager
    def place(self, address: str) -> Iterator[bool]:
        """Count one more connection from `address`; whether there is a place for it.

        If not, the client is to be told. Raises `trio.BrokenResourceError` if already
        `OVERFLOW` others are being told.
        """
        key = _network(address)
        most = self._limits().max_connections_per_address
        if self._of[key] >= most + OVERFLOW:
            raise trio.BrokenResourceError(f"too many connections from {key}")
        self._of[key] += 1
        try:
            yield self._of[key] <= most
        finally:
            self._of[key] -= 1
            if not self._of[key]:
                del self._of[key]


def _network(address: str) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return address
