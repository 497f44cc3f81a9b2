"""Which web pages may talk to us. Pure.

Browsers say from which origin a page's request comes (RFC 6454), on every WebSocket and
every POST, and a page cannot change that. Without a look at it any page on the web could
use the visitor's browser to reach a gateway that only the visitor's machine can reach.
Other programs say nothing, and could say anything: for them there are tokens.

**Same origin** is judged by the `Host` of the request: behind a proxy that ends TLS that
is all there is to compare with, so the scheme is not compared. A page that has had its
own name resolved to our address (DNS rebinding) is of the same origin by that measure;
where nothing but the address protects us, `local_only` therefore takes only hosts that no
foreign DNS can answer for: literal addresses and `localhost`.
"""

from __future__ import annotations

import ipaddress
import re

from attrs import frozen

from ..errors import InvalidSettings

__all__ = ["SAME_ORIGIN", "Origins"]

_ORIGIN = re.compile(r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
_HOST = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_USUAL_PORT = {"http": "80", "https": "443"}


@frozen
class Origins:
    """Who may, besides the gateway's own page."""

    listed: frozenset[str] = frozenset()
    """As browsers write them: lower case, no usual port, no slash at the end."""
    every: bool = False
    local_only: bool = False
    """Whether a request must be addressed to a literal address, `localhost` or a listed
    host."""

    @classmethod
    def parse(cls, text: str) -> Origins:
        """`https://a.example, http://localhost:3000`; `*` is every origin.

        Raises `InvalidSettings`.
        """
        names = [name.strip() for name in text.split(",") if name.strip()]
        return cls(frozenset(_normal(name) for name in names if name != "*"), "*" in names)

    def allow(self, origin: str | None, *, host: str) -> bool:
        """Whether a request to `host` (its header) from a page of `origin` is to be served.

        `origin` is None if the header is missing: not a page's request, or a harmless one.
        """
        if self.local_only and not self._local(host.lower()):
            return False
        if origin is None or self.every or origin in self.listed:
            return True
        match = _ORIGIN.fullmatch(origin)
        return match is not None and _with_port(match) == _with_port(match, host.lower())

    def _local(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]")
        if name == "localhost" or name.endswith(".localhost"):
            return True
        if any(host == origin.partition("://")[2] for origin in self.listed):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


SAME_ORIGIN = Origins()


def _normal(text: str) -> str:
    match = _ORIGIN.fullmatch(text.lower().removesuffix("/"))
    if match is None:
        raise InvalidSettings(
            f"{text!r} is no origin, such as https://shop.example or http://localhost:3000",
            field="origins",
        )
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _USUAL_PORT[scheme] else "")


def _with_port(origin: re.Match[str], host: str | None = None) -> str:
    """Host and port of an origin; or of `host`, if it had the origin's scheme."""
    name = origin[2] + (f":{origin[3]}" if origin[3] else "") if host is None else host
    return name if re.search(r":\d+$", name) else f"{name}:{_USUAL_PORT[origin[1]]}"
