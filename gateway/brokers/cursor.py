"""Where a reader of a Redis feed stands, and how it knows that it has missed something.

Each event carries its number in the feed, and a look at the server tells how far that is.
So these are the signs of a loss, whichever comes first:

    a number that does not follow       entries were trimmed, or the feed was flushed
    nothing new, though there was       all that was new was trimmed
    the feed's end is before our place  it has gone back in time
    another server, or history          a replica was promoted, Redis was restarted

`take`, `looked` and `silent` answer with the reason; the place to go on from has then been
settled, so that what is read of the jobs afterwards and what comes next leave no hole.
Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, frozen
from msgspec.structs import replace

from ..job import Event
from .stored import decode

__all__ = ["Cursor", "Look", "Place", "parse_look", "place_of"]

Place = tuple[int, int]
"""The id of a stream's entry; they are ordered."""
Entry = tuple[bytes, list[bytes]]
"""As XREAD answers: an id, then names and values."""


@frozen
class Look:
    """A feed as its server describes it, at one moment."""

    server: bytes = b""
    """Which server, with which history: its `run_id` and `master_replid`."""
    last: Place = (0, 0)
    """The place of its newest entry, even if that was trimmed."""
    number: int = 0
    """How many events it has had."""
    known_server: bytes = b""
    """The server that the jobs were last said to be on (`takeover.lua`)."""
    era: int = 0
    """Where the present era of epochs begins."""
    primary: bool = True


@define
class Cursor:
    """Where one reader stands."""

    place: Place = (0, 0)
    """Of the last entry that was taken."""
    number: int = 0
    """That entry's number in the feed."""
    epoch: int = 0
    """The newest epoch that was seen."""
    look: Look = Look()
    """The feed when it was last looked at."""

    @property
    def id(self) -> str:
        """The place as XREAD wants it."""
        return f"{self.place[0]}-{self.place[1]}"

    @property
    def behind(self) -> int:
        """How many events the feed had, when it was last looked at, that were not taken yet."""
        return max(0, self.look.number - self.number)

    def go_to_end(self, look: Look) -> None:
        """Go on from where the feed ended then."""
        self.look, self.place, self.number = look, look.last, look.number

    def take(self, entries: Sequence[Entry]) -> tuple[list[Event], list[str]]:
        """The events in `entries`, and what was wrong with them: each a line for the log.

        If anything was, some may be missing before, between or after them. Events of an
        earlier era are left out: their positions mean nothing any more, and whoever
        reads their jobs gets new ones.
        """
        events: list[Event] = []
        wrong: list[str] = []
        expected = self.number + len(entries)
        for id_, fields in entries:
            try:
                self.number, event = decode(fields[1])
                if len(fields) > 2 and fields[2] == b"traceparent":
                    event = replace(event, traceparent=fields[3].decode("ascii", "replace"))
            except (ValueError, TypeError, IndexError) as error:
                # Not from our scripts, or from newer ones. The rest is no worse for it.
                wrong.append(f"entry {id_.decode()} is unreadable: {error}")
                self.number += 1
                continue
            epoch = event.position.epoch
            if epoch >= self.look.era:
                events.append(event)
                self.epoch = max(self.epoch, epoch)
        if self.number != expected:
            wrong.append("events are missing")
        self.place = place_of(entries[-1][0])
        return events, wrong

    def looked(self, look: Look) -> str | None:
        """Compare where we are with where the server is."""
        before, self.look = self.look, look
        if look.last < self.place:
            # A read from an id of the future would stall.
            self.go_to_end(look)
            return "it has gone back in time"
        if look.server != before.server or look.era != before.era:
            return "another server answers"
        return None

    def silent(self) -> str | None:
        """There was nothing after our place."""
        if self.place < self.look.last:
            self.go_to_end(self.look)
            return "it was cut off before it was read"
        return None


def place_of(id_: bytes) -> Place:
    """The place that an entry's id says."""
    time, _, number = id_.partition(b"-")
    return int(time), int(number)


def parse_look(server: bytes, replication: bytes, stream: object, counters: Sequence[Any]) -> Look:
    """What INFO, XINFO STREAM (an error if there is no stream yet) and the counters say."""
    last = (0, 0)
    if isinstance(stream, list):
        last = place_of(dict(zip(stream[::2], stream[1::2], strict=True))[b"last-generated-id"])
    number, known_server, era = counters
    return Look(
        server=_line(server, b"run_id") + b" " + _line(replication, b"master_replid"),
        last=last,
        number=int(number or 0),
        known_server=known_server or b"",
        era=int(era or 0),
        primary=_line(replication, b"role") != b"slave",
    )


def _line(info: bytes, name: bytes) -> bytes:
    """A value in the answer to INFO; nothing if it is not told."""
    _, _, rest = info.partition(b"\n" + name + b":")
    return rest.partition(b"\r")[0]
