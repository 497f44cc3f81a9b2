"""The sender: one background thread per gateway URL that brings its jobs' pictures there.

A thread per URL, so that a gateway that hangs delays no job of another one. The thread is
a daemon, starts with the first report, sleeps when nothing is due, and ends when there has
been no job for a while. It takes the newest picture of a job when it sends, so there is no
queue of pictures that could grow: the schedule holds times. While the gateway is away
nothing is sent but one try after each pause, of the job that has waited longest. Beside
the jobs there are notices: what is said of a job by somebody who does not work on it. They
take turns with the jobs.

May touch: threads, the clock, the log, the environment (`GATEWAY_URL`, `GATEWAY_TOKEN`,
`GATEWAY_TOKEN_FILE`).
Never an event loop, never the user's exceptions.
"""

from __future__ import annotations

import os
import threading
from math import inf
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from . import process, publisher
from .limits import DEFAULT_URL, EXIT, IDLE, OVERDUE
from .log import warn
from .notices import Notice, Notices
from .outage import Outage
from .publisher import Publisher, Receipt, Rejected, Token, Unreachable
from .report import Report
from .schedule import Schedule
from .token import token_of_environment

__all__ = ["Sender", "sender_for"]

Outcome = Receipt | Unreachable | Rejected

_here = threading.local()
"""Has `sends` in the senders' threads."""
_senders: WeakValueDictionary[tuple[str, Token], Sender] = WeakValueDictionary()
"""Each lives for as long as a job holds it, or its thread."""


def sender_for(url: str | None, token: Token) -> Sender:
    """This process's sender to `url`; what is None is as the environment says.

    Raises ValueError or TypeError naming the argument.
    """
    if url is None:
        url = os.environ.get("GATEWAY_URL") or DEFAULT_URL
    if token is None:
        token = token_of_environment()
    publisher.check(url, token)
    with process.lock:
        sender = _senders.get((url, token))
        if sender is None:
            sender = _senders[url, token] = Sender(url, token)
            process.members.add(sender)
        return sender


class Sender:
    """All reports and notices that go to one gateway."""

    def __init__(self, url: str, token: Token) -> None:
        self.url = publisher.shown(url)
        self._where = url, token
        self._changed = threading.Condition(process.lock)
        self._waiters: WeakValueDictionary[Report, threading.Condition] = WeakValueDictionary()
        self._thread: threading.Thread | None = None
        self._publisher: Publisher | None = None
        self._reports: dict[str, Report] = {}
        self._schedule = Schedule()
        self._notices = Notices()
        self._flying = False  # a request is under way, or the log is told what came of it
        self._saying: set[Report] = set()  # of these
        self._outage = Outage()
        self._defect: str | None = None

    def wake(self, report: Report) -> None:
        """Have the report's picture sent soon. Microseconds; never raises for the network."""
        with self._changed:
            if report.settled or (report.queued and not report.ended):
                return
            other, said = self._adopt(report)
            self._schedule.add(report, report.next_due(monotonic()))
            report.queued = True
            problem = self._start()
            self._changed.notify_all()
        self._say(other, said)
        self._complain(problem)

    def tell(self, notice: Notice) -> None:
        """Have a notice sent soon. Microseconds; never raises for the network."""
        with self._changed:
            said = self._notices.add(notice)
            problem = self._start()
            self._changed.notify_all()
        self._say(notice, said)
        self._complain(problem)

    def drop(self, report: Report) -> None:
        """Send nothing more of the report."""
        with self._changed:
            report.settled = True
            self._drop_settled(report)
            self._changed.notify_all()

    def wait(self, report: Report, timeout: float) -> bool:
        """Wait until the report's end is delivered; False if it was not within `timeout` s."""
        with self._changed:
            if report.job not in self._reports:
                self.wake(report)  # in a child that was forked after the end was set
            # Each report has a condition of its own, for as long as somebody waits: with a
            # shared one, many that wait would all be woken for each that is settled.
            changed = self._waiters.setdefault(report, threading.Condition(process.lock))
            if not self.over(report) and self._start() is None:
                changed.wait_for(lambda: self.over(report), timeout)
            said = report.expire(self._outage.why, now=monotonic())
            if said is not None:
                self._drop_late()
                changed.notify_all()
        self._say(report, said)
        return report.delivered

    def patience(self, report: Report) -> float:
        """How many seconds a block is to wait for its end: none if it is in vain.

        It is without a thread, and in an outage that others have waited for.
        """
        since = self._outage.since
        vain = self._thread is None or (since is not None and monotonic() - since > report.timeout)
        return 0.0 if vain else report.timeout

    def over(self, report: Report) -> bool:
        """Whether there is nothing to wait for any more, or not here.

        A sender's thread may come by: where the collector finds a generator that was left
        inside of a job's block. It waits neither for itself nor for another sender.
        """
        if hasattr(_here, "sends"):
            return True
        # Not before the log has it too: this may be the last thing the process does.
        return (report.settled or report.overdue) and report not in self._saying

    def flush(self) -> None:
        """Wait for ends until their deadlines and for other changes a moment; at exit."""
        with self._changed:
            reports = list(self._reports.values())
            if not self._quiet() and self._start() is None:
                self._changed.wait_for(lambda: self._outage.failures or self._quiet(), EXIT)
        for report in reports:
            if report.deadline is not None:
                self.wait(report, report.deadline - monotonic())

    def after_fork(self) -> None:
        """Start afresh in a child: the jobs stay known, and are sent when they are touched."""
        self._changed = threading.Condition(process.lock)
        self._waiters = WeakValueDictionary()
        self._thread = None
        self._schedule = Schedule()
        self._flying, self._saying = False, set()
        self._outage = Outage()
        # Notices, and what has ended, are for the parent to deliver.
        self._notices = Notices()
        self._reports = {job: r for job, r in self._reports.items() if not r.ended}
        for report in self._reports.values():
            report.queued = False
        if self._publisher is not None:
            self._publisher.close()

    def _quiet(self) -> bool:
        waiting = self._notices or any(r.queued for r in self._reports.values())
        return not (self._flying or waiting)

    def _adopt(self, report: Report) -> tuple[Report, str | None]:
        """Make it the report of its job. An older one has had its time."""
        other = self._reports.get(report.job, report)
        self._reports[report.job] = report
        if other is report:
            return other, None
        # The gateway would say the same, unless the `start` of the older came second.
        said = other.superseded_here()
        self._wake_waiters(other)
        return other, said

    def _start(self) -> RuntimeError | None:
        """Start the thread if there is none. Returns why it cannot."""
        if self._thread is not None and self._thread.is_alive():
            return None
        thread = threading.Thread(target=self._run, name=f"progress {self.url}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is ending
            self._outage.why = str(error)
            return error
        self._thread = thread
        process.flush_in_child()
        return None

    def _run(self) -> None:
        """The thread: take, carry, take note, until there is nothing left to do."""
        _here.sends = True
        while True:
            taken = self._take()
            if taken is None:
                if self._publisher is not None:
                    self._publisher.close()
                with self._changed:
                    if self._schedule or self._notices:
                        continue
                    self._thread = None
                    return
            subject, request = taken
            outcome = self._carry(subject.job, request)
            with self._changed:
                now = monotonic()
                if isinstance(outcome, Unreachable):
                    news = self._outage.failed(str(outcome), now=now)
                else:
                    news = self._outage.answered(now=now)
                said: list[tuple[Report | Notice, str | None]]
                if isinstance(subject, Notice):
                    said = [(subject, self._told(subject, outcome))]
                else:
                    said = [(subject, self._settle(subject, request, outcome, now=now))]
                if self._outage.failures:
                    said += self._expire(now)
                self._saying = {about for about, _ in said if isinstance(about, Report)}
            if news is not None:
                warn("the gateway at %s %s", self.url, news)
            for about, text in said:
                self._say(about, text)
            with self._changed:
                over, self._saying, self._flying = self._saying, set(), False
                for report in over:
                    self._wake_waiters(report)
                self._changed.notify_all()

    def _carry(self, job: str, request: dict[str, Any]) -> Outcome:
        """One request. Raises nothing: this thread must outlive every defect."""
        try:
            if self._publisher is None:
                with process.importing:
                    self._publisher = publisher.connect(*self._where)
            return self._publisher.publish(job, request)
        except (Unreachable, Rejected) as error:
            return error
        except Exception as error:  # noqa: BLE001 - see above
            if repr(error) != self._defect:
                self._defect = repr(error)
                warn("a defect in the publisher for %s", self.url, cause=error)
            return Unreachable(repr(error))

    def _take(self) -> tuple[Report | Notice, dict[str, Any]] | None:
        """Wait for what is to be sent next. None: nothing to do for a while."""
        with self._changed:
            while True:
                now = monotonic()
                self._notices.expire(now)
                report = self._schedule.next(now, away=self._outage.failures > 0)
                if report is None and not self._notices:
                    if not self._changed.wait(IDLE):
                        return None
                    continue
                due = inf if report is None else report.due
                at = max(now if self._notices else due, self._outage.retry_at)
                if at > now:
                    self._changed.wait(at - now)
                    continue
                notice = self._notices.take(report_due=due <= now)
                if notice is not None:
                    self._flying = True
                    return notice, notice.fields
                assert report is not None  # noqa: S101 - else it was the turn of a notice
                if report.abandoned and not report.queued:
                    # No beats: let the gateway show it as stalled, which is the truth.
                    report.settled = True
                    self._drop_settled(report)
                    self._changed.notify_all()
                    continue
                self._flying = True
                return report, report.request(now)

    def _settle(
        self, report: Report, request: dict[str, Any], outcome: Outcome, *, now: float
    ) -> str | None:
        """Fold the outcome into the report and queue what comes next."""
        if report.settled:  # by a successor, meanwhile
            said = None
        elif isinstance(outcome, Receipt):
            said = report.answered(request, outcome)
        elif isinstance(outcome, Rejected):
            said = report.rejected(request, outcome)
        else:
            said = report.unreachable(request, str(outcome), now=now)
            self._schedule.add(report, self._outage.retry_at)
            report.queued = True
        if not report.queued and not report.settled:
            again = isinstance(outcome, Rejected) and not report.unwelcome
            self._schedule.add(report, now if again else report.sent_at + report.beat)
            report.queued = again
        self._drop_settled(report)
        return said

    def _told(self, notice: Notice, outcome: Outcome) -> str | None:
        """Take note of what became of it. Returns what is to be logged, if anything."""
        if isinstance(outcome, Unreachable):
            self._notices.put_back(notice)
        elif isinstance(outcome, Rejected):
            return f"the gateway rejects that it is {notice.fields['status']}: {outcome}"
        return None

    def _expire(self, now: float) -> list[tuple[Report, str]]:
        """Note which ends are too late now: nobody may wait for them. Returns what to log."""
        said = []
        for report in list(self._reports.values()):
            text = report.expire(self._outage.why, now=now)
            if text is not None:
                said.append((report, text))
        self._drop_late()
        return said

    def _drop_late(self) -> None:
        """Of the ends that are late, keep those that may be sent later, and not too many."""
        late = [r for r in list(self._reports.values()) if r.overdue]
        for report in late[:-OVERDUE]:
            report.settled = True
        for report in late:
            self._drop_settled(report)

    def _drop_settled(self, report: Report) -> None:
        if report.settled:
            report.queued = True  # nobody needs to wake anybody for it any more
            if self._reports.get(report.job) is report:
                del self._reports[report.job]

    def _wake_waiters(self, report: Report) -> None:
        changed = self._waiters.get(report)
        if changed is not None:
            changed.notify_all()

    def _say(self, subject: Report | Notice, said: str | None) -> None:
        if said is not None:
            warn("job %s: %s [%s]", subject.job, said, self.url)

    def _complain(self, problem: RuntimeError | None) -> None:
        if problem is not None:
            warn("no thread to report progress to %s: %s", self.url, problem)
