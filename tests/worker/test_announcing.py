"""Announcements: what is said of a job without working on it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.worker import Job, announce, notices, process
from gateway.worker.notices import Notice, Notices
from gateway.worker.publisher import Receipt, Rejected, Unreachable
from gateway.worker.sender import sender_for
from tests.traceparents import OTHER, SPAN

from .fake import Fake
from .forking import fork, forks, joined
from .peer import DEADLINE, Peer

pytestmark = forks


def settled(fake: Fake) -> list[dict[str, Any]]:
    """What the fake got, once there is nothing more to come."""
    sender = sender_for(fake.url, None)
    with sender._changed:
        assert sender._changed.wait_for(sender._quiet, DEADLINE)
    return fake.got


def test_queued(peer: Peer) -> None:
    announce("video:42", message="third in line", parent="batch:1", data={"a": 1})
    (got,) = peer.wait_for(lambda got: got)
    assert got.job == "video:42"
    assert got.fields == {
        "status": "queued",
        "message": "third in line",
        "parent": "batch:1",
        "data": {"a": 1},
    }


def test_how_it_ended(fake: Fake) -> None:
    announce("a", status="failed", error=OSError("disk"), url=fake.url)
    announce("b", status="cancelled", parent=Job("c", url=fake.url), url=fake.url)
    assert settled(fake) == [
        {"job": "a", "status": "failed", "error": "OSError: disk"},
        {"job": "b", "status": "cancelled", "parent": "c"},
    ]


def test_the_span_it_belongs_to(fake: Fake) -> None:
    announce("a", traceparent=SPAN, url=fake.url)
    announce("b", traceparent=lambda: OTHER, url=fake.url)
    announce("c", traceparent=lambda: None, url=fake.url)
    assert [got.get("traceparent") for got in settled(fake)] == [SPAN, OTHER, None]
    with pytest.raises(ValueError, match=r"^traceparent "):
        announce("d", traceparent="x", url=fake.url)


def test_a_run_that_its_worker_goes_on_with(fake: Fake) -> None:
    announce("job", run="r1", url=fake.url)
    settled(fake)
    with Job("job", run="r1", url=fake.url):
        pass
    announced, first, *_ = fake.got
    assert (announced["start"], announced["run"]) == (True, "r1")
    assert (first["start"], first["run"]) == (True, "r1")


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
        ({"parent": "a b"}, ValueError, "parent is not a job id"),
        ({"message": 7}, TypeError, "message must be a str"),
        ({"data": {1}}, TypeError, "data cannot be written"),
        ({"url": "x"}, ValueError, "url must begin with"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        announce(**({"name": "job"} | arguments))


def test_a_gateway_that_is_away_hears_it_later(fake: Fake) -> None:
    fake.plan.append(Unreachable("reset"))
    announce("bad", url=fake.url)
    announce("good", url=fake.url)
    # Which of the two comes first then depends on when this thread has its turn.
    assert sorted(got["job"] for got in settled(fake)) == ["bad", "bad", "good"]


def test_a_rejection_is_logged(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    fake.plan.append(Rejected("401 a token is needed"))
    announce("job", url=fake.url)
    settled(fake)
    assert [r.message for r in caplog.records] == [
        f"job job: the gateway rejects that it is queued: 401 a token is needed [{fake.url}]"
    ]


def test_what_it_changes_is_none_of_its_business(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    fake.plan.append(Receipt(3, False, "final"))
    announce("job", url=fake.url)
    settled(fake)
    assert not caplog.records


def test_a_child_leaves_it_to_its_parent(fake: Fake) -> None:
    fake.door.clear()
    announce("first", url=fake.url)
    assert fake.inside.acquire(timeout=DEADLINE)
    announce("second", url=fake.url)

    def child() -> None:
        fake.door.set()
        fake.got.clear()
        process.flush_all()
        assert not fake.got

    pid = fork(child)
    fake.door.set()
    assert joined(pid) == 0
    assert [got["job"] for got in settled(fake)] == ["first", "second"]


def notice(job: str, *, expires: float = 60.0) -> Notice:
    return Notice(job, {"status": "queued"}, expires=expires)


def test_turns() -> None:
    waiting = Notices()
    for job in "abc":
        waiting.add(notice(job))
    taken = [waiting.take(report_due=True) for _ in range(4)]
    assert [t and t.job for t in taken] == ["a", None, "b", None]
    assert [waiting.take(report_due=False) for _ in range(2)] == [notice("c"), None]


def test_too_old() -> None:
    waiting = Notices()
    waiting.add(notice("a", expires=60.0))
    waiting.add(notice("b", expires=61.0))
    waiting.expire(60.0)
    assert waiting.take(report_due=False) == notice("b", expires=61.0)


def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "NOTICES", 1)
    waiting = Notices()
    said = [waiting.add(notice(job)) for job in "abc"]
    assert said == [None, "not announced: too many others wait", None]
    assert len(waiting) == 1
    waiting.take(report_due=False)
    assert [waiting.add(notice(job)) for job in "de"] == [None, said[1]]
