"""The sender: one background thread per gateway URL that sends the snapshots of its jobs.

There is one thread per URL, so a gateway that hangs does not delay the jobs of another one. The
thread is a daemon, starts with the first report, sleeps while nothing is due, and ends when there
has been no job for a while. It takes the newest snapshot of a job when it sends, so there is no
queue of snapshots that could grow. `send_queue` decides what it sends and when.

When the interpreter is finalizing, daemon threads have stopped, perhaps while they held the lock,
and a new thread would never run. From then on nothing here takes the lock, starts a thread or
waits, and one log line lists the jobs whose last state is not sent.

It uses threads, the clock, randomness, the log, and the environment (`PROGRESS_GATEWAY_URL`,
`PROGRESS_GATEWAY_TOKEN`, `PROGRESS_GATEWAY_TOKEN_FILE`). It never uses an event loop, and never
changes an exception of the user's code.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from time import monotonic
from weakref import WeakValueDictionary

from . import process, publisher
from .limits import DEFAULT_URL, EXIT, FIRST_CONTACT, IDLE, OFF
from .log import warn
from .one_shots import OneShot
from .publisher import Outcome, Publisher, Token, Unreachable
from .report import Report
from .send_queue import Item, LogLine, SendQueue
from .token import token_from_environment

__all__ = ["Sender", "sender_for"]

_thread = threading.local()
"""Has the attribute `sends` in the senders' threads."""
_senders: WeakValueDictionary[tuple[str, Token], Sender] = WeakValueDictionary()
"""A sender stays while a job or its thread has a reference to it."""


def sender_for(url: str | None, token: Token) -> Sender:
    """This process's sender for `url`. Arguments that are None come from the environment.

    Raises:
        ValueError, TypeError: An argument is invalid; the text names it.
    """
    if url is None:
        url = os.environ.get("PROGRESS_GATEWAY_URL") or DEFAULT_URL
    if sys.is_finalizing():
        return Sender(url, token)  # too late to send anything, and to import modules for checks
    if str(url).lower() == OFF:
        url, token = OFF, None
    else:
        if token is None:
            token = token_from_environment()
        publisher.check(url, token)
    key = (url if url == OFF else publisher.canonical(url)), token
    with process.lock:
        sender = _senders.get(key)
        if sender is None:
            sender = _senders[key] = Sender(url, token)
            process.members.add(sender)
        return sender


class Sender:
    """All reports and one-shot updates for one gateway. With the URL `off` it sends nothing."""

    def __init__(self, url: str, token: Token) -> None:
        self.url = publisher.shown(url) if url != OFF else OFF
        self.disabled = url == OFF
        self._where = url, token
        self._changed = threading.Condition(process.rlock)
        self._waiters: WeakValueDictionary[Report, threading.Condition] = WeakValueDictionary()
        self._thread: threading.Thread | None = None
        self._publisher: Publisher | None = None
        self._queue = SendQueue()
        self._in_flight = False
        """Whether a request is running, or its outcome is being logged."""
        self._being_logged: set[Report] = set()
        self._defect: str | None = None
        self._no_thread: str | None = None
        self._not_sent = False

    def wake(self, report: Report) -> None:
        """Send the report's snapshot soon. Takes microseconds, and raises no network error."""
        if self._cannot_send(report):
            return
        with process.lock:
            if report.share():
                return
        with self._changed:
            log = self._queue.touch(report, monotonic())
            for subject, _ in log:
                self._wake_waiters(subject)
            problem = None if report.settled else self._start()
            self._changed.notify_all()
        self._log(log, problem)

    def send_once(self, one_shot: OneShot) -> None:
        """Send a one-shot update soon. Takes microseconds, and raises no network error."""
        if self._cannot_send(one_shot):
            return
        with self._changed:
            log = self._queue.add(one_shot)
            problem = self._start()
            self._changed.notify_all()
        self._log(log, problem)

    def release(self, report: Report) -> None:
        """Send the report's current state, and nothing after it."""
        if self._cannot_send(report):
            return
        with self._changed:
            self._queue.release(report, monotonic())
            self._changed.notify_all()

    def wait(self, report: Report, timeout: float) -> bool:
        """Wait until the report's end is delivered; False if it was not within `timeout` seconds.

        Returns True at once if the sender is off.
        """
        if self._cannot_send(report):
            return self.disabled
        with self._changed:
            if report.job not in self._queue.reports:
                self.wake(report)  # in a child that was forked after the end was set
            # Each report with a waiting caller has its own condition. With a shared one, every
            # settled report would wake all callers.
            changed = self._waiters.setdefault(report, threading.Condition(process.rlock))
            until = monotonic() + timeout
            if not self.over(report) and timeout > 0 and self._start() is None:
                while (left := until - monotonic()) > 0 and not self.waited_enough(report):
                    changed.wait(min(left, FIRST_CONTACT))
            # Check for expired deadlines only after a timeout: if thousands of jobs end at the
            # same time, each of their callers would check all the others.
            log = [] if report.settled else self._queue.expire(monotonic())
            self._changed.notify_all()
        self._log(log)
        return report.delivered

    def wait_budget(self, report: Report) -> float:
        """How many seconds a block should wait for its end.

        Zero if waiting is useless: there is no thread, or the outage is older than the timeout.
        """
        if self._thread is None or self.over(report):
            return 0.0
        return self._queue.outage.wait_budget(report.timeout, now=monotonic())

    def waited_enough(self, report: Report) -> bool:
        """Whether there is nothing to wait for any more, or waiting has become useless."""
        return self.over(report) or self._queue.outage.in_vain(monotonic())

    def over(self, report: Report) -> bool:
        """Whether there is nothing to wait for any more, or this thread must not wait.

        A sender's thread can get here if the garbage collector closes a generator that was
        suspended inside a job's block. It must wait neither for itself nor for another sender.
        """
        if self.disabled or hasattr(_thread, "sends") or sys.is_finalizing():
            return True
        # Wait until the outcome is logged too, because the process may exit after this.
        return (report.settled or report.overdue) and report not in self._being_logged

    def flush(self) -> None:
        """At exit: wait for ends until their deadlines, and for other changes for `EXIT`
        seconds."""
        if sys.is_finalizing():
            return
        queue = self._queue
        with self._changed:
            reports = list(queue.reports.values())
            if not self._quiet() and self._start() is None:
                self._changed.wait_for(lambda: queue.outage.failures or self._quiet(), EXIT)
        for report in reports:
            if report.deadline is not None and not report.settled:
                left = report.deadline - monotonic()
                self.wait(report, queue.outage.wait_budget(left, now=monotonic()))
        with self._changed:
            unsent = {r.job for r in queue.reports.values() if r.queued and not r.overdue}
            why = queue.outage.why
        if unsent and queue.outage.failures and not self._not_sent:
            self._not_sent = True
            warn("%s: could not be sent to %s (%s)", _names(unsent), self.url, why)

    def before_fork(self) -> None:
        """Reserve memory for the counts of the child."""
        self._queue.before_fork()

    def after_fork(self) -> None:
        """Reset the sender in the child. The jobs stay known, and are sent when they are
        touched."""
        self._changed = threading.Condition(process.rlock)
        self._waiters = WeakValueDictionary()
        self._thread = None
        self._in_flight, self._being_logged = False, set()
        self._queue.after_fork()
        if self._publisher is not None:
            self._publisher.close()

    def _cannot_send(self, subject: Report | OneShot) -> bool:
        """Whether the sender is off, or the interpreter is finalizing, which is logged once."""
        if self.disabled:
            return True
        if not sys.is_finalizing():
            return False
        settled = isinstance(subject, Report) and subject.settled
        if not process.too_late_logged and not settled:
            process.too_late_logged = True
            warn(
                "job %s: not sent to %s, as the interpreter is shutting down",
                subject.job,
                self.url,
            )
        return True

    def _quiet(self) -> bool:
        return not (self._in_flight or self._queue.pending)

    def _start(self) -> RuntimeError | None:
        """Start the thread if there is none. Returns the error if it cannot be started."""
        if self._thread is not None and self._thread.is_alive():
            return None
        try:
            thread = threading.Thread(target=self._run, name=f"progress {self.url}", daemon=True)
            thread.start()
        except RuntimeError as error:
            # No more threads, the interpreter is ending, or it is a subinterpreter that has none.
            self._queue.outage.why = str(error)
            return error
        self._thread = thread
        process.flush_in_child()
        return None

    def _run(self) -> None:
        """The thread: take items, publish them, handle the outcomes, until nothing is left."""
        _thread.sends = True
        while True:
            items = self._take()
            if items is None:
                if self._publisher is not None:
                    self._publisher.close()
                with self._changed:
                    if self._queue.next_at(monotonic()) is not None:
                        continue
                    self._thread = None
                    return
            outcomes = self._carry(items)
            with self._changed:
                log = self._queue.settle(
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
        """Call the listeners of jobs that have new requests. Raises nothing."""
        for subject, *_ in items:
            if isinstance(subject, Report) and subject.has_new_request:
                subject.has_new_request = False
                listener, request = subject.listener(), subject.request
                try:
                    if listener is not None and request is not None:
                        listener(request)
                except Exception as error:  # noqa: BLE001 - a user's defect must not end this thread
                    warn("job %s: on_request raised", subject.job, cause=error)

    def _carry(self, items: Sequence[Item]) -> list[Outcome]:
        """Publish the items in one request. Raises nothing, because no defect may end this
        thread."""
        try:
            if self._publisher is None:
                with process.importing:
                    self._publisher = publisher.connect(*self._where)
            return self._publisher.publish([(item.job, item.fields) for item in items])
        except Exception as error:  # noqa: BLE001 - see above
            if repr(error) != self._defect:
                self._defect = repr(error)
                warn("unexpected error while sending to %s", self.url, cause=error)
            return [Unreachable(repr(error))] * len(items)

    def _take(self) -> list[Item] | None:
        """Wait for the next items to send. None: there was nothing to send for `IDLE` seconds."""
        with self._changed:
            while True:
                now = monotonic()
                items = self._queue.take(now)
                if items:
                    self._in_flight = True
                    return items
                self._changed.notify_all()  # wake callers whose jobs were abandoned
                at = self._queue.next_at(now)
                if at is not None:
                    self._changed.wait(max(at - now, 0.0))
                elif not self._changed.wait(IDLE):
                    return None

    def _wake_waiters(self, report: Report | OneShot | None) -> None:
        changed = self._waiters.get(report) if isinstance(report, Report) else None
        if changed is not None:
            changed.notify_all()

    def _log(self, log: Sequence[LogLine], problem: RuntimeError | None = None) -> None:
        for subject, text in log:
            if subject is None:
                warn("the gateway at %s %s", self.url, text)
            else:
                elsewhere = isinstance(subject, Report) and subject.ended_elsewhere
                extra = {"job_ended_elsewhere": elsewhere}
                warn("job %s: %s [%s]", subject.job, text, self.url, extra=extra)
        if problem is not None and str(problem) != self._no_thread:
            self._no_thread = str(problem)
            warn("cannot start the thread that reports progress to %s: %s", self.url, problem)


def _names(jobs: set[str]) -> str:
    first = sorted(jobs)[:3]
    more = len(jobs) - len(first)
    return f"job{'s' * (len(jobs) > 1)} {', '.join(first)}" + (f" and {more} more" if more else "")
