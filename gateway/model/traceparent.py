"""The grammar of `traceparent`, which names a span (W3C Trace Context, version 00)."""

from __future__ import annotations

import re

__all__ = ["TRACEPARENT", "is_traceparent"]

TRACEPARENT = "00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
"""Trace Context §3.2.2 as a regular expression, to be matched against a whole text."""
_TRACEPARENT = re.compile(TRACEPARENT)


def is_traceparent(text: object) -> bool:
    """Returns whether `text` names a span."""
    return isinstance(text, str) and _TRACEPARENT.fullmatch(text) is not None
