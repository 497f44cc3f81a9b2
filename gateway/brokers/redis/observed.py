"""The newest events that a node has shown to clients. They can be restored after a server has lost
them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from msgspec import UNSET

from ...model.state import Event

__all__ = ["Observed"]

MAX_JOBS = 20_000
MAX_BYTES = 16 * 1024 * 1024
"""Limits for jobs that no client watches. The most recently updated ones are kept, because a server
that goes back in time loses the newest updates."""
EVENT_BYTES = 600
"""The memory of an event without its long texts, measured."""


class Observed:
    """The newest event of each job that went through a broker, up to the limits."""

    def __init__(self) -> None:
        self._events: OrderedDict[str, Event] = OrderedDict()  # the longest untouched first
        self._bytes = 0
        self.sources: list[Callable[[], Iterable[Event]]] = []
        """Functions that return more events that were shown: those of the node's topics."""

    def __len__(self) -> int:
        return len(self._events)

    def record(self, events: Iterable[Event]) -> None:
        """Record events that have been, or are about to be, shown."""
        kept = self._events
        for event in events:
            job = event.job
            if job[0] == "!":
                continue
            known = kept.pop(job, None)
            if known is not None:
                self._bytes -= _size(known)
                if known.position > event.position:
                    event = known
            kept[job] = event
            self._bytes += _size(event)
        while len(kept) > MAX_JOBS or self._bytes > MAX_BYTES:
            self._bytes -= _size(kept.popitem(last=False)[1])

    def all(self) -> Iterator[Event]:
        """The newest event of each job."""
        others: dict[str, Event] = {}
        for source in self.sources:
            for event in source():
                known = others.get(event.job) or self._events.get(event.job)
                if event.job[0] != "!" and (known is None or known.position < event.position):
                    others[event.job] = event
        yield from others.values()
        yield from (event for event in self._events.values() if event.job not in others)


def _size(event: Event) -> int:
    state = event.state
    size = EVENT_BYTES
    if state.data is not UNSET:
        size += len(state.data)
    if state.message:
        size += len(state.message)
    if state.error:
        size += len(state.error)
    return size
