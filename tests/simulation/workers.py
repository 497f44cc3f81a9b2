"""The workers: programs with a real `Job` and the real sender, over HTTP or to Redis, and programs
that call the function in Redis. A worker is a process of its own: it can be killed and paused, and
its wall clock can be set.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio
from attrs import define, field

from gateway.worker.job import Job
from gateway.worker.publisher import Outcome, PublishResult, Rejected, Unreachable
from gateway.worker.requests import Cancelled, JobRequest

from .checks import Violated
from .clients import Gone, request
from .redis import Blocked, Refused
from .sockets import Link
from .threads import SimulatedProcess, block, current_process

if TYPE_CHECKING:
    from .world import World

__all__ = ["HttpPublisher", "PlainReporter", "Worker", "connect"]

LEASE = 4.0
"""Seconds; short, so that leases expire within a run."""
LONG_LEASE = 12.0
"""Seconds; of jobs that accept requests and pause, so that most of their renewals are bare."""
RECEIVED_WITHIN = 4.0
"""Seconds within which a worker that accepts requests has received one: it polls every 2 s."""


class HttpPublisher:
    """Replaces the publisher of `gateway.worker.http`: it posts to a host of the world."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        try:
            answers: list[Outcome] = block(self._publish, updates)
        except Unreachable as error:
            return [error] * len(updates)
        return answers

    async def _publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        link, world = self._worker.link, self._worker.world
        await trio.sleep(link.travel())
        if link.mode == "hang" and link.strikes("hang"):
            await trio.sleep(5)
            raise Unreachable("no answer within 5 s")
        if link.strikes("refuse", "lose_requests"):
            raise Unreachable("connection refused")
        host = world.some_host(self._worker.rng)
        if host is None:
            raise Unreachable("connection refused")
        with trio.move_on_after(5) as deadline:
            try:
                body = json.dumps([{"job": job} | fields for job, fields in updates]).encode()
                status, _, answer = await request(host, "POST", "/api/jobs", body=body)
            except Gone:
                raise Unreachable("connection lost") from None
        if deadline.cancelled_caught:
            raise Unreachable("no answer within 5 s")
        if link.strikes("lose_answers", "cut"):
            raise Unreachable("connection lost")
        await trio.sleep(link.travel())
        results = json.loads(answer)
        if status != 200:
            raise Unreachable(f"{status} {results.get('detail')}")
        return [_outcome(result) for result in results]

    def close(self) -> None:
        pass


def _outcome(result: dict[str, Any]) -> Outcome:
    status = result.get("status", 200)
    if status >= 500:
        return Unreachable(f"{status} {result.get('detail')}")
    if status != 200:
        return Rejected(f"{status} {result}", field=result.get("field"))
    return PublishResult(
        result["attempt"],
        result["applied"],
        result.get("reason"),
        epoch=result["epoch"],
        seq=result["seq"],
        request=result.get("request"),
    )


def connect(url: str, token: Any) -> Any:
    """Replaces `gateway.worker.publisher.connect`."""
    worker = WORKERS[str(urlsplit(url).hostname)]
    if worker.kind == "http":
        return HttpPublisher(worker)
    from gateway.worker.redis import RedisPublisher

    return RedisPublisher(url)


WORKERS: dict[str, Worker] = {}
"""The hosts of the run, by the name in their URLs."""


@define(eq=False)
class Worker:
    """One process that works on jobs, one after the other."""

    name: str
    kind: str
    jobs: list[str]
    world: World
    rng: random.Random
    link: Link
    weights: Mapping[str, float] = field(factory=dict)
    """The weight of each job in its group, if it is not 1."""
    max_steps: int = 40
    """The maximum number of steps of a job."""
    exits_with: BaseException | None = None
    """The exception that its program raises at the next step, and that ends the interpreter."""
    exits_at: float = 0.0
    """When it has raised it."""
    process: SimulatedProcess = field(init=False)
    ends: list[tuple[str, int, str]] = field(factory=list)
    """The ends that were acknowledged to it: job, attempt, status."""

    def __attrs_post_init__(self) -> None:
        self.process = SimulatedProcess(self.name, self.world.seed)
        WORKERS[self.name] = self

    async def run(self) -> None:
        """Runs until its program ends, or it is killed."""
        from .threads import _drive

        async def main() -> None:
            await _drive(current_process(), self._program)

        await self.process.run(main)
        self.world.note(f"{self.name} exits")

    def _program(self) -> None:
        from gateway.worker import process_state

        url = f"http://{self.name}/"
        if self.kind == "redis":
            url = f"redis://{self.name}/0"
        try:
            self._main(url)
        except (SystemExit, KeyboardInterrupt) as error:
            self.world.note(f"{self.name} raises {error!r}")
        # Python 3.12 and newer start no thread in an `atexit` function.
        self.process.can_start_threads = self.rng.random() < 0.5
        for member in list(process_state.senders):
            if f"//{self.name}/" in getattr(member, "url", ""):
                member.flush()

    def _main(self, url: str) -> None:
        for job_id in self.jobs:
            self._sleep(0, 3)
            self._work(job_id, url)

    def _fail(self) -> None:
        raise LookupError(f"of {self.name}")

    def _sleep(self, low: float, high: float) -> None:
        block(trio.sleep, self.rng.uniform(low, high))
        if self.exits_with is not None:
            error, self.exits_with = self.exits_with, None
            self.exits_at = trio.current_time()
            raise error

    def _work(self, job_id: str, url: str) -> None:
        rng, world = self.rng, self.world
        total = rng.randint(3, self.max_steps)
        impatient = rng.random() < 0.2
        accepts = draw_accepts(rng)
        obeys = rng.random() < 0.7
        pauses = bool(accepts) and rng.random() < 0.3
        job = Job(
            job_id,
            url=url,
            total=total,
            weight=self.weights.get(job_id),
            lease=LONG_LEASE if pauses else LEASE,
            timeout=0 if impatient else 10,
            accepts=accepts,
        )
        recorder = RequestRecorder(self, job_id, job)
        job.on_request(recorder.receive)
        world.note(f"{self.name} begins {job_id}")
        began = trio.current_time()
        step = rng.uniform(0.01, 0.6)
        status = rng.choice(["succeeded", "succeeded", "failed", "cancelled"])
        before = began
        exit_error: BaseException | None = None
        try:
            with job:
                for done in range(1, total + 1):
                    self._sleep(0.2 * step, 1.8 * step)
                    if pauses and done == 2:
                        self._sleep(2, 8)
                    before = trio.current_time()
                    job.update(done=done, message=f"{self.name}/{done}")
                    if trio.current_time() != before:
                        raise Violated("undisturbed: an update took time")
                    if trio.current_time() - began > 20:
                        break
                    left = trio.current_time()
                    if obeys:
                        job.check()
                    elif rng.random() < 0.1:
                        recorder.refuse()
                if status == "failed":
                    self._fail()
                if status == "cancelled":
                    job.cancel()
                left = trio.current_time()
        except LookupError:
            left = before
        except Cancelled:
            world.note(f"{self.name} is cancelled")
        except (SystemExit, KeyboardInterrupt) as error:
            left, exit_error = self.exits_at, error
        took = trio.current_time() - left
        # The clock of a paused process continues, so its lease may expire by the pause.
        if took > (0.5 if impatient else 11) + max(0.0, self.process.paused_until - left):
            raise Violated(f"undisturbed: the end of {job_id} took {took:.1f} s")
        report = job._report
        undisturbed = world.faults.quiet_since < left - 10 and not world.faults.injecting
        if not (report.closed or impatient) and undisturbed:
            raise Violated(f"the end: that of {job_id} was not delivered, with no fault")
        if accepts and undisturbed:
            recorder.check_received(left)
        world.note(f"{self.name} ends {job_id} #{report.attempt}: {report.delivered}")
        if report.delivered and report.attempt is not None:
            self.ends.append((job_id, report.attempt, job.status))
        if exit_error is not None:
            raise exit_error


def draw_accepts(rng: random.Random) -> tuple[str, ...]:
    """Returns the requests that a job accepts."""
    return rng.choice([(), ("cancel",), ("cancel", "pause"), ("cancel", "pause", "resume")])


@define(eq=False, slots=False)
class RequestRecorder:
    """Records the requests that a program receives for one of its jobs."""

    worker: Worker
    job_id: str
    job: Job
    received: set[str] = field(factory=set)

    def receive(self, request: JobRequest) -> None:
        """Records a request. The job calls it."""
        worker, job = self.worker, self.job
        world = worker.world
        world.note(f"{worker.name} hears {request.id} {request.verb} of {self.job_id}")
        if world.checks.fenced and self.job_id not in world.checks.lost:
            world.checks.request_received(request.id, self.job_id, job.attempt, who=worker.name)
            if request.id in self.received:
                raise Violated(f"requests: {worker.name} received {request.id} again")
        self.received.add(request.id)

    def refuse(self) -> None:
        """Refuses the last request, if there is one."""
        if self.job.request is not None:
            self.worker.world.checks.refused.add((self.job_id, self.job.request.id))
            self.job.refuse("not now")

    def check_received(self, at: float) -> None:
        """Checks, while there is no fault, that a request of some seconds ago was received."""
        if self.job.superseded:
            return
        held = self.worker.world.held
        attempt = self.job._report.attempt
        due_request = held.awaits(self.job_id, attempt, before=at - RECEIVED_WITHIN)
        if due_request is not None and due_request not in self.received:
            raise Violated(f"requests: {self.worker.name} has not received {due_request}")


@define(eq=False)
class PlainReporter:
    """A reporter without a `Job`: `FCALL progress` of a Redis client, or curl. It repeats a call
    until there is a response, and sometimes repeats old updates, as several reporters of one
    attempt or a message queue would.
    """

    name: str
    kind: str
    job: str
    world: World
    rng: random.Random
    link: Link

    async def run(self) -> None:
        """Reports one job until its end, and an update after the end."""
        await trio.sleep(self.rng.uniform(0, 5))
        counts = self.rng.choice(["done", "percent"])
        start = {"start": True, "run": f"run-{self.name}", "lease": LEASE, "total": 10}
        attempt = await self._report(start)
        if self.rng.random() < 0.3:
            again = await self._report(start)
            checks = self.world.checks
            if again == attempt + 1 and checks.fenced and self.job not in checks.lost:
                # Another run between the two calls would have got that number.
                raise Violated(f"never back: one run of {self.name} opened {attempt} and {again}")
            attempt = again
        for done in range(1, 11):
            await trio.sleep(self.rng.uniform(0.05, 1.5))
            await self._report({"attempt": attempt, counts: done, "message": f"{self.name}/{done}"})
            if self.rng.random() < 0.3:
                await self._report({"attempt": attempt, counts: self.rng.randint(0, done)})
        await self._report({"attempt": attempt, "status": "succeeded"})
        if self.rng.random() < 0.5:
            await trio.sleep(self.rng.uniform(0.05, 1.5))
            await self._report({"attempt": attempt, counts: 5, "message": "late"})

    async def _report(self, fields: dict[str, Any]) -> int:
        """Repeats until there is a response; returns the attempt."""
        report = self._fcall if self.kind == "fcall" else self._curl
        while True:
            await trio.sleep(self.link.travel())
            if not self.link.strikes("hang", "refuse", "lose_requests"):
                attempt = await report(fields)
                if attempt is not None and not self.link.strikes("lose_answers", "cut"):
                    await trio.sleep(self.link.travel())
                    return attempt
            await trio.sleep(self.rng.uniform(0.1, 1.0))

    async def _fcall(self, fields: dict[str, Any]) -> int | None:
        server = self.link.resolve()
        if server.dead:
            return None
        words = [str(int(x) if x is True else x) for row in fields.items() for x in row]
        try:
            answer = server.redis.execute("FCALL", "progress", "1", "progress", self.job, *words)
        except Refused as refused:
            self.world.note(f"{self.name} is refused: {refused}")
            return None
        assert not isinstance(answer, Blocked)
        self.world.note(f"{self.name} {' '.join(words)} -> {answer[1::2]}")
        attempt: int = dict(zip(answer[::2], answer[1::2], strict=True))[b"attempt"]
        return attempt

    async def _curl(self, fields: dict[str, Any]) -> int | None:
        host = self.world.some_host(self.rng)
        if host is None:
            return None
        body = json.dumps(fields).encode()
        with trio.move_on_after(5), suppress(Gone):
            status, _, answer = await request(host, "POST", f"/api/jobs/{self.job}", body=body)
            self.world.note(f"{self.name} {body.decode()} -> {status} {answer.decode()}")
            if status == 200:
                attempt: int = json.loads(answer)["attempt"]
                return attempt
            if status < 500:
                raise Violated(f"no trouble: an update is answered {status} {answer!r}")
        return None
