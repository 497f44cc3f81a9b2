"""When a worker of Celery revokes the tasks of a cancelled group. Celery's state is a fake, and the
clock an argument; `test_celery` has real workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, field

from gateway.integrations.celery_revoke import (
    COMMAND,
    GROUP_REVOCATION_TIME,
    Revocations,
    send_until_answered,
)


def test_a_revocation_is_repeated_until_the_worker_answers() -> None:
    """The broker drops commands while no worker is connected."""
    timeouts: list[float] = []
    slept: list[float] = []

    def command(*, timeout: float) -> list[Any]:
        timeouts.append(timeout)
        if len(timeouts) == 2:
            raise OSError("no broker")
        return ["revoked"] if len(timeouts) == 4 else []

    send_until_answered(command, lambda: True, sleep=slept.append)
    assert (timeouts, slept) == ([1, 2, 4, 8], [2])
    send_until_answered(command, lambda: False)  # the task has ended
    assert len(timeouts) == 4


@define(eq=False)
class Task:
    """A task as a worker has it, in the group `g`."""

    id: str
    task: str = "accepts"
    gateway_group: str = "g"
    _apply_result: object = field(default=None, alias="handed_over")
    """Not None if the pool has it."""


@define
class Worker:
    """Celery's worker, with the commands of `Revocations`."""

    waiting: list[Task]
    running: list[Task] = field(factory=list)
    now: float = 0.0
    revoked: list[object] = field(factory=list)
    """The arguments of Celery's own command."""
    cancelled: list[str] = field(factory=list)
    """Tasks that were reported as cancelled."""
    state: Any = None
    panel: dict[str, Any] = field(factory=dict)
    revocations: Any = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from celery.worker import control

        requests = {
            celery_request.id: celery_request for celery_request in [*self.waiting, *self.running]
        }
        self.state = SimpleNamespace(
            requests=requests, active_requests=set(self.running), revoked=set()
        )
        self.panel["revoke"] = self._revoke
        monkeypatch.setattr("celery.worker.state", self.state)
        monkeypatch.setattr(control.Panel, "data", self.panel)
        self.revocations = Revocations(
            lambda task: task == "accepts",
            lambda request: self.cancelled.append(request.id),
            clock=lambda: self.now,
        )
        self.revocations.install()

    def _revoke(self, consumer: object, task_id: object, **options: object) -> str:
        self.revoked.append(task_id)
        return "ok"

    def ask(self, task: str, *, began: float, request: str = "r", group: str | None = "g") -> None:
        answer = self.panel[COMMAND](
            None, task_id=task, terminate=True, group=group, request=request, began=began
        )
        assert answer == "ok"


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker(
        [
            Task("w1"),
            Task("w2", "refuses"),
            Task("w3", gateway_group="h"),
            Task("begins", handed_over=object()),
        ],
        [Task("r1"), Task("r2")],
    )
    worker.install(monkeypatch)
    return worker


def test_tasks_that_were_running_are_revoked_alone(worker: Worker) -> None:
    """The requests to the tasks say nothing about the group: a token may allow only these jobs."""
    worker.now = 10.0
    worker.ask("r1", began=1.0)
    worker.ask("r2", began=2.0)
    worker.revocations.on_received(Task("w4"))
    assert (worker.revoked, worker.cancelled) == (["r1", "r2"], [])
    assert not worker.state.revoked


def test_a_task_that_began_after_the_request_shows_that_the_group_is_cancelled(
    worker: Worker,
) -> None:
    worker.now = 10.0
    worker.ask("r1", began=1.0)
    worker.now = 12.0
    worker.ask("r2", began=11.0)
    assert (worker.revoked, worker.cancelled) == (["r1", "r2", ["w1"]], ["w1"])
    for received in (Task("w4"), Task("w5", "refuses"), Task("w6", gateway_group="h")):
        worker.revocations.on_received(received)
    assert worker.state.revoked == {"w4"}
    worker.now += GROUP_REVOCATION_TIME
    worker.revocations.on_received(Task("w7"))
    assert worker.state.revoked == {"w4"}


def test_a_task_that_the_pool_has_got_is_not_reported_when_it_is_revoked(worker: Worker) -> None:
    """The task runs to its end, or Celery terminates it and sends a signal."""
    worker.panel["revoke"](None, ["w1", "begins", "r1", "unknown"])
    worker.panel["revoke"](None, "w2")
    assert worker.cancelled == ["w1", "w2"]


def test_another_request_shows_nothing(worker: Worker) -> None:
    worker.now = 10.0
    worker.ask("r1", began=1.0)
    worker.now = 12.0
    worker.ask("r2", began=11.0, request="s")
    worker.ask("r2", began=11.0, group=None)
    assert worker.revoked == ["r1", "r2", "r2"]
