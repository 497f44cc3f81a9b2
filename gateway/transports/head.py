"""A request's head: its end in a stream of bytes, and what its headers say. Pure.

Only as much as must be known before a library gets the request; judging the rest of it is
left to that library.
"""

from __future__ import annotations

import re

__all__ = ["find_end", "headers_in", "is_upgrade"]

_END = re.compile(rb"\r?\n\r?\n")  # RFC 9112 §2.2: a bare LF is to be accepted
_UPGRADE = re.compile(rb"\nupgrade:[ \t]*websocket[ \t]*\r?\n", re.IGNORECASE)


def find_end(data: bytes) -> int | None:
    """Where the head that `data` begins with ends; None if it goes on."""
    end = _END.search(data)
    return end.end() if end else None


def is_upgrade(head: bytes) -> bool:
    """Whether it asks for a WebSocket."""
    return _UPGRADE.search(head) is not None


def headers_in(head: bytes) -> dict[str, str]:
    """Its headers, names in lower case; of several with one name, joined as a list."""
    found: dict[str, str] = {}
    for line in head.decode("latin-1").split("\n")[1:]:
        name, colon, text = line.partition(":")
        if colon:
            name, text = name.lower(), text.strip(" \t\r")
            found[name] = f"{found[name]}, {text}" if name in found else text
    return found
