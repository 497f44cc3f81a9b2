"""Valid and invalid `traceparent` values. The first is the example of W3C Trace Context."""

from __future__ import annotations

__all__ = ["MALFORMED", "OTHER", "PARENT", "SPAN", "TRACE", "UNSAMPLED"]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

SPAN = f"00-{TRACE}-{PARENT}-01"
OTHER = f"00-{TRACE}-{PARENT[::-1]}-03"  # with the flag of a random trace id
UNSAMPLED = f"00-{TRACE}-{PARENT}-02"

MALFORMED = [
    "",
    "x",
    SPAN + "\n",
    SPAN + "-",
    SPAN[:-1],
    SPAN.upper(),
    SPAN.replace("-", " "),
    f"01-{TRACE}-{PARENT}-01",  # a version that is not known
    f"ff-{TRACE}-{PARENT}-01",
    f"00-{TRACE}-{PARENT}-0g",
    f"00-{TRACE}0-{PARENT[1:]}-01",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
]
