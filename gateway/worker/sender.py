"""The sender: one background thread per gateway URL that sends the snapshots of its jobs.

There is one thread per URL, so a gateway that hangs does not delay the jobs of another one. The
thread is a daemon, starts with the first report, sleeps while nothing is due, and ends when there
has been no job for a while. The thread takes the newest snapshot of a job when it sends, so there
is no queue of snapshots that could grow. `send_queue` decides what the thread sends, and when.

When the interpreter is finalizing, daemon threads have stopped, perhaps while they held the lock,
and a new thread would never run. From then on nothing here acquires the lock, starts a thread or
waits, and one log line lists the jobs whose last state is not sent.

It uses threads, the clock, randomness, the log, and the environment (`PROGRESS_GATEWAY_URL`,
`PROGRESS_GATEWAY_TOKEN`, `PROGRESS_GATEWAY_TOKEN_FILE`). The sender never uses an event loop, and
never changes an exception of the user's code.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from time import monotonic
from weakref import WeakValueDictionary

from . import process_state, publisher
from .announcement_queue import Announcement
from .limits import DEFAULT_URL, EXIT_TIMEOUT, FIRST_CONNECTION_TIMEOUT, IDLE_TIMEOUT, REPORTING_OFF
from .log import warn
from .publisher import Outcome, Publisher, Token, Unreachable
from .report import Closing, Report
from .send_queue import Item, LogLine, SendQueue
from .token import token_from_environment

__all__ = ["Sender", "sender_for"]

_thread_local = threading.local()
"""Has the attribute `is_sender_thread` in the senders' threads."""
_senders: WeakValueDictionary[tuple[str, Token], Sender] = WeakValueDictionary()
"""A sender remains while a job or its thread has a reference to it."""


def sender_for(url: str | None, token: Token) -> Sender:
    """Returns this process's sender for `url`. Arguments that are None come from the environment.

    Raises:
        ValueError, TypeError: An argument is invalid; the text names it.
    """
    if url is None:
        url = os.environ.get("PROGRESS_GATEWAY_URL") or DEFAULT_URL
    if sys.is_finalizing():
        return Sender(url, token)  # too late to send anything, and to import modules for checks
    if str(url).lower() == REPORTING_OFF:
        url, token = REPORTING_OFF, None
    else:
        if token is None:
            token = token_from_environment()
        publisher.check(url, token)
    key = (url if url == REPORTING_OFF else publisher.canonical(url)), token
    with process_state.lock:
        sender = _senders.get(key)
        if sender is None:
            sender = _senders[key] = Sender(url, token)
            process_state.senders.add(sender)
        return sender


class Sender:
    """Sends all reports and announcements for one gateway. With the URL `off` it sends nothing."""

    def __init__(self, url: str, token: Token) -> None:
        self.url = publisher.redacted(url) if url != REPORTING_OFF else REPORTING_OFF
        self.disabled = url == REPORTING_OFF
        self._publisher_arguments = url, token
        self._changed = threading.Condition(process_state.reentrant_lock)
        self._waiters: WeakValueDictionary[Report, threading.Condition] = WeakValueDictionary()
        self._thread: threading.Thread | None = None
        self._publisher: Publisher | None = None
        self._queue = SendQueue()
        self._in_flight = False
        """Whether a request with updates is running, or its outcome is being logged."""
        self._being_logged: set[Report] = set()
        """Reports whose log lines of the last outcome are not written yet."""
        self._logged_defect: str | None = None
        self._logged_thread_error: str | None = None
        self._logged_unsent = False

    def wake(self, report: Report) -> None:
        """Sends the report's snapshot soon. Takes microseconds, and raises no network error."""
        if self._cannot_send(report):
            return
        with process_state.lock:
            if report.store_shared_count():
                return
        with self._changed:
            log = self._queue.mark_changed(report, monotonic())
            for subject, _ in log:
                self._wake_waiters(subject)
            problem = None if report.closed else self._start_thread()
            self._changed.notify_all()
        self._log(log, problem)

    def announce(self, announcement: Announcement) -> None:
        """Sends an announcement soon. Takes microseconds, and raises no network error."""
        if self._cannot_send(announcement):
            return
        with self._changed:
            log = self._queue.announce(announcement)
            problem = self._start_thread()
            self._changed.notify_all()
        self._log(log, problem)

    def release(self, report: Report) -> None:
        """Sends the report's current state, and nothing after it."""
        if self._cannot_send(report):
            return
        with self._changed:
            self._queue.release(report, monotonic())
            self._changed.notify_all()

    def wait(self, report: Report, timeout: float) -> bool:
        """Waits until the gateway has the final state; returns False if it does not within
        `timeout` seconds.

        Returns True at once if the sender is off.
        """
        if self._cannot_send(report):
            return self.disabled
        with self._changed:
            if report.job not in self._queue.reports:
                self.wake(report)  # in a child that was forked after the final state was set
            # Each report with a waiting caller has its own condition. With a shared one, every
            # closed report would wake all callers.
            changed = self._waiters.setdefault(
                report, threading.Condition(process_state.reentrant_lock)
            )
            deadline = monotonic() + timeout
            if not self.must_not_wait(report) and timeout > 0 and self._start_thread() is None:
                while (remaining := deadline - monotonic()) > 0 and not self.wait_is_finished(
                    report
                ):
                    changed.wait(min(remaining, FIRST_CONNECTION_TIMEOUT))
            # Check for expired deadlines only after a timeout: if thousands of jobs end at the
            # same time, each of their callers would check all the others.
            log = [] if report.closed else self._queue.expire(monotonic())
            self._changed.notify_all()
        self._log(log)
        return report.delivered

    def wait_budget(self, report: Report) -> float:
        """Returns how many seconds a block should wait until its final state is sent.

        Zero if waiting is useless: there is no thread, or the outage is older than the timeout.
        """
        if self._thread is None or self.must_not_wait(report):
            return 0.0
        return self._queue.outage.wait_budget(report.timeout, now=monotonic())

    def wait_is_finished(self, report: Report) -> bool:
        """Returns whether the report is sent, or waiting for it has become useless."""
        return self.must_not_wait(report) or self._queue.outage.never_connected(monotonic())

    def must_not_wait(self, report: Report) -> bool:
        """Returns whether a caller must not wait: the report is sent, or this thread must not be
        blocked.

        A sender's thread can call this if the garbage collector closes a generator that was
        suspended inside a job's block. Such a thread must wait neither for itself nor for another
        sender.
        """
        if self.disabled or hasattr(_thread_local, "is_sender_thread") or sys.is_finalizing():
            return True
        # Wait also until the outcome is logged, because the process may exit after this.
        return (report.closed or report.deadline_passed) and report not in self._being_logged

    def flush(self) -> None:
        """At exit: waits for final states until their deadlines, and for other changes for
        `EXIT_TIMEOUT`."""
        if sys.is_finalizing():
            return
        queue = self._queue
        with self._changed:
            reports = list(queue.reports.values())
            if not self._is_idle() and self._start_thread() is None:
                self._changed.wait_for(
                    lambda: queue.outage.failures or self._is_idle(), EXIT_TIMEOUT
                )
        for report in reports:
            if report.deadline is not None and not report.closed:
                remaining = report.deadline - monotonic()
                self.wait(report, queue.outage.wait_budget(remaining, now=monotonic()))
        with self._changed:
            unsent = {r.job for r in queue.reports.values() if r.queued and not r.deadline_passed}
            reason = queue.outage.reason
        if unsent and queue.outage.failures and not self._logged_unsent:
            self._logged_unsent = True
            warn("%s: could not be sent to %s (%s)", _job_list(unsent), self.url, reason)

    def before_fork(self) -> None:
        """Reserves memory for the counts of the child."""
        self._queue.before_fork()

    def after_fork(self) -> None:
        """Resets the sender in the child. It keeps the reports, and sends them when they change."""
        self._changed = threading.Condition(process_state.reentrant_lock)
        self._waiters = WeakValueDictionary()
        self._thread = None
        self._in_flight, self._being_logged = False, set()
        self._queue.after_fork()
        if self._publisher is not None:
            self._publisher.close()

    def _cannot_send(self, subject: Report | Announcement) -> bool:
        """Returns True if the sender is off or the interpreter is finalizing. Logs the second case
        once."""
        if self.disabled:
            return True
        if not sys.is_finalizing():
            return False
        is_closed = isinstance(subject, Report) and subject.closed
        if not process_state.logged_finalizing and not is_closed:
            process_state.logged_finalizing = True
            warn(
                "job %s: not sent to %s, because the interpreter is shutting down",
                subject.job,
                self.url,
            )
        return True

    def _is_idle(self) -> bool:
        """Returns whether no request with updates is running, and there is nothing to send but
        renewals."""
        return not (self._in_flight or self._queue.has_changes)

    def _start_thread(self) -> RuntimeError | None:
        """Starts the thread if there is none. Returns the error if it cannot be started."""
        if self._thread is not None and self._thread.is_alive():
            return None
        try:
            thread = threading.Thread(target=self._run, name=f"progress {self.url}", daemon=True)
            thread.start()
        except RuntimeError as error:
            # The system has no more threads, the interpreter is shutting down, or it is a
            # subinterpreter without threads.
            self._queue.outage.reason = str(error)
            return error
        self._thread = thread
        process_state.flush_at_child_exit()
        return None

    def _run(self) -> None:
        """The thread's loop: publishes the next items and handles their outcomes, until it was idle
        for `IDLE_TIMEOUT`."""
        _thread_local.is_sender_thread = True
        while True:
            items = self._wait_for_items()
            if items is None:
                if self._publisher is not None:
                    self._publisher.close()
                with self._changed:
                    if self._queue.next_request_at(monotonic()) is not None:
                        continue
                    self._thread = None
                    return
            outcomes = self._publish(items)
            with self._changed:
                log = self._queue.handle_outcomes(
                    items, outcomes, now=monotonic(), random=os.urandom(1)[0] / 255
                )
                self._being_logged = {s for s, _ in log if isinstance(s, Report)}
            self._log(log)
            self._deliver_requests(items)
            with self._changed:
                reports = {s for s, *_ in items if isinstance(s, Report)} | self._being_logged
                self._being_logged, self._in_flight = set(), False
                for report in reports:
                    self._wake_waiters(report)
                self._changed.notify_all()

    def _deliver_requests(self, items: Sequence[Item]) -> None:
        """Calls the listeners of jobs that have new job requests. Raises nothing."""
        for subject, *_ in items:
            if isinstance(subject, Report) and subject.has_new_request:
                subject.has_new_request = False
                listener, request = subject.listener(), subject.request
                try:
                    if listener is not None and request is not None:
                        listener(request)
                except Exception as error:  # noqa: BLE001 - a user's defect must not end this thread
                    warn("job %s: on_request raised", subject.job, cause=error)

    def _publish(self, items: Sequence[Item]) -> list[Outcome]:
        """Publishes the items in one request. Raises nothing, because no defect may end this
        thread."""
        try:
            if self._publisher is None:
                with process_state.import_lock:
                    self._publisher = publisher.connect(*self._publisher_arguments)
            return self._publisher.publish([(item.job, item.fields) for item in items])
        except Exception as error:  # noqa: BLE001 - see above
            if repr(error) != self._logged_defect:
                self._logged_defect = repr(error)
                warn("unexpected error while sending to %s", self.url, cause=error)
            return [Unreachable(repr(error))] * len(items)

    def _wait_for_items(self) -> list[Item] | None:
        """Waits for the next items to send. Returns None if there were none for `IDLE_TIMEOUT`."""
        with self._changed:
            while True:
                now = monotonic()
                items = self._queue.next_items(now)
                if items:
                    self._in_flight = True
                    return items
                self._changed.notify_all()  # for callers whose jobs were abandoned
                next_at = self._queue.next_request_at(now)
                if next_at is not None:
                    self._changed.wait(max(next_at - now, 0.0))
                elif not self._changed.wait(IDLE_TIMEOUT):
                    return None

    def _wake_waiters(self, report: Report | Announcement | None) -> None:
        changed = self._waiters.get(report) if isinstance(report, Report) else None
        if changed is not None:
            changed.notify_all()

    def _log(self, log: Sequence[LogLine], problem: RuntimeError | None = None) -> None:
        for subject, text in log:
            if subject is None:
                warn("the gateway at %s %s", self.url, text)
            else:
                elsewhere = (
                    isinstance(subject, Report) and subject.closing is Closing.ENDED_ELSEWHERE
                )
                extra = {"job_ended_elsewhere": elsewhere}
                warn("job %s: %s [%s]", subject.job, text, self.url, extra=extra)
        if problem is not None and str(problem) != self._logged_thread_error:
            self._logged_thread_error = str(problem)
            warn("cannot start the thread that reports progress to %s: %s", self.url, problem)


def _job_list(jobs: set[str]) -> str:
    named = sorted(jobs)[:3]
    others = len(jobs) - len(named)
    return f"job{'s' * (len(jobs) > 1)} {', '.join(named)}" + (
        f" and {others} more" if others else ""
    )
