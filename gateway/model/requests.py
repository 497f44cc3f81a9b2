"""Requests to the worker of a running job, such as to cancel it.

    open ──▶ seen by the worker ──▶ the job ends (a cancel: as `cancelled`)
      │              └────────────▶ refused, with a reason
      └── a newer request replaces it, unless it is a cancel

A job lists the verbs that it accepts (`State.accepts`); pages draw a button for each. A request
belongs to an attempt: the next attempt begins without one, and a job that has ended accepts none.

A request to a group is also a request to the jobs below it. The gateway sends it to the running
ones one by one (`http/control.py`). The request stays in force until it is refused or replaced, or
the group ends. Until then a job below the group that was running, and has not received it, receives
it with its next update, because the node that sent the requests may have been killed. A `cancel` or
`pause` is also sent to jobs that begin later; any other verb is for the jobs that were running at
the time.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import replace

from . import constants
from .ids import VERB

__all__ = ["CANCEL", "Request", "RequestId", "Verb", "request_for_child"]

CANCEL = "cancel"
"""The verb that no other request replaces."""

Verb = Annotated[str, Meta(pattern=f"^{VERB}$")]
RequestId = Annotated[str, Meta(pattern=f"^[A-Za-z0-9_.:-]{{1,{constants.MAX_REQUEST_ID}}}$")]


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A request, as watchers and the worker see it. Times are Unix seconds."""

    id: RequestId
    """Chosen by the sender, so that sending the request again has no effect."""
    verb: Verb
    args: Raw | UnsetType = UNSET
    """JSON text that only the application interprets."""
    by: Annotated[str, Meta(max_length=200)] | None = None
    """The subject of the sender's token."""
    alone: bool = False
    """Whether the sender's token does not allow requests on all jobs below. Then it is not sent to
    them."""
    at: float = 0.0
    """The time when the broker stored it."""
    seen_at: float | None = None
    """The time when the worker acknowledged it."""
    refused: Annotated[str, Meta(max_length=constants.MAX_TEXT["refused"])] | None = None
    """The reason why the worker does not carry it out."""

    @property
    def open(self) -> bool:
        """Whether the worker has not acknowledged it yet."""
        return self.seen_at is None and self.refused is None


def request_for_child(
    request: Request | None,
    accepts: Collection[str],
    *,
    after: Request | None,
    started_at: float | None,
) -> Request | None:
    """Returns the request that a running job must be sent, if a running group above it has
    `request`, and the job itself has the request `after`. None if there is none."""
    if (
        request is None
        or request.alone
        or request.refused is not None
        or (request.verb not in constants.LASTING_VERBS and (started_at or 0) >= request.at)
        or request.verb not in accepts
        or (after is not None and request.at <= after.at)
    ):
        return None
    return replace(request, at=0.0, seen_at=None)
