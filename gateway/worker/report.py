"""A report: one job as the sender knows it, from its first request to its settled end.

No thread, no I/O; time comes in as an argument (`time.monotonic`). The process's lock
guards it. Its life:

    new ──touched──▶ queued ──taken──▶ in flight ──answered──▶ beating (until touched again)
                       ▲                  │ unreachable, or touched meanwhile
                       └──────────────────┘
    any ──▶ settled: nothing more is sent (also when it is handed over)

    answer                          running                      ended
    ------------------------------  ---------------------------  -------------------------
    applied, unchanged              next is a beat               settled, delivered
    stale_attempt                   settled, superseded          settled, superseded
    final                           settled: somebody ended it   settled, delivered if an
                                                                 earlier try may have arrived
    rejected, names a field         again, without the field     the same
    rejected                        next is a beat               settled, lost
    unreachable                     again after a pause          the same, until its deadline

After its deadline an end that carries its attempt is kept for as long as the process
lives: it is fenced, and late is better than `lost`. Without an attempt it is given up: it
would open a new one, perhaps after a successor's.
"""

from __future__ import annotations

import os
from math import inf
from typing import Any

from .limits import BEATS, EXIT, INTERVAL
from .outcome import End
from .picture import Picture
from .publisher import Receipt, Rejected

__all__ = ["Report"]

_ESSENTIAL = frozenset(("status", "attempt", "start", "run"))


class Report:
    """What the sender keeps of one job."""

    __slots__ = (
        "_refused",
        "_said",
        "abandoned",
        "attempt",
        "deadline",
        "delivered",
        "due",
        "job",
        "overdue",
        "picture",
        "queued",
        "run",
        "sent_at",
        "settled",
        "superseded",
        "timeout",
        "tried",
        "unwelcome",
    )

    def __init__(
        self, job: str, picture: Picture, *, timeout: float, run: str | None = None
    ) -> None:
        self.job = job
        self.picture = picture
        self.timeout = timeout
        self.run = run or os.urandom(16).hex()
        self.attempt: int | None = None
        self.queued = False
        """The sender will take the picture: what is set now needs no word to it."""
        self.due = 0.0
        """When it is to be sent next; an entry of the schedule with another time is void."""
        self.sent_at = -inf
        self.deadline: float | None = None
        """Until when its end is tried for; None while it is running."""
        self.overdue = False
        """Its end is late, and nobody waits for it any more."""
        self.tried = False
        """A request with its end was made, and may have arrived."""
        self.settled = False
        self.delivered = False
        self.superseded = False
        self.abandoned = False
        """Nobody holds the job any more, so nobody is left who could report or end it."""
        self.unwelcome = False
        """Its last picture was rejected as a whole: only beats ask again."""
        self._refused: dict[str, Any] = {}
        self._said: set[str] = set()

    @property
    def ended(self) -> bool:
        """Whether the picture has its end."""
        return self.picture.end is not None

    @property
    def beat(self) -> float:
        """Seconds between two requests when there is nothing new."""
        return self.picture.lease / BEATS

    def end(self, end: End, *, now: float) -> None:
        """Set how it ended. The first end counts."""
        if self.picture.end is None:
            self.picture.end = end
            # Also an end that nobody waits for (timeout=0) deserves a few tries.
            self.deadline = now + max(self.timeout, EXIT)

    def superseded_here(self) -> str:
        """Settle it, as this process has begun a newer attempt. Returns what is to be logged."""
        self.settled = self.superseded = self.queued = True
        return "superseded by a newer Job of this process"

    def next_due(self, now: float) -> float:
        """When a change made `now` is to be sent: an end at once, others at the pace."""
        if self.ended:
            return now
        return max(now, self.sent_at + (self.beat if self.unwelcome else INTERVAL))

    def request(self, now: float) -> dict[str, Any]:
        """The update to send now. From here on, changes have to be queued again."""
        self.queued = False
        self.due = inf  # takes it from the schedule
        self.sent_at = now
        fields = self.picture.fields()
        for name, value in self._refused.items():
            if fields.get(name) == value:
                del fields[name]
        if self.attempt is None:
            return fields | {"start": True, "run": self.run}
        return fields | {"attempt": self.attempt}

    def answered(self, request: dict[str, Any], receipt: Receipt) -> str | None:
        """Take note of the answer. Returns what is to be logged, if anything."""
        ending = request["status"] != "running"
        self.unwelcome = False
        if receipt.reason == "stale_attempt":
            self.settled = self.superseded = True
            return f"superseded by attempt {receipt.attempt}; its updates are ignored from now on"
        if self.attempt is None:
            self.attempt = receipt.attempt
        if receipt.reason == "final":
            self.settled = True
            self.delivered = ending and self.tried
            return None if self.delivered else "somebody else has ended it; its updates are ignored"
        if ending:
            self.settled = self.delivered = True
        return None

    def unreachable(self, request: dict[str, Any], why: str, *, now: float) -> str | None:
        """Take note that no answer came. Returns what is to be logged, if anything."""
        self.tried = self.tried or request["status"] != "running"
        return self.expire(why, now=now)

    def rejected(self, request: dict[str, Any], error: Rejected) -> str | None:
        """Take note of the answer. Returns what is to be logged, if anything."""
        problem, field = str(error), error.field
        if field in request and field not in _ESSENTIAL:
            self._refused[field] = request[field]
            said = f"the gateway refuses its {field}, which is left out: {problem}"
        else:
            self.unwelcome = True
            self.settled = request["status"] != "running"
            what = f"end ({request['status']})" if self.settled else "updates"
            said = f"the gateway rejects its {what}: {problem}"
        # Once for each kind of problem; the texts may quote values that change.
        kind = field or problem
        if kind in self._said and not self.settled:
            return None
        self._said.add(kind)
        return said

    def expire(self, why: str, *, now: float) -> str | None:
        """Stop waiting for the end if its deadline has come. Returns what is to be logged."""
        if self.deadline is None or now < self.deadline or self.overdue or self.settled:
            return None
        self.overdue = True
        self.settled = self.attempt is None
        later = "" if self.settled else "; it is sent later if this process lives that long"
        return f"its end could not be delivered in time ({why}){later}"
