"""A job as values: where it stands, what a worker may report, what a broker keeps.

How an update changes a state is `gateway.fold`'s.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from attrs import frozen
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from . import limits
from .errors import InvalidInput
from .pace import Pace

__all__ = [
    "FINAL",
    "JOB_ID",
    "STATUSES",
    "TRACEPARENT",
    "UNSEEN",
    "Event",
    "Health",
    "Position",
    "Reason",
    "Record",
    "State",
    "Status",
    "Update",
    "check_job_id",
    "is_job_id",
]

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Health = Literal["ok", "stalled", "lost"]
Reason = Literal["unchanged", "stale_attempt", "final"]

FINAL: frozenset[Status] = frozenset(("succeeded", "failed", "cancelled"))
STATUSES: tuple[Status, ...] = get_args(Status)

Count = (
    Annotated[int, Meta(ge=0, le=limits.MAX_NUMBER)]
    | Annotated[float, Meta(ge=0, le=limits.MAX_NUMBER)]
)
Percent = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]
Lease = (
    Annotated[int, Meta(ge=int(limits.MIN_LEASE), le=int(limits.MAX_LEASE))]
    | Annotated[float, Meta(ge=limits.MIN_LEASE, le=limits.MAX_LEASE)]
)

JOB_ID = f"[A-Za-z0-9_.:/@-]{{1,{limits.MAX_JOB_ID}}}"
"""A job id, as a regular expression that all its dialects understand."""
_JOB_ID = re.compile(JOB_ID)

TRACEPARENT = "^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$"
"""A span, of a trace (W3C Trace Context §3.2.2, version 00), likewise."""


def is_job_id(text: object) -> bool:
    """Whether `text` is a job id."""
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None


def check_job_id(job: object, *, field: str = "job") -> str:
    """Return `job` if it is a job id; raise `InvalidInput` (code `invalid_job`) otherwise."""
    if isinstance(job, str) and is_job_id(job):
        return job
    raise InvalidInput(
        f"{field} is not a job id: 1-{limits.MAX_JOB_ID} characters of A-Z a-z 0-9 _ . : / @ -",
        code="invalid_job",
        field=field,
    )


class State(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Where a job stands: what its watchers see. None means not known.

    Times are Unix seconds to the millisecond, durations are seconds. `data` is the
    application's own JSON text, passed through unread (UNSET when there is none). Numbers
    are `int | float` so that `3` read from JSON is written as `3`, not as `3.0`.
    """

    status: Status
    attempt: int
    health: Health = msgspec.field(default_factory=lambda: "ok")  # a factory: always on the wire
    percent: int | float | None = None
    done: int | float | None = None
    total: int | float | None = None
    unit: str | None = None
    phase: str | None = None
    message: str | None = None
    error: str | None = None
    data: Raw | UnsetType = UNSET
    parent: str | None = None
    eta: int | float | None = None
    lease: int | float = msgspec.field(default_factory=lambda: limits.DEFAULT_LEASE)
    created_at: float
    started_at: float | None = None
    updated_at: float
    finished_at: float | None = None

    @property
    def final(self) -> bool:
        """Whether nothing but a new attempt can change it."""
        return self.status in FINAL

    @property
    def reported_at(self) -> float | None:
        """When its worker said so. None if it tells of the worker's silence: `updated_at` is
        as old as that."""
        return self.updated_at if self.health == "ok" else None


class Update(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a worker reports: a patch. UNSET keeps a value, None clears it.

    `data` is compact JSON text; the text `null` clears it. `traceparent` names the span of
    the worker. It is no part of any state: it goes with the `Event`, if there is one.
    """

    status: Status | UnsetType = UNSET
    attempt: Annotated[int, Meta(ge=1, le=limits.MAX_NUMBER)] | UnsetType = UNSET
    start: bool = False
    run: Annotated[str, Meta(min_length=1, max_length=limits.MAX_RUN)] | None = None
    percent: Percent | UnsetType = UNSET
    done: Count | UnsetType | None = UNSET
    total: Count | UnsetType | None = UNSET
    unit: Annotated[str, Meta(max_length=limits.MAX_UNIT)] | UnsetType | None = UNSET
    phase: Annotated[str, Meta(max_length=limits.MAX_PHASE)] | UnsetType | None = UNSET
    message: Annotated[str, Meta(max_length=limits.MAX_MESSAGE)] | UnsetType | None = UNSET
    error: Annotated[str, Meta(max_length=limits.MAX_ERROR)] | UnsetType | None = UNSET
    data: Raw | UnsetType = UNSET
    parent: str | UnsetType | None = UNSET
    lease: Lease | UnsetType | None = UNSET
    traceparent: Annotated[str, Meta(pattern=TRACEPARENT, max_length=55)] | None = None


class Position(NamedTuple):
    """How far into a job's events: ordered, and comparable across records of the job."""

    epoch: int
    """Which record: new and larger whenever the job's record is created anew; 0 for none."""
    seq: int
    """How many events of that record: from 1, without holes; 0 for none."""


UNSEEN = Position(0, 0)
"""The position of a job that nobody has reported yet."""


class Event(Struct, frozen=True, gc=False):
    """A state at a position, and on its way through a feed the span of who reported it."""

    job: str
    position: Position
    state: State
    traceparent: str | None = None


@frozen
class Record:
    """What a broker keeps of a job: its state at a position, and what the fold remembers."""

    position: Position
    state: State
    run: str | None = None
    """The run that opened the current attempt."""
    pace: Pace | None = None
