"""`Job` from the outside: what a gateway gets of it, and what the user's code feels."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import threading
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import pytest

from gateway.worker import Job

from .fake import Fake, until
from .peer import DEADLINE, Peer, problem, receipt


def test_a_whole_life(peer: Peer) -> None:
    with Job("video:42", total=3, unit="frames", parent="batch:1", data={"a": 1}) as job:
        assert job.status == "running"
        assert list(job.track("abc")) == ["a", "b", "c"]
        until(job, lambda: job.attempt)
    first, last = peer.got[0].fields, peer.got[-1].fields
    assert first["start"] is True
    assert (first["total"], first["unit"], first["parent"]) == (3, "frames", "batch:1")
    assert first["data"] == {"a": 1}
    assert (last["status"], last["percent"], last["done"]) == ("succeeded", 100, 3)
    assert last["attempt"] == 1
    assert "start" not in last
    assert len(peer.ends("video:42")) == 1
    assert job.status == "succeeded"
    assert not job.superseded
    assert repr(job) == f"<Job video:42 succeeded at {peer.url}>"
    assert job.url == peer.url


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("bad"), "failed", "ValueError: bad"),
        (KeyboardInterrupt(), "cancelled", None),
        (SystemExit(0), "succeeded", None),
        (SystemExit(2), "failed", "SystemExit: 2"),
        (asyncio.CancelledError(), "cancelled", None),
        (ValueError("x" * 5000), "failed", "ValueError: " + "x" * 3987 + "…"),
    ],
)
def test_exceptions_end_it_and_go_on(
    peer: Peer, error: BaseException, status: str, text: str | None
) -> None:
    with pytest.raises(type(error)) as caught, Job("job"):
        raise error
    assert caught.value is error
    assert error.__context__ is None
    (end,) = peer.ends("job")
    assert (end.fields["status"], end.fields.get("error")) == (status, text)


def test_an_end_by_hand_comes_first(peer: Peer) -> None:
    with Job("a") as job:
        job.fail(TypeError("t"), "see the log")
    with Job("b") as job:
        job.cancel("not needed")
    with Job("c") as job:
        job.succeed("enough")
        job.fail("no")
    told = [
        (g.fields["status"], g.fields.get("error"), g.fields["message"])
        for name in "abc"
        for g in peer.ends(name)
    ]
    assert told == [
        ("failed", "TypeError: t", "see the log"),
        ("cancelled", None, "not needed"),
        ("succeeded", None, "enough"),
    ]


def test_without_a_block(peer: Peer) -> None:
    parent = Job("parent")
    job = Job("job", parent=parent)
    with pytest.raises(RuntimeError, match="has not ended"):
        job.wait()
    job.update(message="working")
    until(job, lambda: job.attempt)
    job.succeed()
    assert job.wait()
    assert job.wait(timeout=0)
    assert peer.got[-1].fields["parent"] == "parent"
    assert peer.of("parent") == []


def test_a_job_is_one_attempt(peer: Peer) -> None:
    job = Job("job")
    with job, pytest.raises(RuntimeError, match="one attempt"), job:
        pass
    with Job("job") as second:
        pass
    assert peer.ends("job")[-1].fields["status"] == "succeeded"
    assert second.attempt == 2


def test_the_last_state_wins_and_the_pace_is_kept(fake: Fake) -> None:
    sent: list[float] = []
    fake.seen = lambda fields: sent.append(job._report.sent_at)
    job = Job("job", url=fake.url, total=200_000)
    with job:
        for i in range(200_001):
            job.update(done=i)
        until(job, lambda: fake.got and fake.got[-1].get("done") == 200_000)
    assert len(sent) > 2
    assert all(b - a >= 0.05 for a, b in pairwise(sent[:-1]))
    assert fake.got[-1]["status"] == "succeeded"


def test_track_counts_and_totals(peer: Peer) -> None:
    def endless() -> Iterator[int]:
        yield from range(2)

    job = Job("job")
    span = job._picture.stage.span
    for _ in job.track([1, 2, 3]):
        pass
    assert (span.done, span.total) == (3, 3)
    for item in job.track(range(4)):
        if item == 2:
            break
    assert (span.done, span.total) == (5, 7)
    for _ in job.track([1]):  # announced already
        pass
    assert (span.done, span.total) == (6, 7)
    assert list(job.track(endless())) == [0, 1]
    assert (span.done, span.total) == (8, 7)
    assert list(job.track(endless(), total=2)) == [0, 1]
    assert (span.done, span.total) == (10, 10)
    job.succeed()
    assert job.wait()


async def test_track_async(peer: Peer) -> None:
    async def items() -> AsyncIterator[int]:
        for i in range(3):
            yield i

    async with Job("job") as job:
        assert [i async for i in job.track(items(), total=3)] == [0, 1, 2]
    assert peer.got[-1].fields["done"] == 3


def test_many_threads(peer: Peer) -> None:
    with Job("job", total=80_000) as job:

        def work() -> None:
            for _ in range(10_000):
                job.advance()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert peer.got[-1].fields["done"] == 80_000
    assert len([t for t in threading.enumerate() if t.name == f"progress {peer.url}"]) == 1


def test_the_lease_is_beaten_and_carries_the_whole_picture(peer: Peer) -> None:
    with Job("job", lease=1.0, message="m", total=4):
        peer.wait_for(lambda got: len(got) >= 4)
    _, *beats, _ = peer.got
    assert all(b.fields["message"] == "m" and b.fields["attempt"] == 1 for b in beats)
    assert all(b.at - a.at > 0.3 for a, b in zip(peer.got, beats, strict=False))


def test_a_lost_record_is_made_again(peer: Peer) -> None:
    with Job("job", lease=1.0, message="m") as job:
        until(job, lambda: job.attempt)
        peer.attempts.clear()
        seen = len(peer.got)
        peer.wait_for(lambda got: len(got) > seen)
    assert peer.attempts["job"][0] == 1
    assert peer.got[-1].fields["message"] == "m"


def test_a_job_that_nobody_holds_is_left_to_its_lease(peer: Peer) -> None:
    job = Job("job", lease=1.0)
    job.update(done=1)
    peer.wait_for(lambda got: len(got) == 2)  # a first beat
    sender = job._sender
    del job
    gc.collect()
    with sender._changed:
        assert sender._changed.wait_for(lambda: "job" not in sender._reports, DEADLINE)
    assert len(peer.of("job")) == 2


def test_superseded(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    with Job("job") as job:
        until(job, lambda: job.attempt)
        peer.attempts["job"] = 2, "another"
        job.update(done=1)
        until(job, lambda: job.superseded)
        job.update(done=2)
    assert job.superseded
    assert [r.message for r in caplog.records] == [
        f"job job: superseded by attempt 2; its updates are ignored from now on [{peer.url}]"
    ]
    assert peer.ends("job") == []
    assert not job.wait()


def test_a_newer_job_of_this_process_supersedes(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("job") as old:
        until(old, lambda: old.attempt)
        with Job("job") as new:
            assert old.superseded
            old.update(done=1)
    assert new.attempt == 2
    assert not new.superseded
    assert [r.message for r in caplog.records] == [
        f"job job: superseded by a newer Job of this process [{peer.url}]"
    ]


def test_somebody_else_ended_it(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    with Job("job") as job:
        until(job, lambda: job.attempt)
        peer.plan.append(receipt(1, "final"))
        job.update(done=1)
    assert "somebody else has ended it" in caplog.text
    assert not job.superseded


def test_a_rejected_field_does_not_cost_the_end(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.always = lambda got: (
        problem(422, "data: not here", field="data")(got)
        if "data" in got.fields
        else peer._usual(got)
    )
    with Job("job", data={"a": 1}) as job:
        until(job, lambda: job.attempt)
        job.update(message="m")
    assert len([g for g in peer.got if "data" in g.fields]) == 1
    assert peer.got[-1].fields["status"] == "succeeded"
    assert [r.message for r in caplog.records] == [
        f"job job: the gateway refuses its data, which is left out: 422 data: not here [{peer.url}]"
    ]


def test_a_rejection_is_logged_once_and_the_end_not_waited_for(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.always = problem(401, "a token is needed")
    with Job("job") as job:
        peer.wait_for(lambda got: got)
        job.update(done=1)
    assert not job.wait()
    assert 1 <= len(peer.got) - len(peer.ends("job")) <= 2
    assert [r.message.partition(" [")[0] for r in caplog.records] == [
        "job job: the gateway rejects its updates: 401 a token is needed",
        "job job: the gateway rejects its end (succeeded): 401 a token is needed",
    ]


def test_the_token(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", "from-env")
    with Job("a"):
        pass
    with Job("b", token="given"):  # noqa: S106 - of this test alone
        pass
    assert [peer.of(n)[0].headers["Authorization"] for n in "ab"] == [
        "Bearer from-env",
        "Bearer given",
    ]


def test_default_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_URL", "")
    assert Job("job").url == "http://127.0.0.1:8000"
    monkeypatch.delenv("GATEWAY_URL")
    assert Job("job").url == "http://127.0.0.1:8000"


def test_a_log_handler_may_report(peer: Peer) -> None:
    """A handler that sets `message` takes the job's lock inside the log's: no deadlock."""
    log = logging.getLogger("gateway.worker")
    with Job("job") as job:

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                job.update(message=record.getMessage())

        handler = Handler()
        log.addHandler(handler)
        try:
            job.phase("a", share=1)
            job.phase("b", share=1)
            peer.wait_for(lambda got: got and "no share" in got[-1].fields.get("message", ""))
        finally:
            log.removeHandler(handler)


def test_handed_over(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    with Job("job", url=fake.url) as job:
        until(job, lambda: job.attempt)
        job.hand_over()
        job.update(done=1)
    assert not job.wait()
    assert [got["status"] for got in fake.got] == ["running"]
    assert not caplog.records


def test_an_end_is_not_handed_over(fake: Fake) -> None:
    job = Job("job", url=fake.url)
    job.fail("x")
    job.hand_over()
    assert job.wait()


def test_it_is_not_sent_to_another_process(fake: Fake) -> None:
    job = Job("job", url=fake.url)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"send its name and its run; Job\(name, run=run\)"):
            attempt(job)
