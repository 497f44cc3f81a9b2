"""The participants of a run (nodes, a Redis, workers and clients), and its trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from random import Random

import trio

from .checks import Checks, Violated
from .clients import Watcher
from .faults import Faults
from .group_workers import group_workers
from .groups import GroupModel, Row, command_of, make_group
from .held_requests import Held, HeldRequests
from .hosts import Host
from .memories import Memories
from .pace import Pace
from .redis import Redis, Store
from .requests import RequestClient
from .rest import wait_for_quiescence
from .rights import token
from .scenario import Scenario
from .sets import SetWatcher
from .sockets import Link, Server
from .threads import EPOCH
from .workers import PlainReporter, Worker

__all__ = ["World"]


class World:
    """A run."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.seed = f"seed/{scenario.seed}"
        self.trace: list[str] = []
        self.checks = Checks()
        self.token = token() if scenario.rights else None
        """The token of the clients whose permissions are not under test; None: none is required."""
        self.redis_skew = 0.0
        self.links: dict[str, Link] = {}
        self.restarts = 0
        self.ended = trio.Event()
        """Set when a job has ended. There is a new event for each end."""
        self.asked = trio.Event()
        """Set when a job gets a request. There is a new event for each request."""
        self.single_jobs = [f"job:{number}" for number in range(scenario.jobs)]
        self.groups = [
            make_group(f"batch:{number}", kind, self.randomness(f"group/{number}"))
            for number, kind in enumerate(scenario.groups)
        ]
        self.group_model = GroupModel(
            [each for group in self.groups for each in group.all], self.checks.lost
        )
        self.jobs = list(dict.fromkeys((*self.single_jobs, *self.group_model.jobs)))
        self.jobs_to_ask = self.single_jobs
        if scenario.group_requests:
            # A group is chosen as often as all of its children together.
            children = len(self.jobs) - len(self.single_jobs)
            self.jobs_to_ask = self.jobs + [group.name for group in self.groups] * children
        self.hosts: list[Host] = []
        self.watchers: list[Watcher] = []
        self.workers: list[Worker] = []
        self.nursery: trio.Nursery
        self.working = 0
        self.lossy = any(fault.kind in ("rollback", "failover") for fault in scenario.faults)
        self.checks.fenced = not self.lossy
        self.held = HeldRequests(
            self.jobs,
            self.checks.lost,
            fenced=scenario.group_requests and not self.lossy,
            stored=self._was_asked,
        )
        self.memories = Memories(self.groups, self.checks.lost)
        self.faults = Faults(self)
        self.quiescing = False
        """Whether clients no longer change their subscriptions."""

    def randomness(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")

    def note(self, text: str) -> None:
        self.trace.append(f"{trio.current_time():10.4f} {text}")

    # -- who takes part ----------------------------------------------------------

    async def main(self) -> None:
        self.server = self.start_server(None)
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            nursery.start_soon(self._end_all)
            nursery.start_soon(Pace(self).run)
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
                for reporter in group_workers(self, group):
                    self.start(reporter)
            for number in range(self.scenario.request_clients):
                name = f"asker{number}"
                nursery.start_soon(RequestClient(name, self, self.randomness(name)).run)
            for index, fault in enumerate(self.scenario.faults):
                self.faults.injecting += 1
                nursery.start_soon(self.faults.inject, index, fault)
            await wait_for_quiescence(self)
            nursery.cancel_scope.cancel()

    async def _end_all(self) -> None:
        """Ends every process, whatever its threads wait for."""
        try:
            await trio.sleep_forever()
        finally:
            for process in [host.process for host in self.hosts] + [
                w.process for w in self.workers
            ]:
                process.kill()

    def link(self, name: str) -> Link:
        link = self.links[name] = Link(lambda: self.server, self.randomness(f"link/{name}"))
        return link

    def _watch(self, name: str, kind: str) -> None:
        rng = self.randomness(name)
        jobs = rng.sample(self.jobs, k=rng.randint(1, len(self.jobs)))
        if kind == "poll":
            jobs = jobs[:1]  # it may wait for 20 s for each
        mode = rng.choice(["latest", "latest", "every"])
        make = SetWatcher if kind.startswith("set") else Watcher
        watcher = make(name, kind, jobs, self, rng, mode)
        self.watchers.append(watcher)
        self.nursery.start_soon(watcher.run)

    def work(self, name: str, kind: str) -> None:
        rng = self.randomness(name)
        link = self.link(name)
        if kind in ("fcall", "curl"):
            job = f"job:{rng.randrange(self.scenario.jobs)}"
            caller = PlainReporter(name, kind, job, self, rng, link)
            self.start(caller)
            return
        jobs = rng.choices(self.single_jobs, k=rng.randint(1, 2))
        self.start(Worker(name, kind, jobs, self, rng, link))

    def start(self, reporter: Worker | PlainReporter) -> None:
        if isinstance(reporter, Worker):
            self.workers.append(reporter)
        self.nursery.start_soon(self._until_done, reporter.run)

    async def _until_done(self, run: Callable[[], Awaitable[None]]) -> None:
        self.working += 1
        await run()
        self.working -= 1

    def some_host(self, rng: Random) -> Host | None:
        """Returns a host that a load balancer would choose."""
        hosts = [host for host in self.hosts if host.alive and not host.draining]
        return rng.choice(hosts) if hosts else None

    def start_server(self, store: Store | None) -> Server:
        self.restarts += 1
        run_id = sha256(f"{self.seed}/{self.restarts}".encode()).hexdigest()[:40]

        def clock() -> float:
            return EPOCH + trio.current_time() + self.redis_skew

        redis = Redis(clock, run_id=run_id, store=store)
        if self.groups:
            self.group_model.has_lost_writes(partial(_row, redis))
        redis.written = partial(self._written, redis)
        return Server(redis, ended=self._has_ended)

    def _written(self, redis: Redis, words: list[bytes]) -> None:
        command = command_of(words)
        if redis is not self.server.redis:
            if self.groups:
                self.group_model.note_old_primary(partial(_row, redis), command)
            return
        if self.groups:
            self.group_model.check_command(partial(_row, redis), command)
        if command.runs_script:
            self.held.check_command(partial(_held, redis), publishes=command.job is not None)

    def _has_ended(self) -> None:
        self.ended.set()
        self.ended = trio.Event()

    def _was_asked(self) -> None:
        self.asked.set()
        self.asked = trio.Event()

    def check_commands(self) -> None:
        """Raises a violation that was found after a command of the broker."""
        violation = self.group_model.violation or self.held.violation
        if violation is not None:
            raise Violated(violation)


def _row(redis: Redis, job: str) -> Row | None:
    """Returns the record of a job on a server."""
    record = redis.store.values.get(f"progress:last:{job}".encode())
    return Row.of_hash(record) if record else None


def _held(redis: Redis, job: str) -> Held | None:
    record = redis.store.values.get(f"progress:last:{job}".encode())
    return Held.of_hash(record) if record else None
