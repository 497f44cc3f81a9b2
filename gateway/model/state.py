"""The values of a job: its state, the updates of a worker, the record of a broker.

`model/reducer.py` says how an update changes a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
from attrs import field, frozen
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from . import constants
from .children import Children, Expected, Sums, Weight
from .eta import RateEstimator
from .ids import PART
from .requests import Request, RequestId, Verb
from .statuses import FINAL, STATUSES, Health, Reason, Status
from .traceparent import TRACEPARENT

__all__ = [
    "FINAL",
    "STATUSES",
    "UNSEEN",
    "Attempt",
    "Children",
    "Event",
    "Health",
    "Position",
    "Reason",
    "Record",
    "Request",
    "RequestUpdate",
    "State",
    "Status",
    "Update",
]

Count = (
    Annotated[int, Meta(ge=0, le=constants.MAX_NUMBER)]
    | Annotated[float, Meta(ge=0, le=constants.MAX_NUMBER)]
)
Percent = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]
Lease = (
    Annotated[int, Meta(ge=int(constants.MIN_LEASE), le=int(constants.MAX_LEASE))]
    | Annotated[float, Meta(ge=constants.MIN_LEASE, le=constants.MAX_LEASE)]
)

Age = (
    Annotated[int, Meta(ge=0, le=constants.MAX_AGE)]
    | Annotated[float, Meta(ge=0, le=constants.MAX_AGE)]
)

Attempt = Annotated[int, Meta(ge=1, le=constants.MAX_NUMBER)]

Accepts = Annotated[tuple[Verb, ...], Meta(max_length=constants.MAX_ACCEPTS)]

Unit = Annotated[str, Meta(max_length=constants.MAX_TEXT["unit"])]
Phase = Annotated[str, Meta(max_length=constants.MAX_TEXT["phase"])]
Message = Annotated[str, Meta(max_length=constants.MAX_TEXT["message"])]
Error = Annotated[str, Meta(max_length=constants.MAX_TEXT["error"])]


class State(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The state of a job, as clients see it. None means unknown.

    Times are Unix seconds to the millisecond, durations are seconds. `data` is the application's
    own JSON text, which the gateway does not interpret (UNSET if there is none). Only a group has
    `children`. `weight` is what the job counts in the group above it, if not 1. Numbers are
    `int | float` so that `3` read from JSON is written as `3`, not as `3.0`.
    """

    status: Status
    attempt: Attempt
    health: Health = msgspec.field(default_factory=lambda: "ok")  # a factory: always on the wire
    percent: Percent | None = None
    done: Count | None = None
    total: Count | None = None
    unit: Unit | None = None
    phase: Phase | None = None
    message: Message | None = None
    error: Error | None = None
    data: Raw | UnsetType = UNSET
    children: Children | None = None
    weight: Weight | None = None
    accepts: Accepts | None = None
    request: Request | None = None
    eta: int | float | None = None
    lease: Lease = msgspec.field(default_factory=lambda: constants.DEFAULT_LEASE)
    created_at: float
    started_at: float | None = None
    updated_at: float
    finished_at: float | None = None

    @property
    def final(self) -> bool:
        """Whether only a new attempt can change the state."""
        return self.status in FINAL

    @property
    def reported_at(self) -> float | None:
        """The time when the worker reported this state. None if an expired lease caused it, because
        then `updated_at` is the time of the last report."""
        return self.updated_at if self.health == "ok" else None


PartName = Annotated[str, Meta(pattern=f"^{PART}$", max_length=constants.MAX_PART)]


class Update(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An update of a worker: some fields of the state. UNSET keeps a value, None clears it.

    `data` is compact JSON text; the text `null` clears it. `traceparent` names the span of the
    worker; it is part of the `Event`, not of the state. `children` declares a group: the weight of
    all its children, or None if that is unknown. With a `part`, `done` is the count of that part of
    the job. `ack` is the id of the request that the worker has seen, and `refused` the worker's
    reason to refuse it. `age` is the number of seconds since the worker began the attempt.
    """

    status: Status | UnsetType = UNSET
    attempt: Attempt | UnsetType = UNSET
    start: bool = False
    run: Annotated[str, Meta(min_length=1, max_length=constants.MAX_RUN)] | None = None
    age: Age | UnsetType = UNSET
    part: PartName | None = None
    percent: Percent | UnsetType | None = UNSET
    done: Count | UnsetType | None = UNSET
    total: Count | UnsetType | None = UNSET
    unit: Unit | UnsetType | None = UNSET
    phase: Phase | UnsetType | None = UNSET
    message: Message | UnsetType | None = UNSET
    error: Error | UnsetType | None = UNSET
    data: Raw | UnsetType = UNSET
    children: Expected | UnsetType | None = UNSET
    weight: Weight | UnsetType | None = UNSET
    lease: Lease | UnsetType | None = UNSET
    accepts: Accepts | UnsetType | None = UNSET
    ack: RequestId | None = None
    refused: Annotated[str, Meta(max_length=constants.MAX_TEXT["refused"])] | None = None
    traceparent: Annotated[str, Meta(pattern=f"^{TRACEPARENT}$", max_length=55)] | None = None


class RequestUpdate(
    Update, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A request to the worker, which the broker handles like an update. Clients cannot send it as
    an update, because it needs another permission."""

    request: Request


class JobUpdate(Update, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An update in a batch, which names its job."""

    job: str


class Position(NamedTuple):
    """A position in a job's events. Positions are ordered, also across records of the job."""

    epoch: int
    """The number of the job's record, larger whenever the record is created again; 0: no record."""
    seq: int
    """The number of the event in that record, from 1, without gaps; 0: no event."""


UNSEEN = Position(0, 0)
"""The position of a job that was never reported."""


class Event(Struct, frozen=True, gc=False):
    """A state at a position. In a feed the event also has the `traceparent` of the update."""

    job: str
    position: Position
    state: State
    traceparent: str | None = None


@frozen
class Record:
    """A broker's record of a job: its state, its position, and the data of the reducer."""

    position: Position
    state: State
    run: str | None = None
    """The run that opened the current attempt."""
    parts: Mapping[str, int | float] = field(factory=dict)
    """The newest count of each part in the current phase; updates without a part have the key
    ``""``. Empty until an update names a part."""
    counted: int | float = 0
    """The sum of `parts`."""
    rate_estimator: RateEstimator | None = None
    """The estimator of the attempt's rate, stored as `pace`."""
    sums: Sums | None = None
    """The sums of the children's contributions, if the job is a group."""
    earlier_request_ids: tuple[str, ...] = ()
    """The ids of the attempt's requests before the current one, the newest last. Sending one of
    them again has no effect."""
