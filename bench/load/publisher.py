"""Publishes at a given rate, independently of the server's speed.

Event k is due at start + k / rate, and contains that time, not the time at which it was sent.
So a server that delays the publisher does not appear to be faster.
"""

from __future__ import annotations

import time
from contextlib import suppress

from .feeds import Feed
from .marks import mark

__all__ = ["FeedFailed", "Publisher"]


class FeedFailed(Exception):
    """The server of the feed refused an event; the text is its answer."""


class Publisher:
    """Publishes events for `jobs` jobs in turn."""

    def __init__(self, feed: Feed, jobs: int) -> None:
        self._feed = feed
        self._jobs = jobs
        self._rate = 0.0
        self._started = 0.0
        self._since_start = 0
        self._pending = b""
        self.published = 0
        """The number of all events so far."""

    def start(self, rate: float) -> None:
        """Publishes `rate` events a second, evenly, from now on."""
        self._rate = rate
        self._started = time.monotonic()
        self._since_start = 0

    @property
    def next_at(self) -> float:
        """When the next event is due."""
        return self._started + self._since_start / self._rate

    def publish_due(self) -> None:
        """Sends the events that are due by now, as far as the socket accepts them."""
        due_count = int((time.monotonic() - self._started) * self._rate) + 1
        if self._rate and due_count > self._since_start:
            numbers = range(self._since_start, due_count)
            marks = [mark(self._started + k / self._rate) for k in numbers]
            jobs = [(self.published + k) % self._jobs for k in range(len(numbers))]
            self._pending += self._feed.encode(list(zip(jobs, marks, strict=True)))
            self._since_start = due_count
            self.published += len(numbers)
        if self._pending:
            with suppress(BlockingIOError):
                self._pending = self._pending[self._feed.socket.send(self._pending) :]
            self._drop_answers()

    def close(self) -> None:
        self._feed.socket.close()

    def _drop_answers(self) -> None:
        with suppress(BlockingIOError):
            answer = self._feed.socket.recv(1 << 20)
            if answer[:1] == b"-":
                raise FeedFailed(answer.partition(b"\r\n")[0].decode())
