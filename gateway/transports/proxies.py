"""Determines the address of a client, also behind proxies.

A proxy hides the addresses of its clients and forwards them: in `X-Forwarded-For`, in
`Forwarded` (RFC 7239), or before the first byte by the PROXY protocol. Any client can send these,
so the address is only accepted from trusted proxies, and only in the one form that is configured,
because a proxy forwards headers that it does not know.

In a list, the last entry that is not a trusted proxy is the client; the client itself may have
written the entries before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from struct import unpack
from typing import Final

import trio
from attrs import frozen

from ..model.addresses import parse_ip
from ..model.limits import Limits
from .stream import ClientStream

__all__ = ["Network", "Proxies", "canonical_address", "read_proxy_header"]

Network = IPv4Network | IPv6Network

# RFC 7239 §4, but lenient about blanks. A quoted string may contain anything, also commas from the
# client. So the last element, which the trusted proxy has written, is searched from the end.
_NAME = r'[^\s=,;"\\]+'
_VALUE = r'"(?:[^"\\]|\\.)*"|[^\s=,;"\\]*'
_PAIR = re.compile(f"({_NAME})=({_VALUE})")
_LAST_ELEMENT = re.compile(f"(?:^|,)((?:[ \\t;]|{_NAME}=(?:{_VALUE}))++)$")
_V1 = re.compile(rb"PROXY (?:UNKNOWN[^\r\n]*|TCP[46] ([0-9a-fA-F.:]+) \S+ \d+ \d+)\r\n")
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
MAX_V1: Final = 108
"""Bytes of a header of version 1 (the specification's own bound)."""
MAX_V2: Final = 16 + 4096
"""Bytes of a header of version 2: more than proxies send."""


@frozen
class Proxies:
    """The peers that are trusted to send the address of a client."""

    trusted: tuple[Network, ...] = (ip_network("127.0.0.1"), ip_network("::1"))
    """The addresses of trusted proxies. By default this machine."""
    form: str = "x-forwarded-for"
    """The form in which they send it: `x-forwarded-for`, `forwarded` or `proxy-protocol`."""

    def trust(self, address: str) -> bool:
        """Returns whether this is the address of a trusted proxy."""
        parsed = parse_ip(address)
        return any(parsed in network for network in self.trusted)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """Returns the address of the client whose request came from `peer` with these headers."""
        text = headers.get(self.form)
        if text is None or self.form not in _READERS or not self.trust(peer):
            return peer
        address = peer
        for name in _READERS[self.form](text):
            forwarded = _address(name)
            if forwarded is None:
                break
            address = forwarded
            if not self.trust(forwarded):
                break
        return address


def _in_x_forwarded_for(text: str) -> Iterator[str]:
    """Yields the addresses in the header, the last one first."""
    return reversed(text.split(","))


def _in_forwarded(text: str) -> Iterator[str]:
    while element := _LAST_ELEMENT.search(text):
        pairs = {name.lower(): value for name, value in _PAIR.findall(element[1])}
        yield pairs.get("for", "")
        text = text[: element.start()]


_READERS = {"x-forwarded-for": _in_x_forwarded_for, "forwarded": _in_forwarded}
"""The forms that are headers. The PROXY protocol is not one, even if a header has its name."""


def _address(name: str) -> str | None:
    """Returns the address in one entry; None if the entry has no readable address."""
    name = name.strip().strip('"')
    if name.startswith("["):  # [2001:db8::1]:4711
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:  # 192.0.2.1:4711
        name = name.partition(":")[0]
    try:
        return canonical_address(name)
    except ValueError:
        return None


def canonical_address(text: str) -> str:
    """Returns an address in its canonical form, without zone. Raises `ValueError` if it is not an
    address."""
    address = parse_ip(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


async def read_proxy_header(stream: ClientStream, limits: Limits) -> str | None:
    """Reads a PROXY protocol header (version 1 or 2), which must come first. Returns the client's
    address; None if the header has none (the proxy connects for itself).

    Raises `trio.BrokenResourceError` if no header arrives in time.
    """
    data = b""
    with trio.move_on_after(limits.request_header_timeout):
        while _may_become_header(data):
            more = await stream.receive_some()
            data += more
            try:
                header = _parse_proxy_header(data)
            except ValueError:
                break
            if header is not None:
                stream.unread(data[header[1] :])
                return header[0]
            if not more:
                break
    raise trio.BrokenResourceError("no PROXY protocol header")


def _may_become_header(data: bytes) -> bool:
    if data[:6] == b"PROXY "[: len(data)]:
        return len(data) < MAX_V1
    return data[:12] == _V2[: len(data)] and len(data) < MAX_V2


def _parse_proxy_header(data: bytes) -> tuple[str | None, int] | None:
    """Returns the address in the header, and the header's size; None if `data` is incomplete or no
    header.

    Raises `ValueError` if it contains an invalid address.
    """
    if data.startswith(_V2) and len(data) >= 16:
        command, family, size = unpack("!BBH", data[12:16])
        if len(data) < 16 + size:
            return None
        length = {0x11: 4, 0x21: 16}.get(family, 0)
        if command != 0x21 or size < length or not length:
            return None if command >> 4 != 2 else (None, 16 + size)
        return canonical_address(str(ip_address(data[16 : 16 + length]))), 16 + size
    match = _V1.match(data[:MAX_V1])
    if match is None:
        return None
    return canonical_address(match[1].decode()) if match[1] else None, match.end()
