"""The snapshot of a job: everything that a worker has reported, as one complete update.

No lock, no clock, no I/O; the process's lock guards it. A request contains the whole snapshot
and not only the last change, so sending one twice, or to a gateway that has lost the job's
record, is harmless.

A forked child reports only its own changes, and its own count as a part of the job's count. Its
parent reports everything else.
"""

from __future__ import annotations

from typing import Any

from ..model.percent import two_digits
from .checks import KEEP, Keep
from .outcome import End
from .phases import Segment, Stage

__all__ = ["JobSnapshot"]


class JobSnapshot:
    """Everything that was reported about one attempt of a job."""

    __slots__ = (
        "_inherited",
        "_sent_fields",
        "accepts",
        "children",
        "data",
        "end",
        "lease",
        "message",
        "overall",
        "part",
        "percent",
        "stage",
        "traceparent",
        "weight",
    )

    def __init__(self, *, lease: float, part: str | None = None) -> None:
        self.lease = lease
        self.children: float | Keep | None = KEEP
        """The weight of all children of a group; None if it is unknown."""
        self.weight: float | None = None
        """Its weight in the group above."""
        self.accepts: tuple[str, ...] = ()
        """The verbs of the requests that it accepts."""
        self.part = part
        """The name of this process's own count, if other processes count in the job too."""
        self.stage = Stage(None, Segment())
        self.message: str | None = None
        self.data: Any = None
        self.end: End | None = None
        self.traceparent: str | None = None
        """The span in which it was last changed."""
        self.percent: float | None = None
        """The highest percentage that was ever sent."""
        self.overall: float | Keep | None = KEEP
        """The percentage of the whole job, instead of the one from the counts. None: unknown."""
        self._sent_fields: set[str] = set()
        """Fields that were sent: if they are cleared, null must be sent."""
        self._inherited: dict[str, Any] = {}

    def change(self, changes: Any) -> None:
        """Set the checked arguments of `Job.update` besides `done`."""
        for name, value in changes.items():
            if value is KEEP:
                continue
            if name == "message":
                self.message = value
            elif name == "phase":
                self.stage.name = value
            elif name == "total":
                self.stage.segment.total = value
            elif name == "unit":
                self.stage.segment.unit = value
            elif name == "percent":
                self.stage.segment.reach(value / 100)
            elif name == "overall":
                self.overall = None if value is None else min(max(value, 0), 100)
            else:
                self.data = value

    def set(self, fields: dict[str, Any]) -> None:
        """Set those of `unit`, `phase`, `message` and `data` that are in `fields`."""
        if "unit" in fields:
            self.stage.segment.unit = fields["unit"]
        if "phase" in fields:
            self.stage.name = fields["phase"]
        self.message = fields.get("message", self.message)
        self.data = fields.get("data", self.data)

    def open(
        self, name: str, *, share: float | None, total: float | None, fields: dict[str, Any]
    ) -> Stage:
        """Begin a phase, which has its own counts if it has a `share` or a `total`.

        This ends the phase before, unless its block is open. After the job's end it does nothing.
        """
        here = self.stage
        if self.end is not None:
            return here
        while not here.held:
            here = here.close()
        segment = here.segment
        if share is not None or total is not None:
            segment = Segment(outer=segment, share=share)
            segment.total = total
        self.stage = Stage(name, segment, outer=here)
        self.set(fields)
        return self.stage

    def leave(self, stage: Stage) -> None:
        """End `stage` and all phases inside it. Does nothing if it has ended already."""
        if self.stage.inside(stage):
            here = self.stage
            while here is not stage:
                here = here.close()
            self.stage = here.close()

    def stop_loops(self) -> None:
        """Ignore the later counts of running loops."""
        segment: Segment | None = self.stage.segment
        while segment is not None:
            for loop in list(segment.loops):
                segment.end_loop(loop)
            segment = segment.outer

    def fork(self, part: str) -> None:
        """Continue in a forked child, which counts as `part` of the job."""
        self._inherited = self._values()
        self._inherited["percent"] = self.percent
        self._sent_fields.update(k for k, v in self._inherited.items() if v is not None)
        self.part = part
        segment: Segment | None = self.stage.segment
        while segment is not None:
            segment.base, segment.child_counts = segment.done or 0, None
            segment = segment.outer

    def fields(self) -> dict[str, Any]:
        """The snapshot as an update, without the fields that identify the attempt."""
        end = self.end
        fields = self._values()
        fields = {k: v for k, v in fields.items() if v is not None or k in self._sent_fields}
        if self._inherited:
            old = self._inherited
            fields = {k: v for k, v in fields.items() if k == "done" or v != old.get(k)}
        self._sent_fields.update(fields)
        if self.part is not None and fields.get("done") is not None:
            fields["part"] = self.part
            fields["done"] = max(fields["done"] - self.stage.segment.base, 0)
        percent = self._percent()
        if percent is not None or self.overall is None:
            fields["percent"] = percent
        fields["status"] = end.status if end else "running"
        fields["lease"] = self.lease
        if not isinstance(self.children, Keep) and not self._inherited:
            fields["children"] = self.children
        if self.traceparent is not None:
            fields["traceparent"] = self.traceparent
        return fields

    def sent(self, name: str) -> None:
        """Record that this field was sent: if it is cleared, null will be sent."""
        self._sent_fields.add(name)

    def own_count(self) -> int | float:
        """This process's count of the current phase."""
        segment = self.stage.segment
        return max((segment.done or 0) - segment.base, 0)

    def _values(self) -> dict[str, Any]:
        segment, end = self.stage.segment, self.end
        return {
            "total": segment.total,
            "done": segment.done,
            "unit": segment.unit,
            "phase": self.stage.name,
            "message": self.message,
            "data": self.data,
            "error": end.error if end else None,
            "weight": self.weight,
            "accepts": list(self.accepts) or None,
        }

    def _percent(self) -> float | None:
        if self.end is not None and self.end.status == "succeeded":
            return 100.0
        if self.overall is None:
            return None
        if not isinstance(self.overall, Keep):
            self.percent = max(self.percent or 0.0, two_digits(self.overall))
            return self.percent
        if self.part is not None and self.stage.segment.by_count_alone:
            return None  # other processes count too: only the gateway knows the sum
        whole = self.stage.segment.whole()
        if whole is not None:
            self.percent = max(self.percent or 0.0, two_digits(whole * 100))
        if self._inherited and self.percent == self._inherited["percent"]:
            return None
        return self.percent
