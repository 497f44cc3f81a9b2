"""Counts the keys that cannot be read (another program's, or a newer version's), and logs each
once."""

from __future__ import annotations

import logging

__all__ = ["UnreadableRecords"]

log = logging.getLogger("gateway.brokers.redis")

MAX_KEYS = 1_000
"""Keys that are logged; more are only counted."""


class UnreadableRecords:
    """Counts the reads that failed, and remembers the keys that were logged."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self.count = 0

    def record(self, key: str, error: Exception) -> None:
        self.count += 1
        if key not in self._keys and len(self._keys) < MAX_KEYS:
            self._keys.add(key)
            log.warning("%s is not a valid record, treating its job as unknown: %s", key, error)
