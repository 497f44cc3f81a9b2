"""A scenario: the processes, the fault, and the checks at the end.

    async with run_scenario() as scenario:
        async with scenario.fault():
            scenario.redis.kill()
            scenario.end("meanwhile")
            await scenario.redis.start()

Before the block, two nodes run on one Redis, each job has a worker, and clients watch all jobs.
Every client has received progress of every job, and the end of the job `early`. After the block
the remaining workers are ordered to end. Then everything in `rules` must hold, every client must
have every end within 30 s, and each process must hold as many resources as at the start.
Violations are collected, so that a failure shows all of them.
"""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from attrs import define, field, frozen

from . import rules
from .client_logs import ClientLog, Json, matches
from .processes import Node, Worker
from .stores import Store, open_store
from .watchers import Changes, Watcher

__all__ = ["Scenario", "run_scenario"]

CLIENTS = 24
END_TIMEOUT = 30.0
"""Seconds from the end of the fault until every client has every end."""
STEP_TIMEOUT = 20.0
"""Seconds that a scenario waits for any step. A step usually takes a tenth of that."""
RELEASE_TIMEOUT = 15.0
"""Seconds until the nodes have released everything after the clients have gone: a call to a Redis
that hung ends within five, an idle keep-alive connection of a worker at once."""
JOBS = ("early", "meanwhile", "late:1", "late:2")


MAX_CALL_CONNECTIONS = 16
"""Connections that a node may keep for its calls to Redis: the pool grows when many calls are
made at once, and does not shrink."""


@frozen
class Resources:
    """The resources of the nodes while no client is connected."""

    tasks: tuple[int, ...]
    """For each node."""
    feed_connections: int
    """Connections to Redis that read the feed."""
    descriptors: int
    """The open descriptors of all nodes, without the connections to Redis that Redis lists."""


@define(eq=False)
class Scenario:
    """A running scenario."""

    redis: Store
    nodes: list[Node]
    _nursery: trio.Nursery
    _stack: ExitStack
    workers: dict[str, Worker] = field(factory=dict)
    """By name. The name is the job's, except for further workers of a job."""
    watchers: list[Watcher] = field(factory=list)
    changes: Changes = field(factory=Changes)
    problems: list[str] = field(factory=list)
    """Descriptions of what did not hold."""
    ends: dict[str, Json] = field(factory=dict)
    """How each job ended, as its worker reported it."""
    over_at: float = 0.0
    """When the fault ended."""
    _began_at: float = field(factory=trio.current_time)

    def now(self) -> float:
        """Returns the seconds since the scenario began."""
        return trio.current_time() - self._began_at

    # Actions.

    @asynccontextmanager
    async def fault(self) -> AsyncIterator[None]:
        """Makes the block the fault: the time limit for ends starts when the block ends."""
        yield
        self.over_at = self.now()

    def end(self, name: str, how: str = "succeed") -> None:
        """Tells a worker to end its job, and does not wait, because the gateway may be
        unreachable."""
        self.workers[name].end(how)

    def add_worker(self, name: str, job: str, **options: Any) -> None:
        """Starts one more worker with these options."""
        worker = Worker(job, url=self.redis.url, **options)
        self.workers[name] = self._stack.enter_context(worker)

    def add_clients(self, clients: int = 2) -> None:
        """Starts more clients, with all combinations of node, mode and pings."""
        for _ in range(clients):
            number = len(self.watchers)
            nodes = tuple(self.nodes[(number + turn) % len(self.nodes)] for turn in range(2))
            watcher = Watcher(
                f"client {number}",
                mode="every" if number // 2 % 2 else "latest",
                jobs=sorted({worker.job for worker in self.workers.values()}),
                nodes=partial(_addresses, nodes),
                clock=self.now,
                changes=self.changes,
                sends_pings=bool(number // 4 % 2),
            )
            self.watchers.append(watcher)
            self._nursery.start_soon(watcher.run)

    def expect(self, holds: bool, what: str) -> None:
        """Records a problem unless `holds`."""
        if not holds:
            self.problems.append(f"{self.now():8.3f} does not hold: {what}")

    # Conditions to wait for.

    async def wait_for_ends(self, *names: str, watchers: Sequence[Watcher] = ()) -> None:
        """Waits until every client, or each of these, has received the ends of these workers' jobs.

        The workers are ordered to end if they have not been before.
        """
        for name in names:
            worker = self.workers[name]
            worker.end()
            if worker.killed:
                self.ends[worker.job] = {"status": "running", "health": "lost"}
                continue
            report = await worker.report(within=2 * END_TIMEOUT)
            self.expect(report["slowest"] < 1, f"no update() of {name} took long: {report}")
            if not report["superseded"]:
                self.expect(report["delivered"], f"the end of {name} was delivered: {worker.log}")
                self.ends[worker.job] = {key: report[key] for key in ("status", "done", "attempt")}
        jobs = {self.workers[name].job for name in names} & set(self.ends)
        watching = list(watchers or self.watchers)
        await self.wait_until(
            f"every client has the end of {', '.join(jobs)}",
            lambda: all(
                matches(watcher.states.get(job), self.ends[job])
                for watcher in watching
                for job in jobs
            ),
            within=END_TIMEOUT,
        )

    async def progress_continues(
        self, watchers: Sequence[Watcher] = (), *, job: str = "late:1", steps: int = 1
    ) -> None:
        """Waits until every client, or each of these, is `steps` further than any client is now."""
        watching = list(watchers or self.watchers)
        target = max(_done(watcher, job) for watcher in self.watchers) + steps
        await self.wait_until(
            f"clients see {job} at step {target}",
            lambda: all(_done(watcher, job) >= target for watcher in watching),
        )

    async def wait_for_move(self, watchers: Sequence[Watcher], node: Node) -> None:
        """Waits until these clients are connected to `node`."""
        await self.wait_until(
            f"the clients have moved to {node.name}",
            lambda: all(watcher.node == node.name for watcher in watchers),
        )

    async def wait_for_stale(self, *, expected: bool = True) -> None:
        """Waits until every client has received that its feed is stale (or no longer stale)."""
        await self.wait_until(
            f"every client was told that the feed is {'stale' if expected else 'fresh'}",
            lambda: all(watcher.stale == expected for watcher in self.watchers),
        )

    async def wait_for_readyz(self, status: int) -> None:
        """Waits until `/readyz` of every node answers with `status`."""

        async def becomes(node: Node) -> None:
            # There is no notification of readiness, so poll as a load balancer does.
            while await trio.to_thread.run_sync(_readiness, node.url) != status:  # noqa: ASYNC110 - of another process
                await trio.sleep(0.1)

        with trio.move_on_after(STEP_TIMEOUT) as patience:
            for node in self.nodes:
                await becomes(node)
        if patience.cancelled_caught:
            self.problems.append(f"/readyz did not become {status} within {STEP_TIMEOUT:g} s")

    async def wait_until(
        self, what: str, holds: Callable[[], bool], *, within: float = STEP_TIMEOUT
    ) -> None:
        """Waits until `holds` returns true, and records a problem if the time runs out."""
        with trio.move_on_after(within) as patience:
            await self.changes.wait_until(holds)
        if patience.cancelled_caught:
            self.problems.append(f"{self.now():8.3f} not within {within:.0f} s: {what}")

    def watching(self, node: Node, *, sends_pings: bool | None = None) -> list[Watcher]:
        """Returns the clients that connected to `node` first, or those with (without) pings."""
        return [
            watcher
            for watcher in self.watchers
            if watcher.nodes()[0][0] == node.name and sends_pings in (None, watcher.sends_pings)
        ]

    # The phases of a scenario.

    async def begin(self, options: dict[str, dict[str, Any]]) -> None:
        """Starts workers and clients, and waits until every client sees progress."""
        for job in JOBS:
            self.add_worker(job, job, **options.get(job, {}))
        self.add_clients(CLIENTS)
        await self.wait_until(
            "every client sees every job at work",
            lambda: all(_done(watcher, job) > 0 for watcher in self.watchers for job in JOBS),
        )
        await self.wait_for_ends("early")

    async def end_all(self) -> None:
        """Ends all jobs, and waits until every client has received their ends."""
        for worker in self.workers.values():
            worker.end()
        await self.wait_for_ends(*self.workers)
        await self.wait_for_stale(expected=False)

    def check_rules(self, client_logs: Sequence[ClientLog], *, first: float) -> None:
        """Checks the client logs against the rules."""
        faulted = {node.name for node in self.nodes if node.faulted}
        broken = list(rules.disagreements(client_logs))
        for client_log in client_logs:
            broken += rules.violations(client_log)
            broken += rules.times_out_of_range(client_log, first=first, last=time.time() + 1)
            broken += rules.unexpected_disconnects(client_log, faulted=faulted)
            broken += rules.missing_ends(client_log, self.ends, deadline=self.over_at + END_TIMEOUT)
            broken += rules.left_stale(client_log)
        self.problems += rules.summary(broken)

    async def resources(self) -> Resources:
        """Returns the resources that the running nodes hold now."""
        living = [node for node in self.nodes if not node.killed]
        connections = await self.redis.connections()
        call_connections = connections.count("")
        if call_connections > MAX_CALL_CONNECTIONS * len(living):
            self.problems.append(f"{call_connections} connections for calls")
        return Resources(
            tasks=tuple([await node.tasks() for node in living]),
            feed_connections=len(connections) - call_connections,
            descriptors=sum(node.descriptors for node in living) - len(connections),
        )

    async def stable_resources(self) -> Resources:
        """Returns the resources when two checks in a row agree: after the start they still
        change."""
        before, now = None, await self.resources()
        while now != before:
            await trio.sleep(0.2)
            before, now = now, await self.resources()
        return now

    async def check_released(self, before: Resources) -> None:
        """Waits until every running node holds only the resources that it held before the clients
        connected."""
        killed = sum(node.killed for node in self.nodes)
        if killed:
            share = len(self.nodes) - killed, len(self.nodes)
            before = Resources(
                before.tasks[: share[0]],
                feed_connections=before.feed_connections * share[0] // share[1],
                descriptors=before.descriptors * share[0] // share[1],
            )
        now = None
        with trio.move_on_after(RELEASE_TIMEOUT):
            # Processes send no notification of this, so poll.
            while (now := await self.resources()) != before:  # noqa: ASYNC110 - of another process
                await trio.sleep(0.1)
            return
        self.problems.append(f"{self.now():8.3f} before: {before}, and now: {now}")

    async def check_stops(self, node: Node) -> None:
        """Stops `node`, unless it was killed. It must exit with 0 and have logged no error."""
        if not node.killed:
            code = await node.stop_gracefully()
            if code != 0:
                self.problems.append(f"{node.name} exited with {code}")
        self.problems += [f"{node.name} logged: {line}" for line in node.errors]


@asynccontextmanager
async def run_scenario(
    open_redis: Callable[[], Store] = open_store,
    *,
    worker_options: dict[str, dict[str, Any]] | None = None,
) -> AsyncIterator[Scenario]:
    """Runs a scenario. `worker_options` has options for workers (see `Worker`), by job.

    Fails with all problems that were recorded.
    """
    if sys.platform != "linux":
        pytest.skip("only Linux has a /proc in which descriptors can be counted")
    first = time.time() - 1
    with ExitStack() as stack:
        redis = await trio.to_thread.run_sync(open_redis)
        stack.callback(redis.close)
        nodes = [stack.enter_context(Node(f"node {name}", redis.url)) for name in "AB"]
        for node in nodes:
            await node.serving()
            await trio.to_thread.run_sync(_call, node.url)
        async with trio.open_nursery() as nursery:
            scenario = Scenario(redis, nodes, nursery, stack)
            before = await scenario.stable_resources()
            try:
                await scenario.begin(worker_options or {})
                yield scenario
                await scenario.end_all()
            except Exception as error:
                for problem in scenario.problems:
                    error.add_note(problem)
                raise
            nursery.cancel_scope.cancel()

        scenario.check_rules([watcher.client_log for watcher in scenario.watchers], first=first)
        await scenario.check_released(before)
        for node in nodes:
            await scenario.check_stops(node)
        if not redis.living:
            scenario.problems.append("redis-server has ended")
    assert not scenario.problems, "\n".join(["what does not hold:", *scenario.problems[:60]])


def _done(watcher: Watcher, job: str) -> float:
    """Returns the last step of `job` that the client has received."""
    done: float = (watcher.states.get(job) or {}).get("done", 0)
    return done


def _addresses(nodes: Sequence[Node]) -> list[tuple[str, int]]:
    return [(node.name, node.port) for node in nodes]


def _readiness(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:  # noqa: S310 - ours
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _call(url: str) -> None:
    """Makes the node call Redis, so that it has opened the connection that it keeps for calls."""
    with urllib.request.urlopen(f"{url}/api/jobs", timeout=10) as answer:  # noqa: S310 - ours
        answer.read()
