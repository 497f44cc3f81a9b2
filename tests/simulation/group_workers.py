"""The workers of a group: one declares it, others work on its children."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

import trio
from attrs import define

from gateway.worker.job import Job
from gateway.worker.requests import Cancelled

from .groups import Group
from .workers import LEASE, PlainReporter, RequestRecorder, Worker, draw_accepts

if TYPE_CHECKING:
    from .world import World

__all__ = ["Declarer", "GroupWorker", "another_attempt", "group_workers"]


def group_workers(world: World, group: Group) -> Iterator[Worker | PlainReporter]:
    """Starts the workers of a group: one that declares it, sometimes twice; two processes for
    its children, one of which may be retried; and sometimes a reporter without a `Job` for one
    child."""
    rng = world.randomness(f"staff of {group.name}")
    plain = ["fcall", "curl"] if world.scenario.broker == "redis" else ["curl"]
    weights = _weights(group)
    if rng.random() < 0.3:
        for group_part in group.all:
            name = f"declarer/{group_part.name}"
            worker_rng, link = world.randomness(name), world.link(name)
            yield Declarer(
                name, rng.choice(plain), group_part.name, world, worker_rng, link, group_part
            )
    else:
        for index in range(rng.choice([1, 1, 1, 1, 2])):
            name = f"foreman{index}"
            worker_rng, link = world.randomness(name), world.link(name)
            groups = tuple(group.all)
            yield GroupWorker(
                name, _kind(world, rng), [], world, worker_rng, link, weights, groups=groups
            )
    jobs = group.leaves
    rng.shuffle(jobs)
    if rng.random() < 0.3:
        name = "plain"
        worker_rng, link = world.randomness(name), world.link(name)
        yield PlainReporter(name, rng.choice(plain), jobs.pop(), world, worker_rng, link)
    again = rng.choices(jobs, k=1) if jobs and rng.random() < 0.4 else []
    for index, mine in enumerate((jobs[::2] + again, jobs[1::2])):
        name = f"hand{index}"
        worker_rng, link = world.randomness(name), world.link(name)
        yield Worker(name, _kind(world, rng), mine, world, worker_rng, link, weights, max_steps=10)


def another_attempt(world: World, group: Group, name: str) -> Worker:
    """Returns a process that works on one of the children, even if another process does so too."""
    rng = world.randomness(name)
    jobs = [rng.choice(group.leaves)]
    link, weights = world.link(name), _weights(group)
    return Worker(name, _kind(world, rng), jobs, world, rng, link, weights, max_steps=10)


def _kind(world: World, rng: Random) -> str:
    return rng.choice(["http", "redis", "redis"] if world.scenario.broker == "redis" else ["http"])


def _weights(group: Group) -> Mapping[str, float]:
    return {job: weight for each in group.all for job, weight in each.weights.items()}


@define(eq=False)
class GroupWorker(Worker):
    """A process that declares a group and the groups in it, and does not wait for their
    children."""

    groups: tuple[Group, ...] = ()
    """The groups, the innermost last."""

    def _main(self, url: str) -> None:
        groups = list(self.groups)
        self.rng.shuffle(groups)
        for group in groups:
            self._sleep(0, 4)
            self._declare(group, url)

    def _declare(self, group: Group, url: str) -> None:
        """Declares the group. The block is left at once while the group's children run, or with an
        error."""
        self.world.note(f"{self.name} declares {group.name}: {group.expected}")
        expected = group.expected
        weight = self.weights.get(group.name)
        accepts = draw_accepts(self.rng)
        obeys, refuses = self.rng.random() < 0.3, self.rng.random() < 0.2
        job = Job(
            group.name, url=url, children=expected, weight=weight, timeout=10, accepts=accepts
        )
        recorder = RequestRecorder(self, group.name, job)
        job.on_request(recorder.receive)
        try:
            with job:
                if expected is None:  # it makes the children itself
                    for child, weight in group.weights.items():
                        if child not in {inner.name for inner in group.inner}:
                            with job.child(child.rpartition("/")[2], weight=weight, lease=LEASE):
                                self._sleep(0, 0.5)
                for done in range(self.rng.randint(0, 4)):
                    self._sleep(0, 2)
                    job.update(message=f"{self.name}/{done}")
                    if obeys:
                        job.check()
                    if refuses:
                        recorder.refuse()
                if self.rng.random() < 0.1:
                    self._fail()
        except LookupError:
            self.world.note(f"{self.name} ends {group.name}")
        except Cancelled:
            self.world.note(f"{self.name} cancels {group.name}")
        report = job._report
        if report.delivered and report.attempt is not None:
            self.ends.append((group.name, report.attempt, job.status))


@define(eq=False)
class Declarer(PlainReporter):
    """A reporter without a `Job` that declares a group, perhaps later than its children, and
    repeatedly."""

    group: Group

    async def run(self) -> None:
        """Repeats until the group is declared."""
        expected = self.group.expected
        fields: dict[str, Any] = {
            "children": len(self.group.children) if expected is None else expected
        }
        accepts = draw_accepts(self.rng)
        if accepts:
            fields["accepts"] = ",".join(accepts) if self.kind == "fcall" else accepts
        for _ in range(self.rng.randint(1, 3)):
            await trio.sleep(self.rng.uniform(0, 6))
            await self._report(fields)
