"""The picture: all that a worker has said of its job, as one complete update.

No lock, no clock, no I/O; the process's lock guards it. Requests carry the whole picture
and not the last change, so sending one twice, or to a gateway that has lost the job's
record, is harmless.
"""

from __future__ import annotations

from typing import Any

from .outcome import End
from .phases import Span, Stage

__all__ = ["Picture"]


class Picture:
    """What has been said of one attempt at a job."""

    __slots__ = (
        "data",
        "end",
        "lease",
        "message",
        "parent",
        "percent",
        "stage",
        "told",
        "traceparent",
    )

    def __init__(self, *, lease: float, parent: str | None) -> None:
        self.lease = lease
        self.parent = parent
        self.stage = Stage(None, Span())
        self.message: str | None = None
        self.data: Any = None
        self.end: End | None = None
        self.traceparent: str | None = None
        """The span in which it was last changed."""
        self.percent: float | None = None
        """The highest percentage that was ever sent."""
        self.told: set[str] = set()
        """Fields that a request has carried: from then on their absence must be said."""

    def say(self, said: dict[str, Any]) -> None:
        """Set `unit`, `phase`, `message`, `data`: those that are in `said`."""
        if "unit" in said:
            self.stage.span.unit = said["unit"]
        if "phase" in said:
            self.stage.name = said["phase"]
        self.message = said.get("message", self.message)
        self.data = said.get("data", self.data)

    def open(
        self, name: str, *, share: float | None, total: float | None, said: dict[str, Any]
    ) -> Stage:
        """Begin a phase: one with counts of its own if it has a `share` or a `total`.

        Ends the one before, unless a block holds it. After the end nothing changes.
        """
        here = self.stage
        if self.end is not None:
            return here
        while not here.held:
            here = here.close()
        span = here.span
        if share is not None or total is not None:
            span = Span(outer=span, share=share)
            span.total = total
        self.stage = Stage(name, span, outer=here)
        self.say(said)
        return self.stage

    def leave(self, stage: Stage) -> None:
        """End `stage` and all phases inside it. Nothing happens if it has ended before."""
        if self.stage.inside(stage):
            here = self.stage
            while here is not stage:
                here = here.close()
            self.stage = here.close()

    def fields(self) -> dict[str, Any]:
        """The picture as an update, without what identifies the attempt."""
        span, end = self.stage.span, self.end
        fields: dict[str, Any] = {
            "total": span.total,
            "done": span.done,
            "unit": span.unit,
            "phase": self.stage.name,
            "message": self.message,
            "data": self.data,
            "error": end.error if end else None,
            "parent": self.parent,
        }
        fields = {k: v for k, v in fields.items() if v is not None or k in self.told}
        self.told.update(fields)
        percent = self._percent()
        if percent is not None:
            fields["percent"] = percent
        fields["status"] = end.status if end else "running"
        fields["lease"] = self.lease
        if self.traceparent is not None:
            fields["traceparent"] = self.traceparent
        return fields

    def _percent(self) -> float | None:
        if self.end is not None and self.end.status == "succeeded":
            return 100.0
        whole = self.stage.span.whole()
        if whole is not None:
            self.percent = max(self.percent or 0.0, round(whole * 100, 2))
        return self.percent
