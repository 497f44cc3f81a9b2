"""The mark in every published state, by which events are found without parsing.

Pure: bytes in, numbers out.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MARK", "OVERLAP", "STAMP", "Scan", "mark", "scan"]

MARK = b"QXZQX"
"""Letters that occur in no protocol and in no other part of a state. There are five, because the
search skips by the length of the mark."""
STAMP = 16
"""Digits after the mark: microseconds of the monotonic clock, which processes share."""
OVERLAP = len(MARK) - 1
"""The bytes of the previous read that are put before a read, so that no mark between the two is
lost and none is counted twice."""


def mark(at: float) -> bytes:
    """Returns the mark of an event that was due at `at` seconds."""
    return b"%b%016d" % (MARK, at * 1e6)


class Scan(NamedTuple):
    """The events in a read."""

    events: int
    oldest: int | None = None
    """When the first event was due, in microseconds; None if its digits are incomplete."""
    newest: int | None = None


def scan(buffer: bytearray, end: int) -> Scan:
    """Scans `buffer[:end]`."""
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
