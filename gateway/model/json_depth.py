"""The nesting depth of JSON texts. Pure."""

from __future__ import annotations

import re

from .constants import MAX_DATA_DEPTH

__all__ = ["json_depth", "nests_too_deep"]

# A string may lack its end: else an invalid text would be searched again from each of its quotes.
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"?|([\[{])|([\]}])', re.DOTALL)


def json_depth(text: bytes) -> int:
    """Returns the nesting depth of the arrays and objects in a JSON text: 0 for a scalar. The text
    may be invalid; the time is proportional to its length."""
    depth = deepest = 0
    for match in _BRACKET.finditer(text):
        if match[1]:
            depth += 1
            deepest = max(deepest, depth)
        elif match[2]:
            depth -= 1
    return deepest


def nests_too_deep(text: bytes) -> bool:
    """Returns whether a JSON text nests deeper than `data` may."""
    brackets = text.count(b"[") + text.count(b"{")
    return brackets > MAX_DATA_DEPTH and json_depth(text) > MAX_DATA_DEPTH
