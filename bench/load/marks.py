"""The mark in every published state, by which events are found without parsing.

Pure: bytes in, numbers out.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MARK", "OVERLAP", "STAMP", "Scan", "mark", "scan"]

MARK = b"QXZQX"
"""Letters that no protocol and no filling has; five, because the search skips by its length."""
STAMP = 16
"""Digits after the mark: microseconds of the monotonic clock, which processes share."""
OVERLAP = len(MARK) - 1
"""Bytes of the read before that must stand in front of a read, so that no mark is lost
between the two and none is counted twice."""


def mark(at: float) -> bytes:
    """The mark of an event that was due at `at` seconds."""
    return b"%b%016d" % (MARK, at * 1e6)


class Scan(NamedTuple):
    """The events in a read."""

    events: int
    oldest: int | None = None
    """When the first was due, in microseconds; None if its digits are not all there."""
    newest: int | None = None


def scan(buffer: bytearray, end: int) -> Scan:
    """What is in `buffer[:end]`; behind it there may be anything."""
    events = buffer.count(MARK, 0, end)
    if not events:
        return Scan(0)
    oldest = _stamp(buffer, buffer.find(MARK, 0, end), end)
    if events == 1:
        return Scan(1, oldest, oldest)
    return Scan(events, oldest, _stamp(buffer, buffer.rfind(MARK, 0, end), end))


def _stamp(buffer: bytearray, at: int, end: int) -> int | None:
    start = at + len(MARK)
    return int(buffer[start : start + STAMP]) if start + STAMP <= end else None
