"""A story: what is at work, what goes wrong, and what must hold in the end.

    async with story() as it:
        async with it.fault():
            it.redis.kill()
            it.end("meanwhile")
            await it.redis.start()

Before the block there are two nodes on one Redis, a worker for each job, and clients which
watch them all; every client has seen every job at work, and the end of the job `early`.
After it what still runs is told to end, and then all must hold that `rules` and issue
list: every client has every end within 30 s, every process is as it was before anybody
came, and no rule was broken. What does not hold is collected, so that a failure shows all.
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
from .accounts import Account, Json, matches
from .processes import Node, Worker
from .stores import Store, open_store
from .watchers import Bell, Watcher

__all__ = ["Story", "story"]

CLIENTS = 24
ENDS_WITHIN = 30.0
"""Seconds from the end of the fault until every client has every end."""
STEP_WITHIN = 20.0
"""Seconds for anything that a story waits for in between; it takes a tenth."""
RESTS_WITHIN = 15.0
"""Seconds until the nodes are at rest when everybody has gone: a call to a Redis that hung
ends within five, an idle keep-alive connection of a worker at once."""
JOBS = ("early", "meanwhile", "late:1", "late:2")


CALLERS = 16
"""Connections that a node may keep for its calls to Redis: a pool that grows when many
call at once, and is kept."""


@frozen
class Rest:
    """What the nodes hold when nobody is there."""

    tasks: tuple[int, ...]
    """Of each."""
    followers: int
    """Connections to Redis that read the feed."""
    descriptors: int
    """Of all, but for the connections to Redis that Redis knows of."""


@define(eq=False)
class Story:
    """One, while it is going on."""

    redis: Store
    nodes: list[Node]
    _nursery: trio.Nursery
    _stack: ExitStack
    workers: dict[str, Worker] = field(factory=dict)
    """By name, which is the job but for a job of several."""
    watchers: list[Watcher] = field(factory=list)
    bell: Bell = field(factory=Bell)
    problems: list[str] = field(factory=list)
    """What does not hold."""
    ends: dict[str, Json] = field(factory=dict)
    """How each job has ended, as its worker says."""
    over_at: float = 0.0
    """When the fault was over."""
    _began_at: float = field(factory=trio.current_time)

    def now(self) -> float:
        """Seconds since it began."""
        return trio.current_time() - self._began_at

    # What may be done.

    @asynccontextmanager
    async def fault(self) -> AsyncIterator[None]:
        """What is in it is the fault; the time for the ends runs from its end."""
        yield
        self.over_at = self.now()

    def end(self, name: str, how: str = "succeed") -> None:
        """Tell a worker to end its job. Does not wait: nobody may be there to hear."""
        self.workers[name].end(how)

    def hire(self, name: str, job: str, **casting: Any) -> None:
        """One more worker. `casting` are its options."""
        worker = Worker(job, url=self.redis.url, **casting)
        self.workers[name] = self._stack.enter_context(worker)

    def join(self, clients: int = 2) -> None:
        """More clients: node, mode and temper in all combinations."""
        for _ in range(clients):
            number = len(self.watchers)
            homes = tuple(self.nodes[(number + turn) % len(self.nodes)] for turn in range(2))
            watcher = Watcher(
                f"client {number}",
                mode="every" if number // 2 % 2 else "latest",
                jobs=sorted({worker.job for worker in self.workers.values()}),
                nodes=partial(_addresses, homes),
                clock=self.now,
                bell=self.bell,
                alert=bool(number // 4 % 2),
            )
            self.watchers.append(watcher)
            self._nursery.start_soon(watcher.run)

    def expect(self, holds: bool, what: str) -> None:
        """That it does not hold is a problem."""
        if not holds:
            self.problems.append(f"{self.now():8.3f} does not hold: {what}")

    # What may be waited for.

    async def has_ended(self, *names: str, watchers: Sequence[Watcher] = ()) -> None:
        """Every client, or each of these, has the end that these workers have reported.

        They are told to end, if they were not before.
        """
        for name in names:
            worker = self.workers[name]
            worker.end()
            if worker.killed:
                self.ends[worker.job] = {"status": "running", "health": "lost"}
                continue
            told = await worker.report(within=2 * ENDS_WITHIN)
            self.expect(told["slowest"] < 1, f"no update() of {name} took long: {told}")
            if not told["superseded"]:
                self.expect(told["delivered"], f"the end of {name} was delivered: {worker.log}")
                self.ends[worker.job] = {key: told[key] for key in ("status", "done", "attempt")}
        jobs = {self.workers[name].job for name in names} & set(self.ends)
        watching = list(watchers or self.watchers)
        await self.until(
            f"every client has the end of {', '.join(jobs)}",
            lambda: all(
                matches(watcher.states.get(job), self.ends[job])
                for watcher in watching
                for job in jobs
            ),
            within=ENDS_WITHIN,
        )

    async def goes_on(
        self, watchers: Sequence[Watcher] = (), *, job: str = "late:1", steps: int = 1
    ) -> None:
        """Every client, or each of these, sees `job` some steps beyond what anybody sees now."""
        watching = list(watchers or self.watchers)
        target = max(_done(watcher, job) for watcher in self.watchers) + steps
        await self.until(
            f"clients see {job} at step {target}",
            lambda: all(_done(watcher, job) >= target for watcher in watching),
        )

    async def moved(self, watchers: Sequence[Watcher], node: Node) -> None:
        """These clients are at `node` now."""
        await self.until(
            f"they have come to {node.name}",
            lambda: all(watcher.node == node.name for watcher in watchers),
        )

    async def stale(self, *, told: bool = True) -> None:
        """Every client was told that what it sees is stale (or that it is not any more)."""
        await self.until(
            f"every client was told that it is {'stale' if told else 'fresh'}",
            lambda: all(watcher.stale == told for watcher in self.watchers),
        )

    async def ready(self, status: int) -> None:
        """`/readyz` of every node answers `status`."""

        async def becomes(node: Node) -> None:
            # A probe has nothing but asking again.
            while await trio.to_thread.run_sync(_readiness, node.url) != status:  # noqa: ASYNC110
                await trio.sleep(0.1)

        with trio.move_on_after(STEP_WITHIN) as patience:
            for node in self.nodes:
                await becomes(node)
        if patience.cancelled_caught:
            self.problems.append(f"/readyz did not become {status} within {STEP_WITHIN:g} s")

    async def until(
        self, what: str, holds: Callable[[], bool], *, within: float = STEP_WITHIN
    ) -> None:
        """Wait until it holds; that it does not in time is a problem."""
        with trio.move_on_after(within) as patience:
            await self.bell.until(holds)
        if patience.cancelled_caught:
            self.problems.append(f"{self.now():8.3f} not within {within:.0f} s: {what}")

    def watching(self, node: Node, *, alert: bool | None = None) -> list[Watcher]:
        """The clients that began at `node`, or the alert or patient ones of them."""
        return [
            watcher
            for watcher in self.watchers
            if watcher.nodes()[0][0] == node.name and alert in (None, watcher.alert)
        ]

    # How it is told.

    async def begin(self, casting: dict[str, dict[str, Any]]) -> None:
        """Workers and clients come, and all is well."""
        for job in JOBS:
            self.hire(job, job, **casting.get(job, {}))
        self.join(CLIENTS)
        await self.until(
            "every client sees every job at work",
            lambda: all(_done(watcher, job) > 0 for watcher in self.watchers for job in JOBS),
        )
        await self.has_ended("early")

    async def conclude(self) -> None:
        """Everything ends, and every client knows."""
        for worker in self.workers.values():
            worker.end()
        await self.has_ended(*self.workers)
        await self.stale(told=False)

    def judge(self, accounts: Sequence[Account], *, first: float) -> None:
        """Hold the accounts against the rules."""
        touched = {node.name for node in self.nodes if node.touched}
        broken = list(rules.disagreements(accounts))
        for account in accounts:
            broken += rules.violations(account)
            broken += rules.foreign_times(account, first=first, last=time.time() + 1)
            broken += rules.disturbances(account, touched=touched)
            broken += rules.missing_ends(account, self.ends, deadline=self.over_at + ENDS_WITHIN)
            broken += rules.left_stale(account)
        self.problems += rules.summary(broken)

    async def at_rest(self) -> Rest:
        """What the nodes that live hold now."""
        living = [node for node in self.nodes if not node.killed]
        connections = await self.redis.connections()
        callers = connections.count("")
        if callers > CALLERS * len(living):
            self.problems.append(f"{callers} connections for calls")
        return Rest(
            tasks=tuple([await node.tasks() for node in living]),
            followers=len(connections) - callers,
            descriptors=sum(node.descriptors for node in living) - len(connections),
        )

    async def settled(self) -> Rest:
        """What they hold now that they have begun: what two looks in a row agree on."""
        before, now = None, await self.at_rest()
        while now != before:
            await trio.sleep(0.2)
            before, now = now, await self.at_rest()
        return now

    async def comes_to_rest(self, before: Rest) -> None:
        """Every node that lives is as it was before anybody came."""
        killed = sum(node.killed for node in self.nodes)
        if killed:
            share = len(self.nodes) - killed, len(self.nodes)
            before = Rest(
                before.tasks[: share[0]],
                followers=before.followers * share[0] // share[1],
                descriptors=before.descriptors * share[0] // share[1],
            )
        now = None
        with trio.move_on_after(RESTS_WITHIN):
            # Nobody tells when a process is at rest.
            while (now := await self.at_rest()) != before:  # noqa: ASYNC110
                await trio.sleep(0.1)
            return
        self.problems.append(f"{self.now():8.3f} before: {before}, and now: {now}")

    async def leave(self, node: Node) -> None:
        """It lives, has logged no error, and leaves when it is told to."""
        if not node.killed:
            code = await node.leave()
            if code != 0:
                self.problems.append(f"{node.name} exited with {code}")
        self.problems += [f"{node.name} logged: {line}" for line in node.errors]


@asynccontextmanager
async def story(
    open_redis: Callable[[], Store] = open_store, *, cast: dict[str, dict[str, Any]] | None = None
) -> AsyncIterator[Story]:
    """Tell one. `cast` has options of the workers (see `Worker`), by job.

    Fails with all that does not hold.
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
            it = Story(redis, nodes, nursery, stack)
            before = await it.settled()
            try:
                await it.begin(cast or {})
                yield it
                await it.conclude()
            except Exception as error:
                for problem in it.problems:
                    error.add_note(problem)
                raise
            nursery.cancel_scope.cancel()

        it.judge([watcher.account for watcher in it.watchers], first=first)
        await it.comes_to_rest(before)
        for node in nodes:
            await it.leave(node)
        if not redis.living:
            it.problems.append("redis-server has ended")
    assert not it.problems, "\n".join(["what does not hold:", *it.problems[:60]])


def _done(watcher: Watcher, job: str) -> float:
    """The step at which a client saw `job` last."""
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
    """Have the node call Redis, so that it has the connection that it keeps for this."""
    with urllib.request.urlopen(f"{url}/api/jobs", timeout=10) as answer:  # noqa: S310 - ours
        answer.read()
