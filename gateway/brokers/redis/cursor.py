"""The position of a reader in a Redis feed, and the detection of missed events.

Each event has a number in the feed, and the server knows the last one. These are the signs of a
loss; any of them is enough:

    a number that does not follow          entries were trimmed, or the feed was flushed
    no entry, although the number grew     all new entries were trimmed
    the feed ends before the position        the server was rolled back
    another server, or replication id      a replica was promoted, Redis was restarted

`advance`, `check_feed` and `check_no_entries` return the reason. In that case they have moved the
position to the end of the feed, so that a read of all jobs afterwards, and the next events of the
feed, are complete together. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, frozen
from msgspec.structs import replace

from ...model.state import Event
from .codec import decode

__all__ = [
    "Cursor",
    "EntryId",
    "FeedState",
    "is_primary",
    "parse_entry_id",
    "parse_feed_state",
    "server_identity",
]

EntryId = tuple[int, int]
"""The id of a stream's entry; they are ordered."""
Entry = tuple[bytes, list[bytes]]
"""An entry as XREAD returns it: an id, then names and values."""


@frozen
class FeedState:
    """The description of a feed by its server at one moment."""

    server: bytes = b""
    """The server and its data set: its `run_id` and `master_replid`."""
    last: EntryId = (0, 0)
    """The id of its newest entry, even if that was trimmed."""
    number: int = 0
    """The number of events that it has had."""
    generation: int = 0
    """The first epoch of the current generation (`failover.lua`)."""


@define
class Cursor:
    """The position of one reader."""

    entry_id: EntryId = (0, 0)
    """The id of the last entry that was read."""
    number: int = 0
    """The number of that entry in the feed."""
    epoch: int = 0
    """The newest epoch in any event so far."""
    feed: FeedState = FeedState()
    """The state of the feed when it was last checked."""

    @property
    def id(self) -> str:
        """The id in the form that XREAD takes."""
        return f"{self.entry_id[0]}-{self.entry_id[1]}"

    @property
    def lag(self) -> int:
        """The number of events in the feed, as it was last described, that were not read yet."""
        return max(0, self.feed.number - self.number)

    def skip_to_end(self, feed: FeedState) -> None:
        """Moves the position to the end of the feed."""
        self.feed, self.entry_id, self.number = feed, feed.last, feed.number

    def advance(self, entries: Sequence[Entry]) -> tuple[list[Event], list[str]]:
        """Moves the position past `entries`. Returns their events, and a line for the log for each
        problem.

        If there is a problem, events may be missing before, between or after the entries. Events of
        an earlier generation are left out, because their positions are void; a read of their jobs
        returns new ones.
        """
        events: list[Event] = []
        problems: list[str] = []
        expected = self.number + len(entries)
        for id_, fields in entries:
            try:
                self.number, event = decode(fields[1])
                if len(fields) > 2 and fields[2] == b"traceparent":
                    event = replace(event, traceparent=fields[3].decode("ascii", "replace"))
            except (ValueError, TypeError, IndexError) as error:
                # Another program or a newer script has written it. The other entries are valid.
                problems.append(f"entry {id_.decode()} is unreadable: {error}")
                self.number += 1
                continue
            epoch = event.position.epoch
            if epoch >= self.feed.generation:
                events.append(event)
                self.epoch = max(self.epoch, epoch)
        if self.number != expected:
            problems.append("events are missing")
        self.entry_id = parse_entry_id(entries[-1][0])
        return events, problems

    def check_feed(self, feed: FeedState) -> str | None:
        """Compares the position with the server's description; returns the reason of a loss."""
        previous, self.feed = self.feed, feed
        if feed.last < self.entry_id:
            # A read that starts at a later id would never return.
            self.skip_to_end(feed)
            return "the feed went back in time"
        if feed.server != previous.server or feed.generation != previous.generation:
            # The skipped events only restored lost states.
            self.skip_to_end(feed)
            return "another Redis server answers, which may lack events"
        return None

    def check_no_entries(self) -> str | None:
        """Handles a read that returned no entry; returns the reason if entries are missing."""
        if self.entry_id < self.feed.last:
            self.skip_to_end(self.feed)
            return "entries were trimmed before they were read"
        return None


def parse_entry_id(id_: bytes) -> EntryId:
    """Returns the numbers in an entry's id."""
    time, _, number = id_.partition(b"-")
    return int(time), int(number)


def parse_feed_state(
    server: bytes, generation: int, stream: object, number: bytes | None
) -> FeedState:
    """Parses the answers of XINFO STREAM (an error if there is no stream yet) and of the
    counter."""
    last = (0, 0)
    if isinstance(stream, list):
        last = parse_entry_id(
            dict(zip(stream[::2], stream[1::2], strict=True))[b"last-generated-id"]
        )
    return FeedState(server=server, last=last, number=int(number or 0), generation=generation)


def server_identity(server: bytes, replication: bytes) -> bytes:
    """Returns the identity of the server and of its data set, from two sections of INFO."""
    return _line(server, b"run_id") + b" " + _line(replication, b"master_replid")


def is_primary(replication: bytes) -> bool:
    """Returns whether a server accepts updates, from the section `replication` of INFO."""
    return _line(replication, b"role") != b"slave"


def _line(info: bytes, name: bytes) -> bytes:
    """Returns a value in the answer to INFO; empty if it is missing."""
    _, _, rest = info.partition(b"\n" + name + b":")
    return rest.partition(b"\r")[0]
