"""Sets of jobs over HTTP: what a request names, and the document of one set."""

from __future__ import annotations

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..auth.permissions import Permissions
from ..delivery.quota import QuotaKey
from ..model.constants import DEFAULT_SET_LIMIT, MAX_SET_LIMIT
from ..model.errors import InvalidInput
from ..model.ids import is_job_id_prefix
from ..model.state import Status
from ..model.statuses import STATUSES
from ..node.node import Node
from ..protocol.commands import WatchSet
from .request_values import address_of, count_in, tags_in
from .waiting import ChangeWatcher, wait_for

__all__ = ["read_set", "sets_in"]

MAX_LOADING = 10.0
"""Seconds until a set must have been read: as long as a list may wait."""


def sets_in(request: Request, name: str) -> list[WatchSet]:
    """Returns the sets whose prefixes are the values of the parameter `name`, with the request's
    `statuses` (separated by commas) and `limit`. Raises `InvalidInput`."""
    query = request.query_params
    statuses: list[Status] | None = None
    if query.get("statuses"):
        names = query["statuses"].split(",")
        if unknown := [status for status in names if status not in STATUSES]:
            raise InvalidInput(
                f"{unknown[0]!r} is not one of {', '.join(STATUSES)}", field="statuses"
            )
        statuses = [status for status in STATUSES if status in names]
    limit = count_in(request, "limit", default=DEFAULT_SET_LIMIT, minimum=1, maximum=MAX_SET_LIMIT)
    prefixes = list(dict.fromkeys(query.getlist(name)))
    for prefix in prefixes:
        if not is_job_id_prefix(prefix):
            raise InvalidInput(f"{name} is not the beginning of a job id", field=name)
    return [WatchSet(prefix=prefix, statuses=statuses, limit=limit) for prefix in prefixes]


async def read_set(
    request: Request, node: Node, command: WatchSet, *, permissions: Permissions, wait: float
) -> Response:
    """Returns the document of the set, or 304 if the client has it (If-None-Match). In that case it
    first waits up to `wait` seconds for the next document."""
    known_tags = tags_in(request.headers.get("if-none-match", ""))
    watcher = ChangeWatcher()
    statuses = STATUSES if command.statuses is None else command.statuses
    if permissions.watch.covers(command.prefix):
        view = node.sets.watch(
            command.prefix,
            watcher,
            statuses=statuses,
            limit=command.limit,
            quota_key=QuotaKey.at(address_of(request), permissions.subject),
        )
    else:
        view = node.sets.denied_view(command.prefix, statuses=statuses, limit=command.limit)

    def etag() -> str:
        view.refresh()
        return f'"{node.name}-{view.epoch}-{view.seq}"'

    async def wait_for_change() -> None:
        while etag() in known_tags:
            await watcher.next_change()

    try:
        with trio.move_on_after(MAX_LOADING):
            while view.job_set.loading:
                await watcher.next_change()
        if view.job_set.loading:
            raise HTTPException(503, "The set has not been read yet.", {"retry-after": "1"})
        if wait and etag() in known_tags:
            await wait_for(wait_for_change, request, node, permissions=permissions, timeout=wait)
        headers = {"etag": etag(), "cache-control": "no-cache"}
        if headers["etag"] in known_tags:
            return Response(status_code=304, headers=headers)
        return Response(view.document(), headers=headers, media_type="application/json")
    finally:
        node.sets.unwatch(view, watcher)
