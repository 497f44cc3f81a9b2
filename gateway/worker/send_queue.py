"""The sender's decisions: which updates are sent when, and the effect of each outcome.

No thread, no lock, no clock, no I/O: time and randomness are arguments, and log lines are return
values. The sender's thread uses it with the real clock, under the process's lock; the simulation
uses it with a virtual clock:

    items = queue.take(now)                  # the updates of one request
    log = queue.settle(items, outcomes, now=…, random=…)
    queue.next_at(now)                       # when to call `take` again
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

from .limits import BATCH, LATE_ENDS, RATE, RETRY_ONE
from .one_shots import OneShot, OneShots
from .outage import Outage
from .publisher import Outcome, PublishResult, Rejected, Unreachable
from .report import Report
from .schedule import Schedule

__all__ = ["Item", "LogLine", "SendQueue"]


class Item(NamedTuple):
    """One update of a request."""

    subject: Report | OneShot | None
    """The report or one-shot that gets the outcome; None if another update of the same job
    follows."""
    job: str
    fields: dict[str, Any]


class LogLine(NamedTuple):
    """A line to log about a job, or about the gateway if `subject` is None."""

    subject: Report | OneShot | None
    text: str


class SendQueue:
    """All reports and one-shot updates for one gateway."""

    def __init__(self) -> None:
        self.reports: dict[str, Report] = {}
        """The reports that are not settled, by job."""
        self.outage = Outage()
        self._schedule = Schedule()
        self._one_shots = OneShots()
        self._batch = BATCH
        self._paced_until = -inf

    @property
    def empty(self) -> bool:
        """Whether there are no reports and no one-shot updates."""
        return not self.reports and not self._one_shots

    @property
    def pending(self) -> bool:
        """Whether there is anything new to send."""
        return bool(self._one_shots) or any(r.queued for r in self.reports.values())

    def touch(self, report: Report, now: float) -> list[LogLine]:
        """Schedule the report's snapshot."""
        if report.settled:
            return []
        other = self.reports.get(report.job, report)
        self.reports[report.job] = report
        if report.touch(now):
            self._schedule.add(report)
        if other is report:
            return []
        # The gateway would answer the same, unless the `start` of the older Job arrived second.
        text = other.supersede()
        return [] if other.released else [LogLine(other, text)]  # a try may be left for the next

    def release(self, report: Report, now: float) -> None:
        """Schedule the report's current state as its last one."""
        report.release(now)
        if not report.settled:
            self._schedule.add(report)
        self._forget(report)

    def add(self, one_shot: OneShot) -> list[LogLine]:
        """Schedule a one-shot update."""
        text = self._one_shots.add(one_shot)
        return [] if text is None else [LogLine(one_shot, text)]

    def next_at(self, now: float) -> float | None:
        """When `take` may return something; None if nothing is scheduled."""
        self._one_shots.expire(now)
        report = self._schedule.next(now, unavailable=self.outage.failures > 0)
        ready = self._one_shots.ready(self._releasing)
        if report is None and not ready:
            return None
        due = now if ready or report is None else report.due
        if report is None or not report.ended:
            due = max(due, self._paced_until)
        return max(due, self.outage.retry_at)

    def take(self, now: float) -> list[Item]:
        """The updates to send now, in one request; empty if nothing is due."""
        items: list[Item] = []
        if now < self.outage.retry_at:
            return items
        self._one_shots.expire(now)
        paced = 0
        while len(items) < self._batch:
            report = self._schedule.next(now, unavailable=self.outage.failures > 0)
            due = report is not None and report.due <= now
            if now < self._paced_until and not (report and due and report.ended):
                break
            one_shot = self._one_shots.take(self._releasing, report_due=due)
            if one_shot is not None:
                paced += 1
                items.append(Item(one_shot, one_shot.job, one_shot.fields))
                continue
            if report is None or not due:
                break
            why = report.unattended(now)
            if report.abandoned and not report.queued and (why is None or report.left):
                # Without renewals the gateway shows it as stalled, which is correct.
                report.settle()
                self._forget(report)
                continue
            *before, last = report.take(now) if why is None else report.leave(why, now)
            items += (Item(None, report.job, fields) for fields in before)
            items.append(Item(report, report.job, last))
            paced += not report.ended
        if paced:
            self._paced_until = now + paced / RATE
        return items

    def settle(
        self, items: Sequence[Item], outcomes: Sequence[Outcome], *, now: float, random: float
    ) -> list[LogLine]:
        """Handle the outcomes of the items. Returns the lines to log."""
        failed = [outcome for outcome in outcomes if isinstance(outcome, Unreachable)]
        if len(failed) == len(outcomes):
            line = self.outage.failed(failed[0], now=now, random=random)
            self._batch, retry_at = 1, self.outage.retry_at
        else:
            line = self.outage.answered(now=now)
            self._batch, retry_at = min(2 * self._batch, BATCH), now + RETRY_ONE * (0.5 + random)
        log = [] if line is None else [LogLine(None, line)]
        for (subject, _, fields), outcome in zip(items, outcomes, strict=True):
            if subject is None:
                continue
            if isinstance(subject, Report):
                text = self._settle_report(subject, fields, outcome, now=now, retry_at=retry_at)
            else:
                text = self._settle_one_shot(subject, outcome)
            if text is not None:
                log.append(LogLine(subject, text))
        return log + self.expire(now) if self.outage.failures else log

    def expire(self, now: float) -> list[LogLine]:
        """Mark the ends whose deadlines have passed. Returns the lines to log."""
        log = []
        late = []
        for report in list(self.reports.values()):
            text = report.expire(self.outage.why, now=now)
            if text is not None:
                log.append(LogLine(report, text))
            if report.overdue or report.settled:
                late.append(report)
        # Limit the number of ends that are kept for later.
        for report in late[:-LATE_ENDS]:
            report.settle()
        for report in late:
            self._forget(report)
        return log

    def before_fork(self) -> None:
        for report in self.reports.values():
            report.before_fork()

    def after_fork(self) -> None:
        """Reset the queue in a child. The jobs stay known, and are sent when they are touched.

        The parent delivers the one-shot updates and the ends.
        """
        reports = {job: r for job, r in self.reports.items() if not (r.ended or r.released)}
        self.__init__()  # type: ignore[misc]  # resets all attributes
        self.reports = reports
        for report in reports.values():
            report.after_fork()

    def _settle_report(
        self,
        report: Report,
        request: dict[str, Any],
        outcome: Outcome,
        *,
        now: float,
        retry_at: float,
    ) -> str | None:
        if isinstance(outcome, PublishResult):
            text = report.answered(request, outcome)
        elif isinstance(outcome, Rejected):
            text = report.rejected(request, outcome, now=now)
        else:
            text = report.unreachable(request, str(outcome), now=now, retry_at=retry_at)
        if not (report.settled or report.left):
            self._schedule.add(report)
        self._forget(report)
        return text

    def _settle_one_shot(self, one_shot: OneShot, outcome: Outcome) -> str | None:
        if isinstance(outcome, Unreachable):
            self._one_shots.put_back(one_shot)
        elif isinstance(outcome, Rejected):
            return f"the gateway rejects that it is {one_shot.fields['status']}: {outcome}"
        return None

    def _releasing(self, job: str) -> bool:
        report = self.reports.get(job)
        return report is not None and report.released

    def _forget(self, report: Report) -> None:
        if report.settled and self.reports.get(report.job) is report:
            del self.reports[report.job]
