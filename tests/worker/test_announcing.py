"""Announcements: reports on a job by a program that is not its worker."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.worker import Job, announce, announcement_queue, process_state
from gateway.worker.announcement_queue import Announcement, AnnouncementQueue
from gateway.worker.publisher import PublishResult, Rejected, Unreachable
from gateway.worker.sender import sender_for
from tests.traceparents import OTHER, SPAN

from .fake import FakePublisher
from .fake_gateway import DEADLINE, FakeGateway
from .forking import fork, forks, joined

pytestmark = forks


def updates_when_idle(fake: FakePublisher) -> list[dict[str, Any]]:
    """Returns the updates that the fake received, when no more are pending."""
    sender = sender_for(fake.url, None)
    with sender._changed:
        assert sender._changed.wait_for(sender._is_idle, DEADLINE)
    return fake.updates


def test_announce_queued(fake_gateway: FakeGateway) -> None:
    more: dict[str, Any] = {"weight": 2, "data": {"a": 1}, "accepts": {"pause", "cancel"}}
    announce("video:42", message="third in line", **more)
    (request,) = fake_gateway.wait_for(lambda got: got)
    assert request.job == "video:42"
    assert request.fields == {
        "status": "queued",
        "accepts": ["cancel", "pause"],
        "message": "third in line",
        "weight": 2,
        "data": {"a": 1},
    }


def test_announce_an_end(fake: FakePublisher) -> None:
    announce("a", status="failed", error=OSError("disk"), url=fake.url)
    announce("b", status="cancelled", children=None, url=fake.url)
    assert updates_when_idle(fake) == [
        {"job": "a", "status": "failed", "error": "OSError: disk"},
        {"job": "b", "status": "cancelled", "children": None},
    ]


def test_announce_with_a_traceparent(fake: FakePublisher) -> None:
    announce("a", traceparent=SPAN, url=fake.url)
    announce("b", traceparent=lambda: OTHER, url=fake.url)
    announce("c", traceparent=lambda: None, url=fake.url)
    assert [got.get("traceparent") for got in updates_when_idle(fake)] == [SPAN, OTHER, None]
    with pytest.raises(ValueError, match=r"^traceparent "):
        announce("d", traceparent="x", url=fake.url)


def test_announce_with_a_run_that_the_worker_continues(fake: FakePublisher) -> None:
    announce("job", run="r1", url=fake.url)
    updates_when_idle(fake)
    with Job("job", run="r1", url=fake.url):
        pass
    announced, first_report, *_ = fake.updates
    assert (announced["start"], announced["run"]) == (True, "r1")
    assert (first_report["start"], first_report["run"]) == (True, "r1")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"name": "a b"}, ValueError, "name is not a job id"),
        ({"status": "running"}, ValueError, "status must be one of queued"),
        ({"status": []}, ValueError, "status must be one of queued"),
        ({"run": ""}, ValueError, "run must have 1-64"),
        ({"run": "x" * 65}, ValueError, "run must have 1-64"),
        ({"run": 7}, TypeError, "run must be a str"),
        ({"error": 7}, TypeError, "error must be a str"),
        ({"weight": 0}, ValueError, "weight must be between 0.001 and 1000"),
        ({"message": 7}, TypeError, "message must be a str"),
        ({"data": {1}}, TypeError, "data cannot be written"),
        ({"url": "x"}, ValueError, "url must begin with"),
    ],
)
def test_invalid_arguments_raise(
    arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        announce(**({"name": "job"} | arguments))


def test_an_announcement_is_sent_after_an_outage(fake: FakePublisher) -> None:
    fake.results.append(Unreachable("reset"))
    announce("bad", url=fake.url)
    announce("good", url=fake.url)
    # Which of the two is first then depends on the scheduling of this thread.
    assert sorted(got["job"] for got in updates_when_idle(fake)) == ["bad", "bad", "good"]


def test_a_rejection_is_logged(fake: FakePublisher, caplog: pytest.LogCaptureFixture) -> None:
    fake.results.append(Rejected("401 a token is needed"))
    announce("job", url=fake.url)
    updates_when_idle(fake)
    assert [r.message for r in caplog.records] == [
        f"job job: the gateway rejects that it is queued: 401 a token is needed [{fake.url}]"
    ]


def test_an_unchanged_answer_to_an_announcement_is_not_logged(
    fake: FakePublisher, caplog: pytest.LogCaptureFixture
) -> None:
    fake.results.append(PublishResult(3, False, "final"))
    announce("job", url=fake.url)
    updates_when_idle(fake)
    assert not caplog.records


def test_a_forked_child_does_not_send_its_parents_announcements(fake: FakePublisher) -> None:
    fake.requests_allowed.clear()
    announce("first", url=fake.url)
    assert fake.started_requests.acquire(timeout=DEADLINE)
    announce("second", url=fake.url)

    def child() -> None:
        fake.requests_allowed.set()
        fake.updates.clear()
        process_state.flush_all()
        assert not fake.updates

    pid = fork(child)
    fake.requests_allowed.set()
    assert joined(pid) == 0
    assert [got["job"] for got in updates_when_idle(fake)] == ["first", "second"]


def announcement(job: str, *, expires: float = 60.0) -> Announcement:
    return Announcement(job, {"status": "queued"}, expires=expires)


def never(job: str) -> bool:
    return False


def test_announcements_and_reports_take_turns() -> None:
    waiting = AnnouncementQueue()
    for job in "abc":
        waiting.add(announcement(job))
    taken = [waiting.next(never, report_due=True) for _ in range(4)]
    assert [t and t.job for t in taken] == ["a", None, "b", None]
    assert [waiting.next(never, report_due=False) for _ in range(2)] == [announcement("c"), None]


def test_an_expired_announcement_is_dropped() -> None:
    waiting = AnnouncementQueue()
    waiting.add(announcement("a", expires=60.0))
    waiting.add(announcement("b", expires=61.0))
    waiting.expire(60.0)
    assert waiting.next(never, report_due=False) == announcement("b", expires=61.0)


def test_announcements_beyond_the_limit_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcement_queue, "MAX_ANNOUNCEMENTS", 1)
    waiting = AnnouncementQueue()
    outcomes = [waiting.add(announcement(job)) for job in "abc"]
    assert outcomes == [None, "not announced: 1 announcements are already waiting", None]
    assert len(waiting) == 1
    waiting.next(never, report_due=False)
    assert [waiting.add(announcement(job)) for job in "de"] == [None, outcomes[1]]
