"""The process of a group: the children it creates, and the end of its block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from gateway.worker import Cancelled, Job
from gateway.worker.publisher import PublishResult

from .fake import FakePublisher, until
from .fake_gateway import DEADLINE, FakeGateway


def double(number: int) -> int:
    if number < 0:
        raise ValueError("below zero")
    return 2 * number


def last_of(fake_gateway: FakeGateway, job: str) -> dict[str, object]:
    return next(request.fields for request in reversed(fake_gateway.received) if request.job == job)


def test_a_group_ends_with_its_children_and_not_with_its_block(fake_gateway: FakeGateway) -> None:
    with Job("batch:1", children=2, message="two parts") as job:
        until(job, lambda: job.attempt)
    first_update = fake_gateway.received[0].fields
    assert (first_update["children"], first_update["message"]) == (2, "two parts")
    assert "weight" not in first_update
    assert fake_gateway.ends("batch:1") == []
    assert job.status == "running"


def test_an_open_group_is_closed_at_the_end_of_its_block(fake_gateway: FakeGateway) -> None:
    with Job("batch:1", children=None) as job:
        until(job, lambda: job.attempt)
        with job.child("a"), job.child("b", weight=2.5, total=10):
            pass
    assert fake_gateway.received[0].fields["children"] is None
    assert last_of(fake_gateway, "batch:1")["children"] == 3.5
    assert fake_gateway.ends("batch:1") == []
    assert last_of(fake_gateway, "batch:1/b") | {"weight": 2.5, "status": "succeeded"} == last_of(
        fake_gateway, "batch:1/b"
    )


def test_an_error_in_its_block_ends_a_group_early(fake_gateway: FakeGateway) -> None:
    with pytest.raises(ValueError, match="no disk"), Job("batch:1", children=2):
        raise ValueError("no disk")
    (end,) = fake_gateway.ends("batch:1")
    assert (end.fields["status"], end.fields["error"]) == ("failed", "ValueError: no disk")


SPAWN = get_context("spawn")
EXECUTORS: dict[str, Callable[[], Any]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(1, mp_context=SPAWN),
    "pool": lambda: SPAWN.Pool(1),
}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_map_reports_each_item_as_a_child(fake_gateway: FakeGateway, kind: str) -> None:
    with EXECUTORS[kind]() as executor, Job("batch:1", children=None) as job:
        assert list(job.map(executor, double, [1, 2, 3])) == [2, 4, 6]
    for child in ("batch:1/1", "batch:1/2", "batch:1/3"):
        (end,) = fake_gateway.ends(child)
        assert end.fields["status"] == "succeeded"
    assert last_of(fake_gateway, "batch:1")["children"] == 3


def test_an_exception_of_a_mapped_function_is_raised_and_fails_its_child(
    fake_gateway: FakeGateway,
) -> None:
    with ThreadPoolExecutor(1) as executor, Job("batch:1", children=2) as job:
        results = job.map(executor, double, [-1, 1], name=lambda item: f"part{item}")
        with pytest.raises(ValueError, match="below zero"):
            next(results)
    (end,) = fake_gateway.ends("batch:1/part-1")
    assert (end.fields["status"], end.fields["error"]) == ("failed", "ValueError: below zero")
    assert fake_gateway.ends("batch:1") == []


def test_a_mapped_function_can_get_its_childs_job(fake: FakePublisher) -> None:
    group = Job("batch:1", children=None, accepts={"cancel"}, url=fake.url)
    with ThreadPoolExecutor(1) as executor, group:
        work = group.map(executor, lambda job, item: f"{job.name} {item}", "x", with_job=True)
        assert list(work) == ["batch:1/1 x"]
    (accepts,) = {str(update["accepts"]) for update in fake.updates if update["job"] == "batch:1/1"}
    assert accepts == "['cancel']"


def test_children_of_a_job_that_is_not_a_group_raise(fake: FakePublisher) -> None:
    job = Job("job", url=fake.url)
    with pytest.raises(ValueError, match="job is not a group"):
        job.child("a")
    with pytest.raises(ValueError, match="job is not a group"):
        job.map(ThreadPoolExecutor(1), double, [1])
    group = Job("group", url=fake.url, children=None)
    with pytest.raises(ValueError, match="not a job id"):
        group.map(ThreadPoolExecutor(1), double, [1], name=lambda item: "a b")


def test_map_raises_cancelled_and_drops_calls_that_have_not_begun(fake: FakePublisher) -> None:
    request = {"id": "r1", "verb": "cancel", "at": 5.0}
    fake.results.append(PublishResult(1, True, request=request))
    began: list[int] = []
    group = Job("batch:1", url=fake.url, children=None, accepts={"cancel"}, interrupt=True)

    dropped = threading.Event()

    def work(item: int) -> None:
        began.append(item)
        until(group, lambda: group._report.must_interrupt)
        if item > 0:  # it has begun before the others were dropped
            dropped.wait(DEADLINE)

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(Cancelled), group:
            list(group.map(executor, work, range(100)))
        dropped.set()
    assert began in ([0], [0, 1])
    (end,) = [
        update
        for update in fake.updates
        if update["job"] == "batch:1" and update["status"] != "running"
    ]
    assert end["status"] == "cancelled"


def test_a_call_that_raises_cancelled_drops_those_that_have_not_begun(fake: FakePublisher) -> None:
    began: list[int] = []

    def work(item: int) -> None:
        began.append(item)
        raise Cancelled

    group = Job("batch:1", url=fake.url, children=None)
    with ThreadPoolExecutor(1) as executor, pytest.raises(Cancelled), group:
        list(group.map(executor, work, range(1000)))
    assert len(began) < 1000


def stop(item: int) -> None:
    raise Cancelled("stopped")


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_call_that_raises_cancelled_ends_the_map(fake_gateway: FakeGateway, kind: str) -> None:
    """An uncaught `Cancelled` would end the processes of a `multiprocessing.Pool`."""
    stopped = pytest.raises(Cancelled, match="stopped")
    with EXECUTORS[kind]() as executor, stopped, Job("batch:1", children=2) as job:
        list(job.map(executor, stop, [1]))
    (end,) = fake_gateway.ends("batch:1/1")
    assert end.fields["status"] == "cancelled"


def test_track_in_a_mapped_function_raises_if_the_group_has_interrupt(fake: FakePublisher) -> None:
    request = {"id": "r1", "verb": "cancel", "at": 5.0}
    fake.results += [PublishResult(1, True), PublishResult(1, True, request=request)]
    group = Job("batch:1", url=fake.url, children=None, accepts={"cancel"}, interrupt=True)
    group.update()
    until(group, lambda: group.attempt)

    def work(job: Job, item: int) -> None:
        until(job, lambda: job.request)
        job.advance()

    with ThreadPoolExecutor(1) as executor, pytest.raises(Cancelled), group:
        list(group.map(executor, work, [1], with_job=True))
    statuses = [update["status"] for update in fake.updates if update["job"] == "batch:1/1"]
    assert statuses[-1] == "cancelled"


def test_a_group_without_a_block_can_end_with_its_children(fake_gateway: FakeGateway) -> None:
    group = Job("batch:1", children=3)
    group.child("a").succeed()
    group.end_with_children()
    group.update(message="ignored")
    fake_gateway.wait_for(lambda got: any(one.fields.get("children") == 1 for one in got))
    assert last_of(fake_gateway, "batch:1").get("message") is None
    assert fake_gateway.ends("batch:1") == []
    with pytest.raises(ValueError, match="without children"):
        Job("job").end_with_children()
