"""The handler that makes records a job's message."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from gateway.integrations.logging import JobHandler
from gateway.worker import Job, process
from tests.worker.peer import DEADLINE, Peer

Attach = Callable[[JobHandler], logging.Logger]


@pytest.fixture
def attach() -> Iterator[Attach]:
    """Adds a handler to the root, where all records come by, and takes it off again."""
    root = logging.getLogger()
    added: list[JobHandler] = []

    def attach(handler: JobHandler) -> logging.Logger:
        root.addHandler(handler)
        added.append(handler)
        return logging.getLogger("importer")

    yield attach
    for handler in added:
        root.removeHandler(handler)


def message(job: Job) -> str | None:
    return job._picture.message


def test_records_are_the_message(peer: Peer, attach: Attach) -> None:
    with Job("job") as job:
        log = attach(JobHandler(job, logging.WARNING))
        log.warning("row %d: no date", 7)
        log.info("too quiet")
        peer.wait_for(lambda got: got[-1].fields.get("message") if got else None)
    assert peer.got[-1].fields["message"] == "row 7: no date"


def test_as_formatted_and_bounded(peer: Peer, attach: Attach) -> None:
    with Job("job") as job:
        handler = JobHandler(job)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        attach(handler).error("x" * 5000)
    sent = peer.got[-1].fields["message"]
    assert sent.startswith("ERROR xxx")
    assert len(sent) == 1000


def test_the_job_is_found_when_a_record_comes(peer: Peer, attach: Attach) -> None:
    jobs: dict[str, Job] = {}
    log = attach(JobHandler(lambda: jobs["now"]))
    log.warning("nobody's")
    with Job("job") as jobs["now"]:
        log.warning("mine")
    assert message(jobs["now"]) == "mine"
    log.warning("too late")
    assert message(jobs["now"]) == "mine"


@pytest.mark.filterwarnings("error")
def test_it_never_raises(
    peer: Peer, attach: Attach, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)  # which only means that it is told

    def broken() -> Job:
        raise ZeroDivisionError("ouch")

    class Text:
        def __str__(self) -> str:
            raise KeyError("text")

    record = logging.LogRecord("importer", logging.WARNING, __file__, 1, "%s", (Text(),), None)
    with Job("job") as job:
        JobHandler(job).handle(record)
        JobHandler(broken).handle(record)
    shown = capsys.readouterr().err
    assert "KeyError: 'text'" in shown
    assert "ZeroDivisionError: ouch" in shown


def test_it_does_not_hear_its_own_sender(nowhere: str, attach: Attach) -> None:
    job = Job("job", url=nowhere)
    attach(JobHandler(job))
    job.update(done=1)
    with job._sender._changed:
        assert job._sender._changed.wait_for(lambda: job._sender._outage.failures >= 2, DEADLINE)
    assert message(job) is None
    job.hand_over()


def test_no_deadlock_with_a_sender_that_speaks_under_its_lock(peer: Peer, attach: Attach) -> None:
    """One thread logs, so it holds the handler's lock and wants the process's; another
    holds the process's and logs what the worker package says."""
    with Job("job") as job:
        handler = JobHandler(job)
        log = attach(handler)
        told = threading.Event()

        def speak() -> None:
            with process.lock:
                logging.getLogger("gateway.worker").warning("no thread to report progress")
            told.set()

        thread = threading.Thread(target=speak)
        assert handler.lock is not None
        with handler.lock:
            thread.start()
            assert told.wait(DEADLINE)
        thread.join(DEADLINE)
        log.warning("goes on")
    assert message(job) == "goes on"
