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
from .final_state import FinalState
from .phases import PhaseRecord, Segment

__all__ = ["JobSnapshot"]


class JobSnapshot:
    """Everything that was reported about one attempt of a job."""

    __slots__ = (
        "_fields_at_fork",
        "_sent_fields",
        "accepts",
        "children",
        "data",
        "final_state",
        "highest_percent",
        "lease",
        "message",
        "overall_override",
        "part",
        "phase",
        "traceparent",
        "weight",
    )

    def __init__(self, *, lease: float, part: str | None = None) -> None:
        self.lease = lease
        self.children: float | Keep | None = KEEP
        """The weight of all children of a group; None if it is unknown."""
        self.weight: float | None = None
        """The weight of the job in the group above it."""
        self.accepts: tuple[str, ...] = ()
        """The verbs of the requests that the job accepts."""
        self.part = part
        """The name of this process's own count, if other processes count in the job too."""
        self.phase = PhaseRecord(None, Segment())
        self.message: str | None = None
        self.data: Any = None
        self.final_state: FinalState | None = None
        self.traceparent: str | None = None
        """The span in which the job was last changed."""
        self.highest_percent: float | None = None
        """The highest percentage that was ever sent."""
        self.overall_override: float | Keep | None = KEEP
        """The percentage of the whole job that replaces the one from the counts: KEEP if it is not
        set, None if the percentage is unknown."""
        self._sent_fields: set[str] = set()
        """The fields that were sent: if they are cleared, null must be sent."""
        self._fields_at_fork: dict[str, Any] = {}
        """In a forked child: the values at the fork, which the parent reports."""

    def apply_changes(self, changes: Any) -> None:
        """Sets the checked arguments of `Job.update` besides `done`."""
        for name, value in changes.items():
            if value is KEEP:
                continue
            if name == "message":
                self.message = value
            elif name == "phase":
                self.phase.name = value
            elif name == "total":
                self.phase.segment.total = value
            elif name == "unit":
                self.phase.segment.unit = value
            elif name == "percent":
                self.phase.segment.record_fraction(value / 100)
            elif name == "overall":
                self.overall_override = None if value is None else min(max(value, 0), 100)
            else:
                self.data = value

    def set_fields(self, fields: dict[str, Any]) -> None:
        """Sets those of `unit`, `phase`, `message` and `data` that are in `fields`."""
        if "unit" in fields:
            self.phase.segment.unit = fields["unit"]
        if "phase" in fields:
            self.phase.name = fields["phase"]
        self.message = fields.get("message", self.message)
        self.data = fields.get("data", self.data)

    def begin_phase(
        self, name: str, *, share: float | None, total: float | None, fields: dict[str, Any]
    ) -> PhaseRecord:
        """Begins a phase, which has its own counts if it has a `share` or a `total`.

        It ends the current phase, unless that is in a block. After the job's end it does nothing.
        """
        record = self.phase
        if self.final_state is not None:
            return record
        while not record.in_block:
            record = record.end()
        segment = record.segment
        if share is not None or total is not None:
            segment = Segment(outer=segment, share=share)
            segment.total = total
        self.phase = PhaseRecord(name, segment, outer=record)
        self.set_fields(fields)
        return self.phase

    def end_phase(self, phase: PhaseRecord) -> None:
        """Ends `phase` and all phases inside it. Does nothing if it has ended already."""
        if self.phase.is_inside(phase):
            record = self.phase
            while record is not phase:
                record = record.end()
            self.phase = record.end()

    def stop_loops(self) -> None:
        """Ends the running loops, so that their later counts are ignored."""
        segment: Segment | None = self.phase.segment
        while segment is not None:
            for loop in list(segment.running_loops):
                segment.end_loop(loop)
            segment = segment.outer

    def continue_in_child(self, part: str) -> None:
        """Continues in a forked child, whose count is the part `part` of the job's count."""
        self._fields_at_fork = self._field_values()
        self._fields_at_fork["percent"] = self.highest_percent
        self._sent_fields.update(k for k, v in self._fields_at_fork.items() if v is not None)
        self.part = part
        segment: Segment | None = self.phase.segment
        while segment is not None:
            segment.count_at_fork, segment.child_counts = segment.done or 0, None
            segment = segment.outer

    def fields(self) -> dict[str, Any]:
        """Returns the snapshot as an update, without the fields that identify the attempt."""
        final_state = self.final_state
        fields = self._field_values()
        fields = {k: v for k, v in fields.items() if v is not None or k in self._sent_fields}
        if self._fields_at_fork:
            at_fork = self._fields_at_fork
            fields = {k: v for k, v in fields.items() if k == "done" or v != at_fork.get(k)}
        self._sent_fields.update(fields)
        if self.part is not None and fields.get("done") is not None:
            fields["part"] = self.part
            fields["done"] = max(fields["done"] - self.phase.segment.count_at_fork, 0)
        percent = self._percent_to_send()
        if percent is not None or self.overall_override is None:
            fields["percent"] = percent
        fields["status"] = final_state.status if final_state else "running"
        fields["lease"] = self.lease
        if not isinstance(self.children, Keep) and not self._fields_at_fork:
            fields["children"] = self.children
        if self.traceparent is not None:
            fields["traceparent"] = self.traceparent
        return fields

    def mark_sent(self, name: str) -> None:
        """Records that this field was sent: if it is cleared, null will be sent."""
        self._sent_fields.add(name)

    def own_count(self) -> int | float:
        """Returns this process's count of the current phase."""
        segment = self.phase.segment
        return max((segment.done or 0) - segment.count_at_fork, 0)

    def _field_values(self) -> dict[str, Any]:
        segment, final_state = self.phase.segment, self.final_state
        return {
            "total": segment.total,
            "done": segment.done,
            "unit": segment.unit,
            "phase": self.phase.name,
            "message": self.message,
            "data": self.data,
            "error": final_state.error if final_state else None,
            "weight": self.weight,
            "accepts": list(self.accepts) or None,
        }

    def _percent_to_send(self) -> float | None:
        if self.final_state is not None and self.final_state.status == "succeeded":
            return 100.0
        if self.overall_override is None:
            return None
        if not isinstance(self.overall_override, Keep):
            self.highest_percent = max(
                self.highest_percent or 0.0, two_digits(self.overall_override)
            )
            return self.highest_percent
        if self.part is not None and self.phase.segment.percent_from_counts:
            return None  # other processes count too: only the gateway knows the sum
        position = self.phase.segment.overall_position()
        if position is not None:
            self.highest_percent = max(self.highest_percent or 0.0, two_digits(position * 100))
        if self._fields_at_fork and self.highest_percent == self._fields_at_fork["percent"]:
            return None
        return self.highest_percent
