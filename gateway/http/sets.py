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
from .requests import address_of, count_in, tags_in
from .waiting import ChangeWatcher, wait_for

__all__ = ["read_set", "sets_in"]

MAX_LOADING = 10.0
"""Seconds that a set may take until it has been read: as long as a list may wait."""


def sets_in(request: Request, name: str) -> list[WatchSet]:
    """The sets whose prefixes the parameter `name` has, each with the request's `statuses`
    (separated by commas) and `limit`. Raises `InvalidInput`."""
    query = request.query_params
    statuses: list[Status] | None = None
    if query.get("statuses"):
        asked = query["statuses"].split(",")
        if unknown := [status for status in asked if status not in STATUSES]:
            raise InvalidInput(f"{unknown[0]!r} is none of {', '.join(STATUSES)}", field="statuses")
        statuses = [status for status in STATUSES if status in asked]
    limit = count_in(request, "limit", default=DEFAULT_SET_LIMIT, least=1, most=MAX_SET_LIMIT)
    prefixes = list(dict.fromkeys(query.getlist(name)))
    for prefix in prefixes:
        if not is_job_id_prefix(prefix):
            raise InvalidInput(f"{name} is not the beginning of a job id", field=name)
    return [WatchSet(prefix=prefix, statuses=statuses, limit=limit) for prefix in prefixes]


async def read_set(
    request: Request, node: Node, command: WatchSet, *, permissions: Permissions, wait: float
) -> Response:
    """The document of the set, 304 if it is the one in If-None-Match. If so, for up to `wait`
    seconds the next one is waited for."""
    known = tags_in(request.headers.get("if-none-match", ""))
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

    def tag() -> str:
        view.refresh()
        return f'"{node.name}-{view.epoch}-{view.seq}"'

    async def change() -> None:
        while tag() in known:
            await watcher.next_change()

    try:
        with trio.move_on_after(MAX_LOADING):
            while view.job_set.loading:
                await watcher.next_change()
        if view.job_set.loading:
            raise HTTPException(503, "The set has not been read yet.", {"retry-after": "1"})
        if wait and tag() in known:
            await wait_for(change, request, node, permissions=permissions, within=wait)
        headers = {"etag": tag(), "cache-control": "no-cache"}
        if headers["etag"] in known:
            return Response(status_code=304, headers=headers)
        return Response(view.document(), headers=headers, media_type="application/json")
    finally:
        node.sets.unwatch(view, watcher)
