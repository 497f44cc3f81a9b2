"""The log handler that sets a job's message."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from gateway.integrations.logging import JobHandler
from gateway.worker import Job, process_state
from tests.worker.fake_gateway import DEADLINE, FakeGateway

Attach = Callable[[JobHandler], logging.Logger]


@pytest.fixture
def attach() -> Iterator[Attach]:
    """Adds a handler to the root logger, which gets all records, and removes it again."""
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
    return job._snapshot.message


def test_log_records_become_the_message(fake_gateway: FakeGateway, attach: Attach) -> None:
    with Job("job") as job:
        log = attach(JobHandler(job, logging.WARNING))
        log.warning("row %d: no date", 7)
        log.info("too quiet")
        fake_gateway.wait_for(lambda got: got[-1].fields.get("message") if got else None)
    assert fake_gateway.received[-1].fields["message"] == "row 7: no date"


def test_the_message_is_the_formatted_record_cut_to_the_limit(
    fake_gateway: FakeGateway, attach: Attach
) -> None:
    with Job("job") as job:
        handler = JobHandler(job)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        attach(handler).error("x" * 5000)
    message = fake_gateway.received[-1].fields["message"]
    assert message.startswith("ERROR xxx")
    assert len(message) == 1000


def test_the_job_is_looked_up_for_each_record(fake_gateway: FakeGateway, attach: Attach) -> None:
    jobs: dict[str, Job] = {}
    log = attach(JobHandler(lambda: jobs["now"]))
    log.warning("nobody's")
    with Job("job") as jobs["now"]:
        log.warning("mine")
    assert message(jobs["now"]) == "mine"
    log.warning("too late")
    assert message(jobs["now"]) == "mine"


@pytest.mark.filterwarnings("error")
def test_the_handler_never_raises(
    fake_gateway: FakeGateway,
    attach: Attach,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)  # which only means that it is warned

    def broken() -> Job:
        raise ZeroDivisionError("ouch")

    class Text:
        def __str__(self) -> str:
            raise KeyError("text")

    record = logging.LogRecord("importer", logging.WARNING, __file__, 1, "%s", (Text(),), None)
    with Job("job") as job:
        JobHandler(job).handle(record)
        JobHandler(broken).handle(record)
    stderr = capsys.readouterr().err
    assert "KeyError: 'text'" in stderr
    assert "ZeroDivisionError: ouch" in stderr


def test_log_lines_of_the_sender_are_ignored(nowhere: str, attach: Attach) -> None:
    job = Job("job", url=nowhere)
    attach(JobHandler(job))
    job.update(done=1)
    with job._sender._changed:
        assert job._sender._changed.wait_for(
            lambda: job._sender._queue.outage.failures >= 2, DEADLINE
        )
    assert message(job) is None
    job.release()


def test_a_log_line_under_the_senders_lock_does_not_deadlock(
    fake_gateway: FakeGateway, attach: Attach
) -> None:
    """One thread logs, so it holds the handler's lock and waits for the process's. Another thread
    holds the process's lock and logs a warning of the worker package."""
    with Job("job") as job:
        handler = JobHandler(job)
        log = attach(handler)
        was_received = threading.Event()

        def speak() -> None:
            with process_state.lock:
                logging.getLogger("gateway.worker").warning("no thread to report progress")
            was_received.set()

        thread = threading.Thread(target=speak)
        assert handler.lock is not None
        with handler.lock:
            thread.start()
            assert was_received.wait(DEADLINE)
        thread.join(DEADLINE)
        log.warning("goes on")
    assert message(job) == "goes on"
