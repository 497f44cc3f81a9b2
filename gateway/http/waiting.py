"""Requests that wait for a change (`?wait=`), while their client is connected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from starlette.requests import Request

from ..auth.permissions import Permissions
from ..delivery.quota import QuotaKey
from ..delivery.topic import Subscription
from ..model.errors import Refusal, Unauthorized
from ..model.state import Event
from ..node.node import Node
from .request_values import address_of

__all__ = ["ChangeWatcher", "next_event", "wait_for"]


async def wait_for(
    wait_for_change: Callable[[], Awaitable[object]],
    request: Request,
    node: Node,
    *,
    permissions: Permissions,
    timeout: float,
) -> None:
    """Waits until `wait_for_change` returns, for at most `timeout` seconds, while the client is
    connected and the node does not drain.

    Raises `Unauthorized` as soon as the client's token has expired or is revoked.
    """
    refusals: list[Refusal] = []
    with trio.move_on_after(timeout):
        async with trio.open_nursery() as nursery:

            def end(refusal: Refusal, _: str) -> None:
                refusals.append(refusal)
                nursery.cancel_scope.cancel()

            with node.authenticator.admit(permissions, end=end):
                nursery.start_soon(_cancel_when_disconnected, request, nursery.cancel_scope)
                nursery.start_soon(
                    _cancel_when_set, node.connections.draining, nursery.cancel_scope
                )
                await wait_for_change()
            nursery.cancel_scope.cancel()
    if refusals:
        raise Unauthorized(f"the token is no longer valid: {refusals[0]}", refusals[0])


async def next_event(
    job: str,
    event: Event | None,
    request: Request,
    node: Node,
    *,
    permissions: Permissions,
    timeout: float,
) -> Event | None:
    """Waits for an event of `job` that is newer than `event` (None: the job is unknown), or until
    the job is dropped. Returns the newest event; None if the job is unknown then.

    It returns `event` if nothing happens within `timeout` seconds, or before the client disconnects
    or the node drains. Raises `Unauthorized` as `wait_for` does.
    """
    watcher = ChangeWatcher()
    subscription = node.hub.subscribe(
        job,
        watcher,
        position=event.position if event else None,
        quota_key=QuotaKey.at(address_of(request), permissions.subject),
    )

    def newer() -> Event | None:
        latest = subscription.topic.latest
        return latest if latest and (not event or latest.position > event.position) else None

    is_dropped = False

    async def wait_for_change() -> None:
        nonlocal is_dropped
        while newer() is None and not is_dropped:
            await watcher.next_change()
            topic = subscription.topic
            is_dropped = event is not None and topic.latest is None and not topic.loading

    try:
        await wait_for(wait_for_change, request, node, permissions=permissions, timeout=timeout)
        return None if is_dropped else newer() or event
    finally:
        node.hub.unsubscribe(subscription)


class ChangeWatcher:
    """Waits for changes of a job or of a set: a subscriber without a connection."""

    def __init__(self) -> None:
        self._changed = trio.Event()

    def notify(self, subscription: Subscription) -> None:
        """Called by the hub, for a job."""
        self._changed.set()

    def on_change(self) -> None:
        """Called by `SetRegistry`, for a set."""
        self._changed.set()

    def on_job_ended(self, job: str) -> None:
        """Called by `SetRegistry` only for watchers registered with `notify_end`."""

    async def next_change(self) -> None:
        """Waits until a change has happened since the last call."""
        await self._changed.wait()
        self._changed = trio.Event()


async def _cancel_when_disconnected(request: Request, scope: trio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _cancel_when_set(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
