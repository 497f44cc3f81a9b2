"""The client's rule of docs/protocol.md, for one client and all its jobs. Pure.

Written from the document alone. `vectors/` test that it agrees with `web/src` and `gateway watch`.
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import define, field

__all__ = ["Known", "ReferenceClient", "returns_after"]

Verdict = Literal["accepted", "ignored", "violation"]


def returns_after(code: int) -> bool:
    """Returns whether a client reconnects after this close code."""
    return code not in (1002, 1003, 1007, 1008, 1009) and not 4500 <= code <= 4999


@define
class Known:
    """The position and state of a job."""

    epoch: int | None = None
    seq: int = 0
    state: dict[str, Any] | None = None


@define
class ReferenceClient:
    """One client, over all its connections."""

    known: dict[str, Known] = field(factory=dict)
    """The position and state of each job; without jobs whose position was dropped."""
    shown: dict[str, dict[str, Any] | None] = field(factory=dict)
    """The state of each job that the client shows."""
    _asked: dict[str, int] = field(factory=dict)
    """The number of the command that subscribed to the job, until it is answered."""

    def begin(self) -> dict[str, list[int]]:
        """Begins a connection; returns the positions for its `hello`."""
        self._asked.clear()
        return {
            job: [known.epoch, known.seq]
            for job, known in self.known.items()
            if known.epoch is not None
        }

    def asks(self, job: str, command: int) -> None:
        """Handles a command that subscribes to the job, and was sent."""
        self._asked[job] = command

    def answered(self, command: int) -> None:
        """Handles `subscriptions` with that `id`."""
        for job, asked in list(self._asked.items()):
            if asked <= command:
                del self._asked[job]

    def leaves(self, job: str) -> None:
        """Handles that the client unsubscribes from the job."""
        self.known.pop(job, None)
        self._asked.pop(job, None)

    def take(self, frame: dict[str, Any]) -> Verdict:
        """Handles a `progress` frame. After a violation the client must subscribe to the job
        again."""
        job = frame["job"]
        known_job = self.known.get(job)
        if frame.get("snapshot") is not True:
            follows = (
                known_job is not None
                and known_job.epoch is not None
                and frame["epoch"] == known_job.epoch
                and frame["prev"] == known_job.seq
                and frame["seq"] > known_job.seq
            )
            if not follows:
                if job in self._asked:
                    return "ignored"  # from the previous subscription
                self.known.pop(job, None)
                return "violation"
        self.known[job] = Known(frame["epoch"], frame["seq"], frame["state"])
        self.shown[job] = frame["state"]
        return "accepted"
