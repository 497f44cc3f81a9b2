"""The faults of a run: each fault of the scenario begins and ends at its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from .checks import Violated
from .group_workers import another_attempt
from .hosts import Host
from .redis import Refused, Store
from .scenario import OF_REDIS, Fault
from .sockets import Link, Server

if TYPE_CHECKING:
    from .world import World

__all__ = ["Faults"]

RECOVERED_AFTER = 25.0
"""Seconds after the end of a fault until all clients must be up to date: with `AT_ONCE` 30 s
(invariant 4)."""
LIGHT: dict[str, float] = dict.fromkeys(
    ("trim", "garbage", "reset", "stall", "hang_up", "worker_kill", "worker_pause", "zombie",
     "worker_exit", "node_kill"),
    1.0,
)  # fmt: skip
"""Faults after which the recovery takes less time, because the loss is detected immediately."""
OF_NODES = OF_REDIS | {"link", "reset", "node_kill", "node_pause", "node_drain", "clock"}
"""Faults that can keep a node from restoring what it has shown."""
RESTORED_WITHIN = 12.0
"""Seconds after nodes were partitioned within which all have restored what they have shown."""
SLOW = 0.3
"""Seconds that a slow node's link takes in each direction."""
END_AWAITED = 10.0
"""Seconds that a fault waits for the next end of a job, or for a request."""


@define(eq=False)
class Faults:
    """The faults of a run, and the time of the last one."""

    world: World
    injecting: int = 0
    """The number of faults that have not ended; some have not begun."""
    striking: int = 0
    """The number of faults that have begun and not ended."""
    quiet_since: float = 0.0
    """When the last fault began or ended."""
    recovered_at: float = 0.0
    """The time from which all clients must be up to date, unless another fault begins."""
    apart_until: float = 0.0
    """Until when one node has fewer states than the others, so that these must not be killed."""
    _pasts: dict[int, Store] = field(factory=dict)
    """The server's data at the time to which a fault rolls it back."""

    async def inject(self, index: int, fault: Fault) -> None:
        before = fault.mode in ("apart", "slow") and fault.kind != "link"
        if before or fault.kind in ("rollback", "failover"):
            await trio.sleep_until(max(0.0, fault.at - min(fault.seconds, 3.0)))
        if fault.kind in ("rollback", "failover"):
            self._pasts[index] = self.world.server.redis.store.copy()
        if before:
            self.striking += 1
            host = self.world.hosts[fault.who % len(self.world.hosts)]
            if fault.mode == "slow":
                host.link.delay = SLOW
            else:
                if self.striking > 1 or not all(other.alive for other in self.world.hosts):
                    self._nobody_remembers()
                self.apart_until = inf
                self._cut_off([host])
        await trio.sleep_until(fault.at)
        if fault.after_end or fault.after_request:
            with trio.move_on_after(END_AWAITED):
                await (self.world.ended if fault.after_end else self.world.asked).wait()
                rng = self.world.randomness(f"after end/{index}")
                await trio.sleep(rng.choice([0, 0.005, 0.3]))
        self.striking += 1
        another = fault.kind in OF_NODES and (fault.mode != "apart" or self.striking > 2)
        if another and trio.current_time() < self.apart_until:
            self._nobody_remembers()
        self.quiet_since = trio.current_time()
        self.world.note(f"FAULT {fault.kind} {fault.mode} {fault.seconds:g} s, {fault.who}")
        act: Callable[[int, Fault], Awaitable[None]] = getattr(
            self, "_on_link" if fault.kind == "link" else f"_{fault.kind}"
        )
        await act(index, fault)
        self.world.note(f"over: {fault.kind}")
        self.injecting -= 1
        self.striking -= 1 + before
        if fault.mode == "apart":
            self.apart_until = trio.current_time() + RESTORED_WITHIN
        self.quiet_since = trio.current_time()
        recovered_at = self.quiet_since + LIGHT.get(fault.kind, RECOVERED_AFTER)
        self.recovered_at = max(self.recovered_at, recovered_at)

    def _nobody_remembers(self) -> None:
        """Allows any loss: nodes are partitioned, and those that have shown the newest states may
        end. The gateway does not guarantee anything then."""
        self.world.checks.lost.update(self.world.jobs)

    def _replace_server(self, store: Store) -> None:
        """Starts a server that lacks the last writes. Only nodes have these now."""
        self.world.server = self.world.start_server(store)
        self.world.memories.server_has_lost_writes(store, self.world.hosts)
        if not any(host.alive for host in self.world.hosts):
            self._nobody_remembers()

    def _cut_off(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            host.link.away = True
            host.link.reset()

    async def _come_back(self, index: int, fault: Fault) -> None:
        """Handles the loss of data by the server. If the nodes were partitioned, one that was cut
        off reconnects first, and those that have shown newer states reconnect later."""
        if fault.mode != "apart":
            return
        first_host = self.world.hosts[fault.who % len(self.world.hosts)]
        others = [host for host in self.world.hosts if host is not first_host]
        counters = self.world.server.redis.store.values.get(b"progress:counters", {})
        if sum(name.startswith(b"node:") for name in counters) >= len(self.world.hosts):
            self._cut_off(others)  # the server waits for them, because they are registered
        first_host.link.away = False
        await trio.sleep(self.world.randomness(f"apart/{index}").uniform(0.0, 3.0))
        for host in others:
            host.link.away = False

    def _past(self, index: int) -> Store:
        return self._pasts.pop(index)

    async def _restart(self, index: int, fault: Fault) -> None:
        old = self.world.server
        old.kill()
        await trio.sleep(fault.seconds)
        if self.world.server is old:
            self.world.server = self.world.start_server(old.redis.store)

    async def _rollback(self, index: int, fault: Fault) -> None:
        old = self.world.server
        old.kill()
        await trio.sleep(0.05)
        if self.world.server is old:
            self._replace_server(self._past(index))
        await self._come_back(index, fault)

    async def _failover(self, index: int, fault: Fault) -> None:
        old = self.world.server
        self.world.hosts[fault.who % len(self.world.hosts)].link.away = False
        if old.dead:
            return
        self._replace_server(self._past(index))
        if fault.mode == "apart":
            for sock in list(old.sockets):  # some connections are lost, others stay open
                if self.world.randomness(f"apart/{index}").random() < 0.5:
                    sock.reset()
        # For a while connected clients can still write to the old primary.
        until = trio.current_time() + fault.seconds
        while trio.current_time() < until:
            if self._is_split(old):
                # Nodes serve from two primaries, so neither knows what the other has shown.
                self.world.checks.lost.update(self.world.jobs)
            await trio.sleep(min(0.05, until - trio.current_time()))
        old.redis.role = "slave"
        old.drop()
        old.kill()

    def _is_split(self, old: Server) -> bool:
        links = [host.link for host in self.world.hosts]
        served = [{id(sock.server) for sock in link.sockets} for link in links]
        others = [servers for servers in served if servers and id(old) not in servers]
        return any(id(old) in servers for servers in served) and bool(others)

    async def _flush(self, index: int, fault: Fault) -> None:
        self.world.checks.lost.update(self.world.jobs)
        self.world.server.redis.store = Store()

    async def _evict(self, index: int, fault: Fault) -> None:
        self.world.checks.lost.update(self.world.jobs)
        rng = self.world.randomness(f"evict/{index}")
        store = self.world.server.redis.store
        keys = sorted(store.values)
        for key in rng.sample(keys, k=min(len(keys), rng.randint(1, 3))):
            self.world.note(f"evicted: {key!r}")
            store.values.pop(key)
            store.expires.pop(key, None)

    async def _trim(self, index: int, fault: Fault) -> None:
        if fault.mode == "deleted":
            self.world.redis_skew -= fault.seconds
        for _ in range(3):
            with suppress(Refused):  # in a failover, by the old primary
                if fault.mode == "deleted":
                    self.world.server.redis.execute("DEL", "progress:feed")
                else:
                    self.world.server.redis.execute("XTRIM", "progress:feed", "MAXLEN", "=", "0")
            await trio.sleep(fault.seconds / 10)
        self.world.hosts[fault.who % len(self.world.hosts)].link.delay = 0.0

    async def _refuse_writes(self, index: int, fault: Fault) -> None:
        redis = self.world.server.redis
        redis.refusal = self.world.randomness(f"refuse/{index}").choice(
            [
                "MISCONF Redis is configured to save RDB snapshots, but it cannot",
                "OOM command not allowed when used memory > 'maxmemory'.",
            ]
        )
        await trio.sleep(fault.seconds)
        redis.refusal = None

    async def _garbage(self, index: int, fault: Fault) -> None:
        redis = self.world.server.redis
        with suppress(Refused):
            redis.execute("XADD", "progress:feed", "*", "event", "nonsense")
            redis.execute("XADD", "progress:feed", "*", "other", "[1,2]")
            redis.execute("SET", "progress:last:foreign", "a text")
            redis.execute("HSET", "progress:last:halved", "status", "running", "epoch", "x")
            for job in ("foreign", "halved"):
                redis.execute("ZADD", "progress:recent", "1", job)

    async def _on_link(self, index: int, fault: Fault) -> None:
        link = self._some_link(fault)
        link.mode, link.odds = fault.mode, fault.odds  # type: ignore[assignment]  # checked by Link
        if fault.mode in ("refuse", "cut"):
            link.reset()
        await trio.sleep(fault.seconds)
        if link.mode == fault.mode:
            self._check_stale(link, fault)
        link.mode, link.odds = "ok", 1.0

    def _check_stale(self, link: Link, fault: Fault) -> None:
        """Checks that a node which was cut off for long enough reports that it is stale."""
        if self.world.scenario.broker == "memory" or fault.odds < 1:
            return
        if fault.seconds < {"refuse": 4.0, "hang": 13.0}.get(fault.mode, 1e9):
            return
        for host in self.world.hosts:
            paused = host.process.paused_until > fault.at
            if host.link is link and host.alive and host.since < fault.at and not paused:
                if host.node.stale_reason is None:
                    raise Violated(f"fresh: {host.name} is cut off and does not say so")
                for watcher in self.world.watchers:
                    welcomed = watcher.since < trio.current_time() - 2
                    if watcher.kind not in ("websocket", "sse") or watcher.stalled_until:
                        continue
                    if watcher.line and watcher.host is host and welcomed and not watcher.stale:
                        raise Violated(f"fresh: {watcher.name} is not told that it is stale")

    async def _reset(self, index: int, fault: Fault) -> None:
        self._some_link(fault).reset(fault.odds)

    def _some_link(self, fault: Fault) -> Link:
        links = [host.link for host in self.world.hosts] * 2
        links += [worker.link for worker in self.world.workers]
        return links[fault.who % len(links)]

    async def _node_kill(self, index: int, fault: Fault) -> None:
        host = self.world.hosts[fault.who % len(self.world.hosts)]
        if self.world.scenario.broker == "memory":
            self.world.checks.lost.update(self.world.jobs)
        host.down_until = trio.current_time() + fault.seconds
        host.process.kill()
        await trio.sleep(fault.seconds)

    async def _node_pause(self, index: int, fault: Fault) -> None:
        process = self.world.hosts[fault.who % len(self.world.hosts)].process
        process.pause()
        # Other nodes wait for at most 5 s for what this one has shown.
        await trio.sleep(min(fault.seconds, 2.0) if self.world.lossy else fault.seconds)
        process.resume()

    async def _node_drain(self, index: int, fault: Fault) -> None:
        host = self.world.hosts[fault.who % len(self.world.hosts)]
        if self.world.scenario.broker == "memory":
            self.world.checks.lost.update(self.world.jobs)
        host.down_until = trio.current_time() + fault.seconds
        host.drain()
        await trio.sleep(fault.seconds + 11)

    async def _worker_kill(self, index: int, fault: Fault) -> None:
        if self.world.workers:
            self.world.workers[fault.who % len(self.world.workers)].process.kill()

    async def _worker_pause(self, index: int, fault: Fault) -> None:
        if self.world.workers:
            process = self.world.workers[fault.who % len(self.world.workers)].process
            process.pause()
            await trio.sleep(fault.seconds)
            process.resume()

    async def _worker_exit(self, index: int, fault: Fault) -> None:
        if self.world.workers:
            worker = self.world.workers[fault.who % len(self.world.workers)]
            rng = self.world.randomness(f"exit/{index}")
            worker.exits_with = rng.choice([SystemExit(0), SystemExit(1), KeyboardInterrupt()])

    async def _zombie(self, index: int, fault: Fault) -> None:
        if self.world.groups and fault.who % 2:
            self.world.start(another_attempt(self.world, self.world.groups[0], f"zombie{index}"))
            return
        kinds = [kind for kind in self.world.scenario.workers if kind in ("http", "redis")]
        kinds = kinds or ["http"]
        self.world.work(f"zombie{index}", kinds[fault.who % len(kinds)])

    async def _stall(self, index: int, fault: Fault) -> None:
        watcher = self.world.watchers[fault.who % len(self.world.watchers)]
        watcher.stalled_until = trio.current_time() + fault.seconds * 3
        await trio.sleep(fault.seconds * 3)

    async def _hang_up(self, index: int, fault: Fault) -> None:
        self.world.watchers[fault.who % len(self.world.watchers)].hang_up()

    async def _clock(self, index: int, fault: Fault) -> None:
        who = fault.who % (len(self.world.hosts) + len(self.world.workers) + 1)
        if who == 0:
            self.world.redis_skew += fault.seconds
        elif who <= len(self.world.hosts):
            self.world.hosts[who - 1].process.skew += fault.seconds
        else:
            self.world.workers[who - 1 - len(self.world.hosts)].process.skew += fault.seconds
