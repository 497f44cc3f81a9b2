"""Addresses of clients, and the networks that count as one client. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

__all__ = ["network_of", "parse_ip"]

parse_ip = lru_cache(maxsize=1024)(ip_address)
"""Cached, because each request parses the same few addresses several times."""


@lru_cache(maxsize=1024)
def network_of(address: str) -> str:
    """Returns the network for which a client counts: its IPv6 network (/64), which one customer
    gets; otherwise the address itself, even if it is a name or invalid."""
    try:
        parsed = parse_ip(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return address
