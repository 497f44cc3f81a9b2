"""Runs a scenario: nodes, a Redis, workers and clients on one virtual clock, and its faults."""

from __future__ import annotations

import gc
import json
import logging
import random
import sys
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from hashlib import sha256
from math import inf
from random import Random
from typing import Any
from unittest.mock import patch

import trio
import trio.testing
from attrs import define, field, frozen
from trio._core import _run

from gateway.auth.factory import open_authenticator
from gateway.brokers.base import Broker
from gateway.brokers.redis.broker import RedisBroker
from gateway.http.api import create_http_app
from gateway.model.errors import BrokerUnavailable
from gateway.model.limits import Limits
from gateway.node.node import Node
from gateway.worker import job as worker_job
from gateway.worker import publisher, sender

from . import workers
from .checks import Checks, Violated
from .clients import PACE, Line, Watcher, request
from .group_workers import another_attempt, staff
from .groups import FollowedMemoryBroker, Ledger, Row, command_of, plan
from .held_requests import Held, HeldRequests
from .redis import Redis, Refused, Store
from .requests import Asker
from .rights import SECRET, token
from .scenario import OF_REDIS, Fault, Scenario
from .sets import SetWatcher
from .sockets import Link, Server, Servers
from .threads import EPOCH, Party, current_party, now, simulated
from .workers import PlainReporter, Worker

__all__ = ["Outcome", "run"]

RECOVERED_AFTER = 25.0
"""Seconds after a fault from which on everybody is kept up to date: with `AT_ONCE` 30 s
(invariant 4)."""
LIGHT: dict[str, float] = dict.fromkeys(
    ("trim", "garbage", "reset", "stall", "hang_up", "worker_kill", "worker_pause", "zombie",
     "node_kill"),
    1.0,
)  # fmt: skip
"""Faults after which it takes less: what was lost is noticed at once."""
OF_NODES = OF_REDIS | {"link", "reset", "node_kill", "node_drain", "clock"}
"""Faults that can keep a node from restoring what it has shown."""
RESTORED_WITHIN = 12.0
"""Seconds after nodes were apart within which all have restored what they have shown."""
SLOW = 0.3
"""Seconds that each way of a slow node's link takes."""
SAMPLED = 0.25
"""Seconds from one look at that to the next."""
END_AWAITED = 10.0
"""Seconds that a fault waits for the next end of a job, or for a request."""
READ_AGAIN = 10.0
"""Seconds within which each client that reads now and then has read every job again."""
AT_ONCE = 5.0
"""The same where there was no fault: whoever asks now and then has asked."""
WORKERS_WITHIN = 150.0
"""Virtual seconds after which a worker that is still there hangs."""
COLLECTED_EVERY = 20
"""Runs from one collection to the next. None is made within a run, so that no run depends on
when it would be."""
SETTLE = 8.0
"""Seconds after the last client is gone, and the topics' lingering, until nothing is left of
it: a list may wait 7 s."""


@frozen
class Outcome:
    """What came of a run."""

    scenario: Scenario
    trace: list[str]
    violation: str | None
    seconds: float
    """Virtual ones."""
    frames: int

    @property
    def digest(self) -> str:
        return sha256("\n".join(self.trace).encode()).hexdigest()


@define(eq=False)
class Host:
    """A node's process, which is started anew when it ends."""

    name: str
    world: World
    link: Link
    number: int = 0
    party: Party = field(init=False)
    node: Node = field(init=False)
    broker: Any = field(init=False)
    http: Any = field(init=False)
    alive: bool = False
    draining: bool = False
    down_until: float = 0.0
    since: float = 0.0
    """When it began to serve."""
    draining_for: float | None = None

    def __attrs_post_init__(self) -> None:
        self.party = Party(self.name, self.world.seed)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.number += 1
            skew = self.party.skew
            self.party = Party(f"{self.name}.{self.number}", self.world.seed)
            self.party.skew = skew
            self.world.links[self.party.name] = self.link
            await self.party.live(self._main)
            self.alive = self.draining = False
            self.link.reset()  # the connections of a process end with it
            self.world.note(f"{self.name} is gone")
            await trio.sleep_until(max(self.down_until, trio.current_time() + 0.5))

    async def _main(self) -> None:
        scenario = self.world.scenario
        limits = Limits(history=scenario.history, linger=scenario.linger)
        broker: Broker
        if self.world.scenario.broker == "redis":
            broker = make_redis_broker(self, limits)
        else:
            broker = FollowedMemoryBroker(limits, clock=now, monotonic=trio.current_time)
            broker.ledger, broker.held = self.world.ledger, self.world.held
        self.broker = broker
        authenticator = open_authenticator(
            secret=SECRET if scenario.rights else None, limits=limits
        )
        self.node = Node(
            broker,
            limits=limits,
            authenticator=authenticator,
            name=self.party.name,
            random=self.party.chance,
        )
        self.http = create_http_app(self.node)
        started = False
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.node.run)
                started = self.alive = True
                self.since = trio.current_time()
                self.world.note(f"{self.name} serves")
                while self.draining_for is None:
                    await self._wake.wait()
                self.draining = True
                await self.node.drain()
                self.draining_for = None
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            rest = group.split(trio.Cancelled)[1]
            if rest is not None and not started and rest.split(BrokerUnavailable)[1] is None:
                self.world.note(f"{self.name} cannot start: {next(_leaves(rest))}")
                return
            raise
        except BrokerUnavailable as error:
            self.world.note(f"{self.name} cannot start: {error}")

    _wake: trio.Event = field(factory=trio.Event)

    def drain(self) -> None:
        if self.alive and not self.draining:
            self.draining_for = 1.0
            self._wake.set()
            self._wake = trio.Event()

    def serve(self, line: Line, app: Callable[..., Awaitable[None]], scope: Any) -> None:
        """Run an ASGI application for a conversation, as a server would."""
        if not self.alive or self.party.nursery is None or self.party.dead:
            line.host_is_gone()
            return

        async def conversation() -> None:
            try:
                await app(scope, line.receive, line.send)
            finally:
                line.host_is_gone()

        self.party.start_soon(conversation)


def make_redis_broker(host: Host, limits: Limits) -> RedisBroker:
    """As a node makes it."""
    return RedisBroker("redis://simulated/0", limits, random=host.party.chance)


class World:
    """A run."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.seed = f"seed/{scenario.seed}"
        self.trace: list[str] = []
        self.checks = Checks()
        self.token = token() if scenario.rights else None
        """Of everybody whose rights are not what is tried."""
        self.redis_skew = 0.0
        self.links: dict[str, Link] = {}
        self.restarts = 0
        self.recovered_at = 0.0
        """From when on everybody is kept up to date, if no other fault comes."""
        self.apart_until = 0.0
        """Until when one node knows less than the others, and these are needed."""
        self.striking = 0
        """Faults that have begun and are not over."""
        self.ended = trio.Event()
        """A job has ended; each has one of its own."""
        self.asked = trio.Event()
        """The same of a job that was asked something."""
        self.positions: deque[dict[str, tuple[int, int]]] = deque(maxlen=round(PACE / SAMPLED))
        """Where jobs stood in the broker, in the last seconds."""
        self.quiet_since = 0.0
        """When the last fault began or ended."""
        self.single_jobs = [f"job:{number}" for number in range(scenario.jobs)]
        self.groups = [
            plan(f"batch:{number}", kind, self.randomness(f"group/{number}"))
            for number, kind in enumerate(scenario.groups)
        ]
        self.ledger = Ledger(
            [each for group in self.groups for each in group.all], self.checks.lost
        )
        self.jobs = list(dict.fromkeys((*self.single_jobs, *self.ledger.jobs)))
        # A group as often as all of its children.
        self.jobs_to_ask = self.jobs + [group.name for group in self.groups] * (
            len(self.jobs) - len(self.single_jobs)
        )
        self.hosts: list[Host] = []
        self.watchers: list[Watcher] = []
        self.workers: list[Worker] = []
        self.nursery: trio.Nursery
        self.working = 0
        self.injecting = 0
        self.lossy = any(fault.kind in ("rollback", "failover") for fault in scenario.faults)
        self.checks.fenced = not self.lossy
        self.held = HeldRequests(
            self.jobs, self.checks.lost, fenced=not self.lossy, stored=self._was_asked
        )
        self.settling = False
        """Clients change their minds no more."""
        self._pasts: dict[int, Store] = {}
        """What the server held when a fault's past began."""

    def randomness(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")

    def note(self, text: str) -> None:
        self.trace.append(f"{trio.current_time():10.4f} {text}")

    # -- who takes part ----------------------------------------------------------

    async def main(self) -> None:
        self.server = self._start_server(None)
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            nursery.start_soon(self._end_all)
            nursery.start_soon(self._keep_pace)
            for number in range(self.scenario.nodes):
                name = f"node{number}"
                host = Host(name, self, self.link(name))
                self.hosts.append(host)
                nursery.start_soon(host.run)
            for number, kind in enumerate(self.scenario.watchers):
                self._watch(f"client{number}", kind)
            for number, kind in enumerate(self.scenario.workers):
                self.work(f"worker{number}", kind)
            for group in self.groups:
                for reporter in staff(self, group):
                    self._start(reporter)
            for number in range(self.scenario.askers):
                name = f"asker{number}"
                nursery.start_soon(Asker(name, self, self.randomness(name)).run)
            for index, fault in enumerate(self.scenario.faults):
                self.injecting += 1
                nursery.start_soon(self._inject, index, fault)
            await self._rest()
            nursery.cancel_scope.cancel()

    async def _end_all(self) -> None:
        """With the run every process ends, whatever its threads wait for."""
        try:
            await trio.sleep_forever()
        finally:
            for party in [host.party for host in self.hosts] + [w.party for w in self.workers]:
                party.kill()

    def link(self, name: str) -> Link:
        link = self.links[name] = Link(lambda: self.server, self.randomness(f"link/{name}"))
        return link

    def _watch(self, name: str, kind: str) -> None:
        chance = self.randomness(name)
        jobs = chance.sample(self.jobs, k=chance.randint(1, len(self.jobs)))
        if kind == "poll":
            jobs = jobs[:1]  # it may wait for 20 s for each
        mode = chance.choice(["latest", "latest", "every"])
        make = SetWatcher if kind.startswith("set") else Watcher
        watcher = make(name, kind, jobs, self, chance, mode)
        self.watchers.append(watcher)
        self.nursery.start_soon(watcher.run)

    def work(self, name: str, kind: str) -> None:
        chance = self.randomness(name)
        link = self.link(name)
        if kind in ("fcall", "curl"):
            job = f"job:{chance.randrange(self.scenario.jobs)}"
            caller = PlainReporter(name, kind, job, self, chance, link)
            self._start(caller)
            return
        jobs = chance.choices(self.single_jobs, k=chance.randint(1, 2))
        self._start(Worker(name, kind, jobs, self, chance, link))

    def _start(self, reporter: Worker | PlainReporter) -> None:
        if isinstance(reporter, Worker):
            self.workers.append(reporter)
        self.nursery.start_soon(self._until_done, reporter.run)

    async def _until_done(self, run: Callable[[], Awaitable[None]]) -> None:
        self.working += 1
        await run()
        self.working -= 1

    def some_host(self, chance: Random) -> Host | None:
        """One that a load balancer would choose."""
        hosts = [host for host in self.hosts if host.alive and not host.draining]
        return chance.choice(hosts) if hosts else None

    def _start_server(self, store: Store | None) -> Server:
        self.restarts += 1
        run_id = sha256(f"{self.seed}/{self.restarts}".encode()).hexdigest()[:40]

        def clock() -> float:
            return EPOCH + trio.current_time() + self.redis_skew

        redis = Redis(clock, run_id=run_id, store=store)
        if self.groups:
            self.ledger.has_lost_writes(partial(_row, redis))
        redis.written = partial(self._written, redis)
        return Server(redis, ended=self._has_ended)

    def _written(self, redis: Redis, words: list[bytes]) -> None:
        if redis is not self.server.redis:
            return
        command = command_of(words)
        if self.groups:
            self.ledger.look(partial(_row, redis), command)
        if command.runs_script:
            self.held.look(partial(_held, redis), publishes=command.job is not None)

    def _has_ended(self) -> None:
        self.ended.set()
        self.ended = trio.Event()

    def _was_asked(self) -> None:
        self.asked.set()
        self.asked = trio.Event()

    # -- up to date ----------------------------------------------------------------

    async def _keep_pace(self) -> None:
        """While nothing goes wrong, every stream has what was written `PACE` seconds ago."""
        while True:
            await trio.sleep(SAMPLED)
            self._check_commands()
            at = trio.current_time() - PACE
            known = len(self.positions) == self.positions.maxlen
            if known and at > self.recovered_at and not self.striking:
                self._check_pace(self.positions[0], at)
            self.positions.append(self._positions())

    def _check_commands(self) -> None:
        wrong = self.ledger.violation or self.held.violation
        if wrong is not None:
            raise Violated(wrong)

    def _positions(self) -> dict[str, tuple[int, int]]:
        """Those of the present generation."""
        found: dict[str, tuple[int, int]] = {}
        values = self.server.redis.store.values
        generation = int(values.get(b"progress:counters", {}).get(b"generation", 0))
        for job in self.jobs:
            record = values.get(f"progress:last:{job}".encode())
            if record and int(record[b"epoch"]) >= generation and not self.server.dead:
                found[job] = int(record[b"epoch"]), int(record[b"seq"])
        return found

    def _check_pace(self, positions: dict[str, tuple[int, int]], at: float) -> None:
        steady = {
            job: self.server.redis.store.values[f"progress:last:{job}".encode()][b"status"].decode()
            for job, position in self._positions().items()
            if position == positions.get(job) and job not in self.checks.lost
        }
        for watcher in self.watchers:
            if watcher.follows_since is None or watcher.follows_since > at:
                continue
            if isinstance(watcher, SetWatcher):
                watcher.check_pace(steady)
            for job in watcher.followed:
                shown, _ = watcher.observer.last.get(job, ((0, 0), None))
                if job not in self.checks.lost and shown < positions.get(job, shown):
                    raise Violated(
                        f"the end: {watcher.name} has {job} at {shown}, and it stood at "
                        f"{positions[job]} {PACE:g} s ago"
                    )

    # -- what goes wrong -----------------------------------------------------------

    async def _inject(self, index: int, fault: Fault) -> None:
        before = fault.mode in ("apart", "slow") and fault.kind != "link"
        if before or fault.kind in ("rollback", "failover"):
            await trio.sleep_until(max(0.0, fault.at - min(fault.seconds, 3.0)))
        if fault.kind in ("rollback", "failover"):
            self._pasts[index] = self.server.redis.store.copy()
        if before:
            self.striking += 1
            host = self.hosts[fault.who % len(self.hosts)]
            if fault.mode == "slow":
                host.link.delay = SLOW
            else:
                if self.striking > 1 or not all(other.alive for other in self.hosts):
                    self._nobody_remembers()
                self.apart_until = inf
                self._cut_off([host])
        await trio.sleep_until(fault.at)
        if fault.after_end or fault.after_request:
            with trio.move_on_after(END_AWAITED):
                await (self.ended if fault.after_end else self.asked).wait()
                await trio.sleep(self.randomness(f"after end/{index}").choice([0, 0.005, 0.3]))
        self.striking += 1
        another = fault.kind in OF_NODES and (fault.mode != "apart" or self.striking > 2)
        if another and trio.current_time() < self.apart_until:
            self._nobody_remembers()
        self.quiet_since = trio.current_time()
        self.note(f"FAULT {fault.kind} {fault.mode} {fault.seconds:g} s, {fault.who}")
        act: Callable[[int, Fault], Awaitable[None]] = getattr(
            self, "_on_link" if fault.kind == "link" else f"_{fault.kind}"
        )
        await act(index, fault)
        self.note(f"over: {fault.kind}")
        self.injecting -= 1
        self.striking -= 1 + before
        if fault.mode == "apart":
            self.apart_until = trio.current_time() + RESTORED_WITHIN
        self.quiet_since = trio.current_time()
        recovered_at = self.quiet_since + LIGHT.get(fault.kind, RECOVERED_AFTER)
        self.recovered_at = max(self.recovered_at, recovered_at)

    def _nobody_remembers(self) -> None:
        """Nodes are apart, and those that have shown the most may go: that is not promised."""
        self.checks.lost.update(self.jobs)

    def _who_remembers(self) -> None:
        """The server has lost something that only nodes know."""
        if not any(host.alive for host in self.hosts):
            self._nobody_remembers()

    def _cut_off(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            host.link.away = True
            host.link.reset()

    async def _come_back(self, index: int, fault: Fault) -> None:
        """The server has lost something. If the nodes were apart, one that was cut off comes
        first, and those that have shown more come later."""
        if fault.mode != "apart":
            return
        first = self.hosts[fault.who % len(self.hosts)]
        others = [host for host in self.hosts if host is not first]
        counters = self.server.redis.store.values.get(b"progress:counters", {})
        if sum(name.startswith(b"node:") for name in counters) >= len(self.hosts):
            self._cut_off(others)  # they are waited for, because the server knows of them
        first.link.away = False
        await trio.sleep(self.randomness(f"apart/{index}").uniform(0.0, 3.0))
        for host in others:
            host.link.away = False

    def _past(self, index: int) -> Store:
        return self._pasts.pop(index)

    async def _restart(self, index: int, fault: Fault) -> None:
        old = self.server
        old.kill()
        await trio.sleep(fault.seconds)
        if self.server is old:
            self.server = self._start_server(old.redis.store)

    async def _rollback(self, index: int, fault: Fault) -> None:
        old = self.server
        old.kill()
        await trio.sleep(0.05)
        if self.server is old:
            self.server = self._start_server(self._past(index))
            self._who_remembers()
        await self._come_back(index, fault)

    async def _failover(self, index: int, fault: Fault) -> None:
        old = self.server
        self.hosts[fault.who % len(self.hosts)].link.away = False
        if old.dead:
            return
        self.server = self._start_server(self._past(index))
        self._who_remembers()
        if fault.mode == "apart":
            for sock in list(old.sockets):  # some connections are lost, and others go on
                if self.randomness(f"apart/{index}").random() < 0.5:
                    sock.reset()
        # For a while the old one is writable for who is connected.
        until = trio.current_time() + fault.seconds
        while trio.current_time() < until:
            if self._is_split(old):
                # Two primaries that nodes serve from: nobody can know what the other has shown.
                self.checks.lost.update(self.jobs)
            await trio.sleep(min(0.05, until - trio.current_time()))
        old.redis.role = "slave"
        old.drop()
        old.kill()

    def _is_split(self, old: Server) -> bool:
        links = [host.link for host in self.hosts]
        served = [{id(sock.server) for sock in link.sockets} for link in links]
        others = [servers for servers in served if servers and id(old) not in servers]
        return any(id(old) in servers for servers in served) and bool(others)

    async def _flush(self, index: int, fault: Fault) -> None:
        self.checks.lost.update(self.jobs)
        self.server.redis.store = Store()

    async def _evict(self, index: int, fault: Fault) -> None:
        self.checks.lost.update(self.jobs)
        chance = self.randomness(f"evict/{index}")
        store = self.server.redis.store
        keys = sorted(store.values)
        for key in chance.sample(keys, k=min(len(keys), chance.randint(1, 3))):
            self.note(f"evicted: {key!r}")
            store.values.pop(key)
            store.expires.pop(key, None)

    async def _trim(self, index: int, fault: Fault) -> None:
        if fault.mode == "deleted":
            self.redis_skew -= fault.seconds
        for _ in range(3):
            with suppress(Refused):  # in a failover, by the old primary
                if fault.mode == "deleted":
                    self.server.redis.execute("DEL", "progress:feed")
                else:
                    self.server.redis.execute("XTRIM", "progress:feed", "MAXLEN", "=", "0")
            await trio.sleep(fault.seconds / 10)
        self.hosts[fault.who % len(self.hosts)].link.delay = 0.0

    async def _refuse_writes(self, index: int, fault: Fault) -> None:
        redis = self.server.redis
        redis.refusal = self.randomness(f"refuse/{index}").choice(
            [
                "MISCONF Redis is configured to save RDB snapshots, but it cannot",
                "OOM command not allowed when used memory > 'maxmemory'.",
            ]
        )
        await trio.sleep(fault.seconds)
        redis.refusal = None

    async def _garbage(self, index: int, fault: Fault) -> None:
        redis = self.server.redis
        with suppress(Refused):
            redis.execute("XADD", "progress:feed", "*", "event", "nonsense")
            redis.execute("XADD", "progress:feed", "*", "other", "[1,2]")
            redis.execute("SET", "progress:last:foreign", "a text")
            redis.execute("HSET", "progress:last:halved", "status", "running", "epoch", "x")
            for job in ("foreign", "halved"):
                redis.execute("ZADD", "progress:recent", "1", job)

    async def _on_link(self, index: int, fault: Fault) -> None:
        link = self._some_link(fault)
        link.mode, link.odds = fault.mode, fault.odds  # type: ignore[assignment]
        if fault.mode in ("refuse", "cut"):
            link.reset()
        await trio.sleep(fault.seconds)
        if link.mode == fault.mode:
            self._check_stale(link, fault)
        link.mode, link.odds = "ok", 1.0

    def _check_stale(self, link: Link, fault: Fault) -> None:
        """Who was cut off for so long that it must have noticed says so."""
        if self.scenario.broker == "memory" or fault.odds < 1:
            return
        if fault.seconds < {"refuse": 4.0, "hang": 13.0}.get(fault.mode, 1e9):
            return
        for host in self.hosts:
            if host.link is link and host.alive and host.since < fault.at:
                if host.node.stale is None:
                    raise Violated(f"fresh: {host.name} is cut off and does not say so")
                for watcher in self.watchers:
                    welcomed = watcher.since < trio.current_time() - 2
                    if watcher.kind not in ("websocket", "sse") or watcher.stalled_until:
                        continue
                    if watcher.line and watcher.host is host and welcomed and not watcher.stale:
                        raise Violated(f"fresh: {watcher.name} is not told that it is stale")

    async def _reset(self, index: int, fault: Fault) -> None:
        self._some_link(fault).reset(fault.odds)

    def _some_link(self, fault: Fault) -> Link:
        links = [host.link for host in self.hosts] * 2
        links += [worker.link for worker in self.workers]
        return links[fault.who % len(links)]

    async def _node_kill(self, index: int, fault: Fault) -> None:
        host = self.hosts[fault.who % len(self.hosts)]
        if self.scenario.broker == "memory":
            self.checks.lost.update(self.jobs)
        host.down_until = trio.current_time() + fault.seconds
        host.party.kill()
        await trio.sleep(fault.seconds)

    async def _node_drain(self, index: int, fault: Fault) -> None:
        host = self.hosts[fault.who % len(self.hosts)]
        if self.scenario.broker == "memory":
            self.checks.lost.update(self.jobs)
        host.down_until = trio.current_time() + fault.seconds
        host.drain()
        await trio.sleep(fault.seconds + 11)

    async def _worker_kill(self, index: int, fault: Fault) -> None:
        if self.workers:
            self.workers[fault.who % len(self.workers)].party.kill()

    async def _worker_pause(self, index: int, fault: Fault) -> None:
        if self.workers:
            party = self.workers[fault.who % len(self.workers)].party
            party.paused_until = trio.current_time() + fault.seconds
            await trio.sleep(fault.seconds)

    async def _zombie(self, index: int, fault: Fault) -> None:
        if self.groups and fault.who % 2:
            self._start(another_attempt(self, self.groups[0], f"zombie{index}"))
            return
        kinds = [kind for kind in self.scenario.workers if kind in ("http", "redis")] or ["http"]
        self.work(f"zombie{index}", kinds[fault.who % len(kinds)])

    async def _stall(self, index: int, fault: Fault) -> None:
        watcher = self.watchers[fault.who % len(self.watchers)]
        watcher.stalled_until = trio.current_time() + fault.seconds * 3
        await trio.sleep(fault.seconds * 3)

    async def _hang_up(self, index: int, fault: Fault) -> None:
        self.watchers[fault.who % len(self.watchers)].hang_up()

    async def _clock(self, index: int, fault: Fault) -> None:
        who = fault.who % (len(self.hosts) + len(self.workers) + 1)
        if who == 0:
            self.redis_skew += fault.seconds
        elif who <= len(self.hosts):
            self.hosts[who - 1].party.skew += fault.seconds
        else:
            self.workers[who - 1 - len(self.hosts)].party.skew += fault.seconds

    # -- at rest -------------------------------------------------------------------

    async def _rest(self) -> None:
        await trio.sleep(0.001)
        with trio.move_on_after(WORKERS_WITHIN) as deadline:
            while self.working or self.injecting:  # noqa: ASYNC110 - on a virtual clock
                await trio.sleep(0.25)
        if deadline.cancelled_caught:
            raise Violated("no hang: a worker has not ended")
        self.note("all faults are over, all workers have ended")
        self.settling = True
        for watcher in self.watchers:
            watcher.unhold()
        await trio.sleep_until(max(self.recovered_at, trio.current_time()) + AT_ONCE)
        self.note("at rest")
        try:
            await self._check_rest()
        except Violated:
            # A lease may have run out after the last read of a client that reads now and then.
            await trio.sleep(READ_AGAIN)
            await self._check_rest()
        for watcher in self.watchers:
            watcher.jobs = []
        self._hang_up_all()
        await trio.sleep(self.scenario.linger + SETTLE)
        for host in self.hosts:
            statistics = host.node.statistics()
            if statistics.connections or statistics.hub.topics or statistics.hub.subscriptions:
                raise Violated(f"baseline: {host.name} keeps {statistics}")

    def _hang_up_all(self) -> None:
        for watcher in self.watchers:
            if watcher.scope is not None:
                watcher.scope.cancel()

    async def _check_rest(self) -> None:
        for host in self.hosts:
            if not host.alive or host.node.not_ready is not None:
                reason = host.node.not_ready if host.alive else "not alive"
                raise Violated(f"fresh: {host.name} is {reason} long after the last fault")
        states: dict[str, Any] = {}
        listed: dict[str, Any] = {}
        for host in self.hosts:
            status, _, body = await request(host, "GET", "/api/jobs", query={"limit": "100"})
            if status != 200:
                raise Violated(f"fresh: a list of {host.name} answers {status} {body!r}")
            listed = {row["job"]: row["state"] for row in json.loads(body)["jobs"]}
            for job in self.jobs:
                status, _, body = await request(host, "GET", f"/api/jobs/{job}")
                state = json.loads(body)["state"] if status == 200 else None
                if status not in (200, 404):
                    raise Violated(f"fresh: GET {job} of {host.name} answers {status} {body!r}")
                if states.setdefault(job, state) != state:
                    raise Violated(f"the end: GET {job} says {states[job]}, and {state}")
        self._check_commands()
        wrong = self.ledger.at_rest(states)
        if wrong is not None:
            raise Violated(wrong)
        for watcher in self.watchers:
            if watcher.stale:
                raise Violated(f"fresh: {watcher.name} is told that it is stale, for no reason")
            if not watcher.connected:
                raise Violated(f"the end: {watcher.name} is not connected")
            if isinstance(watcher, SetWatcher):
                watcher.check_rest(listed)
            for job in watcher.jobs:
                shown, there = watcher.reference.shown.get(job), states.get(job)
                if job in self.checks.lost and (there is None or shown is None):
                    continue  # it was destroyed; its end, where it was shown, is still true
                if shown != there:
                    raise Violated(f"the end: {watcher.name} shows {job} as {shown}, not {there}")
        for job, state in states.items():
            if state and state["health"] == "ok" and is_overdue(state):
                raise Violated(f"the end: {job} runs at rest, and no worker lives: {state}")
        for worker in self.workers:
            for job, attempt, end in worker.ends:
                state = states.get(job)
                now_is = state and (state["attempt"], state["status"])
                if job in self.checks.lost or (state and state["attempt"] > attempt):
                    continue
                if self.lossy and not self.checks.was_shown(job, attempt, end):
                    continue  # Redis lost it before any node read it: not promised
                if now_is != (attempt, end):
                    raise Violated(
                        f"the end: {job} is {now_is}, and {worker.name} was told that "
                        f"{attempt, end} has arrived"
                    )
        self.note(f"states: {states}")


def is_overdue(state: dict[str, Any]) -> bool:
    """Whether its worker's lease has run out by the time of rest."""
    own_lease = state["status"] == "running" and "children" not in state
    return bool(own_lease and state["lease"] <= workers.LEASE)


def _row(redis: Redis, job: str) -> Row | None:
    """What a server holds of a job."""
    record = redis.store.values.get(f"progress:last:{job}".encode())
    return Row.of_hash(record) if record else None


def _held(redis: Redis, job: str) -> Held | None:
    record = redis.store.values.get(f"progress:last:{job}".encode())
    return Held.of_hash(record) if record else None


class _ToTrace(logging.Handler):
    """What the gateway's log says from warnings on is part of the trace."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.note(f"LOG {current_name()} {record.getMessage()}")


def current_name() -> str:
    try:
        return current_party().name
    except LookupError:
        return "?"


def _servers(address: Any, *, calls: int) -> Servers:
    """In place of `open_servers`."""
    name = current_party().name
    return Servers(WORLD[0].links[name], calls=calls)


WORLD: list[World] = []
"""The run that is under way, if any."""


@contextmanager
def _in_place() -> Iterator[None]:
    """The code under test, in this world."""
    with ExitStack() as stack:
        stack.enter_context(simulated("gateway."))
        for name, module in sorted(sys.modules.items()):
            if name.startswith("gateway.") and hasattr(module, "open_servers"):
                stack.enter_context(patch.object(module, "open_servers", _servers))
        stack.enter_context(patch.object(publisher, "connect", workers.connect))
        # A worker's thread runs no event loop, but is a part of the one of this process.
        stack.enter_context(patch.object(worker_job, "running_loop", lambda: None))
        yield


def run(scenario: Scenario) -> Outcome:
    """Run it to its end, or to the first violation."""
    world = World(scenario)
    WORLD[:] = [world]
    workers.WORKERS.clear()
    sender._senders.clear()
    # Trio shuffles the tasks of a pass, on purpose, so that nobody relies on their order. Its
    # source of chance has no public name; Hypothesis seeds the same one.
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    _run._r.seed(f"trio/{scenario.seed}")
    random.seed(f"global/{scenario.seed}")
    clock = trio.testing.MockClock(autojump_threshold=0)
    handler = _ToTrace(world)
    logger = logging.getLogger("gateway")
    worker_logger = logging.getLogger("progress")
    violation: str | None = None
    gc.disable()
    try:
        logger.addHandler(handler)
        worker_logger.addHandler(handler)
        logger.propagate = worker_logger.propagate = False
        with _in_place():
            trio.run(_with_deadline, world, clock=clock)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        violation = _explain(error)
    finally:
        logger.removeHandler(handler)
        worker_logger.removeHandler(handler)
        logger.propagate = worker_logger.propagate = True
        gc.enable()
        if scenario.seed % COLLECTED_EVERY == 0:
            gc.collect()
    return Outcome(
        scenario,
        world.trace,
        violation,
        seconds=clock.current_time(),
        frames=world.checks.frames,
    )


async def _with_deadline(world: World) -> None:
    with trio.fail_after(400):
        await world.main()


def _explain(error: BaseException) -> str:
    """The first violation in a group; anything else is one too: no task may die."""
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, Violated):
            return str(leaf)
    leaf = leaves[0]
    where = "".join(traceback.format_exception(leaf, limit=-6))
    return f"no task dies: {leaf!r}\n{where}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
