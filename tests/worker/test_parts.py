"""Counts of several processes add up, whether they are forked, spawned, or killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from gateway.worker import Job
from gateway.worker.final_state import FinalState
from gateway.worker.publisher import PublishResult
from gateway.worker.report import Report
from gateway.worker.send_queue import LogLine
from gateway.worker.snapshot import JobSnapshot

from .fake import FakePublisher, until
from .forking import fork, forks, joined, python
from .targets import TARGETS, Target

pytestmark = forks

JOB: Job


@pytest.fixture(params=sorted(TARGETS))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with TARGETS[request.param]() as target:
        yield target


def work(_: int) -> None:
    JOB.advance()


def test_counts_of_a_pool_add_up(target: Target) -> None:
    """The pool's processes are killed at the end of the block, some before they have reported."""
    global JOB
    with Job("job", url=target.url, total=400) as JOB, get_context("fork").Pool(4) as pool:
        pool.map(work, range(400), chunksize=7)
    end = target.states("job")[-1]
    assert (end.status, end.done, end.percent) == ("succeeded", 400, 100)
    assert all((state.done or 0) <= 400 for state in target.states("job"))


def test_a_killed_childs_count_is_sent_by_the_parent(target: Target) -> None:
    with Job("job", url=target.url) as job, get_context("fork").Pool(2) as pool:
        for _ in job.track(pool.imap_unordered(abs, range(50)), total=50):
            pass
    assert target.states("job")[-1].done == 50


def test_counts_of_parent_children_and_grandchildren_add_up(target: Target) -> None:
    with Job("job", url=target.url, total=100) as job:
        job.advance(10)

        def grandchild() -> None:
            job.advance(30)
            job._sender.flush()

        def child() -> None:
            job.advance(20)
            assert joined(fork(grandchild)) == 0
            job.advance(1)
            job._sender.flush()

        assert joined(fork(child)) == 0
        job.advance(2)
        until(job, lambda: target.states("job")[-1].done == 63)
    assert target.states("job")[-1].done == 63
    assert max(state.percent or 0 for state in target.states("job")[:-1]) == 63


def test_a_child_that_is_killed_immediately_is_counted(target: Target) -> None:
    with Job("job", url=target.url) as job:

        def child() -> None:
            job.advance(5)
            os.kill(os.getpid(), signal.SIGKILL)

        assert os.WIFSIGNALED(os.waitpid(fork(child), 0)[1])
    assert target.states("job")[-1].done == 5


def test_a_child_wakes_its_sender_once_per_request(fake: FakePublisher) -> None:
    """The count of a child is in shared memory after each change, which is cheaper than waking the
    sender."""
    touched = 0
    with Job("job", url=fake.url) as job:
        queue = job._sender._queue
        touch = queue.mark_changed

        def counted(report: Report, now: float) -> list[LogLine]:
            nonlocal touched
            touched += 1
            return touch(report, now)

        def child() -> None:
            queue.mark_changed = counted  # type: ignore[method-assign]  # to count calls
            before = len(fake.batches)
            for _ in job.track(range(500)):
                job.advance()
            job._sender.flush()
            assert touched <= len(fake.batches) - before + 1

        assert joined(fork(child)) == 0
        job.succeed()
    assert sum(fields["done"] for fields in fake.updates if "part" in fields) == 1_000


def test_a_child_sends_only_its_own_changes(target: Target) -> None:
    with Job("job", url=target.url, message="one", total=4) as job:
        until(job, lambda: job.attempt)

        def child() -> None:
            until_read = reading.recv()
            assert until_read == "two"
            job.advance()
            job._sender.flush()

        reading, writing = get_context("fork").Pipe(duplex=False)
        pid = fork(child)
        job.update(message="two", total=8)
        until(job, lambda: target.states("job")[-1].message == "two")
        writing.send("two")
        assert joined(pid) == 0
        state = target.states("job")[-1]
        assert (state.message, state.total, state.done) == ("two", 8, 1)


def test_counts_of_spawned_processes_add_up(target: Target, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, sys\n"
        "from gateway import Job\n"
        "def begin(name, run, url):\n"
        "    global job\n"
        "    job = Job(name, run=run, url=url)\n"
        "def work(_): job.advance()\n"
        "if __name__ == '__main__':\n"
        "    url = sys.argv[1]\n"
        "    with Job('job', url=url, total=60) as job:\n"
        "        context = multiprocessing.get_context('spawn')\n"
        "        pool = context.Pool(2, begin, (job.name, job.run, url))\n"
        "        pool.map(work, range(60))\n"
        "        pool.close(); pool.join()\n"
    )
    result = python(
        "import runpy, sys\n"
        f"sys.argv[1:] = [{target.url!r}]\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        f"runpy.run_path({str(program)!r}, run_name='__main__')\n"
    )
    assert result.returncode == 0, result.stderr
    end = target.states("job")[-1]
    assert (end.status, end.done, end.attempt) == ("succeeded", 60, 1)


def count_in_child(report: Report, count: int) -> None:
    """Stores the count of a child that is then killed."""
    report.before_fork()
    counts = report.snapshot.phase.segment.child_counts
    assert counts is not None
    _, cell = counts.own_part()
    assert cell is not None
    counts.store(cell, count)


def report(part: str | None = None) -> Report:
    new_report = Report("job", JobSnapshot(lease=30.0, part=part), timeout=10.0)
    new_report.on_result(new_report.take_updates(0.0)[-1], PublishResult(1, True))
    return new_report


def test_counts_of_children_are_sent_before_the_end() -> None:
    new_report = report()
    count_in_child(new_report, 3)
    count_in_child(new_report, 0)
    count_in_child(new_report, 4)
    assert len(new_report.take_updates(1.0)) == 1
    new_report.set_final_state(FinalState("succeeded"), now=2.0)
    *parts, last = new_report.take_updates(2.0)
    assert parts == [
        {"part": "1", "done": 3, "attempt": 1, "run": new_report.run},
        {"part": "3", "done": 4, "attempt": 1, "run": new_report.run},
    ]
    assert last["status"] == "succeeded"


def test_counts_of_an_earlier_phase_are_not_sent() -> None:
    new_report = report()
    count_in_child(new_report, 3)
    new_report.snapshot.begin_phase("next", share=None, total=None, fields={})
    new_report.set_final_state(FinalState("succeeded"), now=2.0)
    assert len(new_report.take_updates(2.0)) == 1


def test_a_part_of_a_part_has_its_own_name() -> None:
    new_report = report("machine-7")
    count_in_child(new_report, 3)
    new_report.set_final_state(FinalState("succeeded"), now=2.0)
    assert new_report.take_updates(2.0)[0]["part"] == "machine-7.1"


def test_a_part_sends_no_percentage() -> None:
    new_report = report("a")
    new_report.snapshot.phase.segment.total = 10
    new_report.snapshot.phase.segment.count_without_loops = 5
    fields = new_report.take_updates(1.0)[-1]
    assert (fields["part"], fields["done"], "percent" in fields) == ("a", 5, False)


@pytest.mark.parametrize("part", ["", "a b", "ü", "x" * 65])
def test_names_of_parts_are_checked(part: str) -> None:
    with pytest.raises(ValueError, match="part is not the name of a part"):
        Job("job", part=part)
