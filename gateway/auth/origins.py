"""Decides which web pages may send requests to the gateway. Pure.

Browsers name the origin of a page (RFC 6454) in every WebSocket handshake and every POST, and
the page cannot change it. Without this check any page on the web could use a visitor's browser
to reach a gateway that only the visitor's machine can reach. Other programs name no origin, or
any; only tokens protect against them.

**Same origin** means that the origin equals the request's `Host`. Schemes are not compared,
because behind a proxy that terminates TLS the scheme is unknown. A page whose DNS name was
pointed at the gateway's address (DNS rebinding) counts as same origin. So where only the
address protects the gateway, `local_only` accepts only hosts that no foreign DNS server can
resolve: literal addresses and `localhost`.
"""

from __future__ import annotations

import ipaddress
import re

from attrs import frozen

from ..model.errors import InvalidSettings

__all__ = ["SAME_ORIGIN", "Origins"]

_ORIGIN = re.compile(r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
_HOST = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
MAX_QUOTED = 100
"""Characters of a header that messages repeat."""
_OWN_SITE = ("same-origin", "none")
"""The values of `Sec-Fetch-Site` for requests of a page to its own origin, and for addresses that
the user types or opens (W3C Fetch Metadata §2.3)."""
_USUAL_PORT = {"http": "80", "https": "443"}


@frozen
class Origins:
    """The origins that may send requests, besides the gateway's own page."""

    listed: frozenset[str] = frozenset()
    """The allowed origins as browsers write them: lower case, without the default port, without a
    final slash."""
    every: bool = False
    local_only: bool = False
    """Whether the `Host` of requests must be a literal address, `localhost` or a listed
    host."""

    @classmethod
    def parse(cls, text: str) -> Origins:
        """Parses `https://a.example, http://localhost:3000`; `*` is every origin.

        Raises `InvalidSettings`.
        """
        names = [name.strip() for name in text.split(",") if name.strip()]
        return cls(frozenset(_normal(name) for name in names if name != "*"), "*" in names)

    def allow(self, origin: str | None, *, host: str, site: str | None = None) -> bool:
        """Returns whether to serve a request to `host` (its header) from a page of `origin`.

        `origin` is None if the header is missing: then no page has sent the request, or the page
        cannot read the response. `site` is `Sec-Fetch-Site`. It is checked because a page of
        another site could learn something from the time that a response takes.
        """
        return self.refusal(origin, host=host, site=site) is None

    def refusal(self, origin: str | None, *, host: str, site: str | None = None) -> str | None:
        """Returns why a request is refused and what the operator can do; None if it is served."""
        if self.local_only and not self._local(host.lower()):
            return (
                f"without keys only local addresses are served, not {host[:MAX_QUOTED]!r}: "
                "set --keys, or list it in --origins"
            )
        if self.every or origin in self.listed:
            return None
        if origin is None:
            if site is None or site.lower() in _OWN_SITE:
                return None
            return "a page of another site: its requests need an Origin that --origins allows"
        match = _ORIGIN.fullmatch(origin)
        if match is not None and _with_port(match) == _with_port(match, host.lower()):
            return None
        quoted = origin if match and len(origin) <= MAX_QUOTED else repr(origin[:MAX_QUOTED])
        return f"this page's origin is not allowed: add it to the gateway's --origins: {quoted}"

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
            f"{text!r} is not an origin, such as https://shop.example or http://localhost:3000",
            field="origins",
        )
    scheme, host, port = match.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _USUAL_PORT[scheme] else "")


def _with_port(origin: re.Match[str], host: str | None = None) -> str:
    """Returns host and port of an origin; or of `host`, with the default port of the origin's
    scheme."""
    name = origin[2] + (f":{origin[3]}" if origin[3] else "") if host is None else host
    return name if re.search(r":\d+$", name) else f"{name}:{_USUAL_PORT[origin[1]]}"
