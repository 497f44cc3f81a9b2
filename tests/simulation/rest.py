"""The checks at rest, which is after the last fault, when all workers have ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

from . import workers
from .checks import Violated
from .clients import request
from .sets import SetWatcher

if TYPE_CHECKING:
    from .world import World

__all__ = ["wait_for_quiescence"]

READ_AGAIN = 10.0
"""Seconds within which each client that polls has read every job again."""
POLLED_WITHIN = 5.0
"""Seconds within which each client that polls has polled, if there was no fault."""
WORKERS_WITHIN = 150.0
"""Virtual seconds after which a worker that still runs counts as hung."""
RELEASED_WITHIN = 8.0
"""Seconds after the last client has disconnected, and after `linger`, until the node has released
everything: a list may wait 7 s."""


async def wait_for_quiescence(world: World) -> None:
    """Waits until all workers and faults have ended, checks the states, then disconnects the
    clients and checks that the nodes have released everything."""
    await trio.sleep(0.001)
    with trio.move_on_after(WORKERS_WITHIN) as deadline:
        while world.working or world.faults.injecting:  # noqa: ASYNC110 - on a virtual clock
            await trio.sleep(0.25)
    if deadline.cancelled_caught:
        raise Violated("no hang: a worker has not ended")
    world.note("all faults are over, all workers have ended")
    world.quiescing = True
    for watcher in world.watchers:
        watcher.resubscribe()
    await trio.sleep_until(max(world.faults.recovered_at, trio.current_time()) + POLLED_WITHIN)
    world.note("at rest")
    try:
        await _check_rest(world)
    except Violated:
        # A lease may have expired after the last read of a client that polls.
        await trio.sleep(READ_AGAIN)
        await _check_rest(world)
    for watcher in world.watchers:
        watcher.jobs = []
    _hang_up_all(world)
    await trio.sleep(world.scenario.linger + RELEASED_WITHIN)
    for host in world.hosts:
        statistics = host.node.statistics()
        if statistics.connections or statistics.hub.topics or statistics.hub.subscriptions:
            raise Violated(f"baseline: {host.name} keeps {statistics}")


def _hang_up_all(world: World) -> None:
    for watcher in world.watchers:
        if watcher.scope is not None:
            watcher.scope.cancel()


async def _check_rest(world: World) -> None:
    states, listed = await _read(world)
    world.check_commands()
    violation = world.group_model.at_rest(states)
    if violation is not None:
        raise Violated(violation)
    _check_watchers(world, states, listed)
    _check_workers(world, states)
    world.note(f"states: {states}")


async def _read(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads each job from all nodes, and the list from one. All nodes must be ready and agree."""
    for host in world.hosts:
        if not host.alive or host.node.not_ready_reason is not None:
            reason = host.node.not_ready_reason if host.alive else "not alive"
            raise Violated(f"fresh: {host.name} is {reason} long after the last fault")
    states: dict[str, Any] = {}
    listed: dict[str, Any] = {}
    for host in world.hosts:
        status, _, body = await request(host, "GET", "/api/jobs", query={"limit": "100"})
        if status != 200:
            raise Violated(f"fresh: a list of {host.name} answers {status} {body!r}")
        listed = {row["job"]: row["state"] for row in json.loads(body)["jobs"]}
        for job in world.jobs:
            status, _, body = await request(host, "GET", f"/api/jobs/{job}")
            state = json.loads(body)["state"] if status == 200 else None
            if status not in (200, 404):
                raise Violated(f"fresh: GET {job} of {host.name} answers {status} {body!r}")
            if states.setdefault(job, state) != state:
                raise Violated(f"the end: GET {job} says {states[job]}, and {state}")
    return states, listed


def _check_watchers(world: World, states: dict[str, Any], listed: dict[str, Any]) -> None:
    """Checks that every client shows the current states."""
    for watcher in world.watchers:
        if watcher.stale:
            raise Violated(f"fresh: {watcher.name} is notified that it is stale, for no reason")
        if not watcher.connected:
            raise Violated(f"the end: {watcher.name} is not connected")
        if isinstance(watcher, SetWatcher):
            watcher.check_rest(listed)
        for job in watcher.jobs:
            shown_state, broker_state = watcher.reference.shown.get(job), states.get(job)
            if job in world.checks.lost and (broker_state is None or shown_state is None):
                continue  # its data were destroyed, but an end that was shown is still correct
            if shown_state != broker_state:
                raise Violated(
                    f"the end: {watcher.name} shows {job} as {shown_state}, not {broker_state}"
                )


def _check_workers(world: World, states: dict[str, Any]) -> None:
    """Checks that no job is shown as running, and that every end that was acknowledged to a worker
    is there."""
    for job, state in states.items():
        if state and state["health"] == "ok" and _is_overdue(state):
            raise Violated(f"the end: {job} runs at rest, and no worker lives: {state}")
    for worker in world.workers:
        for job, attempt, end in worker.ends:
            state = states.get(job)
            now_is = state and (state["attempt"], state["status"])
            if job in world.checks.lost or (state and state["attempt"] > attempt):
                continue
            if world.lossy and not world.checks.was_shown(job, attempt, end):
                continue  # Redis lost it before any node had read it: not guaranteed
            if now_is != (attempt, end):
                raise Violated(
                    f"the end: {job} is {now_is}, and {worker.name} was told that "
                    f"{attempt, end} has arrived"
                )


def _is_overdue(state: dict[str, Any]) -> bool:
    """Returns whether the lease of a job's worker has expired by the time of rest."""
    own_lease = state["status"] == "running" and "children" not in state
    return bool(own_lease and state["lease"] <= workers.LEASE)
