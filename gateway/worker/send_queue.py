"""Decides which updates a sender puts into each request to its gateway, when it sends the request,
and what the outcomes change.

    report      decides when each job's next update is due (`due_at`)
    send_order  decides the order of the updates that are due
    outage      decides the pauses while the gateway is unavailable
    this module combines them, limits the size of a request and the updates per second

No thread, no lock, no clock, no I/O: time and randomness are arguments, and log lines are return
values. The sender's thread uses it with the real clock, under the process's lock; the simulation
uses it with a virtual clock:

    items = queue.next_items(now)            # the updates of one request
    log = queue.handle_outcomes(items, outcomes, now=…, random=…)
    queue.next_request_at(now)               # when to call `next_items` again
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

from .announcement_queue import Announcement, AnnouncementQueue
from .limits import (
    JOB_RETRY_PAUSE,
    MAX_OVERDUE_JOBS,
    MAX_UPDATES_PER_REQUEST,
    MAX_UPDATES_PER_SECOND,
)
from .outage import Outage
from .publisher import Outcome, PublishResult, Rejected, Unreachable
from .report import Report
from .send_order import SendOrder

__all__ = ["Item", "LogLine", "SendQueue"]


class Item(NamedTuple):
    """One update of a request."""

    subject: Report | Announcement | None
    """The report or announcement that gets the outcome; None if another update of the same job
    follows."""
    job: str
    fields: dict[str, Any]


class LogLine(NamedTuple):
    """A line to log about a job, or about the gateway if `subject` is None."""

    subject: Report | Announcement | None
    text: str


class SendQueue:
    """All reports and announcements for one gateway."""

    def __init__(self) -> None:
        self.reports: dict[str, Report] = {}
        """The reports that are not closed, by job."""
        self.outage = Outage()
        self._send_order = SendOrder()
        self._announcements = AnnouncementQueue()
        self._max_updates = MAX_UPDATES_PER_REQUEST
        self._rate_limited_until = -inf

    @property
    def empty(self) -> bool:
        """Whether there are no reports and no announcements."""
        return not self.reports and not self._announcements

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to send besides renewals."""
        return bool(self._announcements) or any(r.queued for r in self.reports.values())

    def mark_changed(self, report: Report, now: float) -> list[LogLine]:
        """Schedules the report's snapshot, which has changed. Returns the lines to log."""
        if report.closed:
            return []
        previous = self.reports.get(report.job, report)
        self.reports[report.job] = report
        if report.mark_changed(now):
            self._send_order.add(report)
        if previous is report:
            return []
        # The gateway would reject the older Job too, unless its `start` arrived second.
        text = previous.supersede()
        # A released job is not logged: it was released for this attempt.
        return [] if previous.released else [LogLine(previous, text)]

    def release(self, report: Report, now: float) -> None:
        """Schedules the report's current state as its last one."""
        report.release(now)
        if not report.closed:
            self._send_order.add(report)
        self._remove_closed(report)

    def announce(self, announcement: Announcement) -> list[LogLine]:
        """Schedules an announcement. Returns the lines to log."""
        text = self._announcements.add(announcement)
        return [] if text is None else [LogLine(announcement, text)]

    def next_request_at(self, now: float) -> float | None:
        """Returns the time from which `next_items` may return items; None if nothing is
        scheduled."""
        self._announcements.expire(now)
        report = self._send_order.next(now, unavailable=self.outage.failures > 0)
        announcement_ready = self._announcements.has_next(self._is_releasing)
        if report is None and not announcement_ready:
            return None
        at = now if announcement_ready or report is None else report.due_at
        if report is None or not report.has_final_state:
            at = max(at, self._rate_limited_until)
        return max(at, self.outage.retry_at)

    def next_items(self, now: float) -> list[Item]:
        """Returns the updates to send now, in one request; none if nothing is due."""
        items: list[Item] = []
        if now < self.outage.retry_at:
            return items
        self._announcements.expire(now)
        rate_limited = 0
        while len(items) < self._max_updates:
            report = self._send_order.next(now, unavailable=self.outage.failures > 0)
            report_due = report is not None and report.due_at <= now
            if now < self._rate_limited_until and not (
                report and report_due and report.has_final_state
            ):
                break
            announcement = self._announcements.next(self._is_releasing, report_due=report_due)
            if announcement is not None:
                rate_limited += 1
                items.append(Item(announcement, announcement.job, announcement.fields))
                continue
            if report is None or not report_due:
                break
            reason = report.reason_never_ended(now)
            if report.abandoned and not report.queued and (reason is None or report.marked_unended):
                # Without renewals the gateway shows the job as stalled, which is correct.
                report.close()
                self._remove_closed(report)
                continue
            *earlier, last = (
                report.take_updates(now)
                if reason is None
                else report.take_unended_updates(reason, now)
            )
            items += (Item(None, report.job, fields) for fields in earlier)
            items.append(Item(report, report.job, last))
            rate_limited += not report.has_final_state
        if rate_limited:
            self._rate_limited_until = now + rate_limited / MAX_UPDATES_PER_SECOND
        return items

    def handle_outcomes(
        self, items: Sequence[Item], outcomes: Sequence[Outcome], *, now: float, random: float
    ) -> list[LogLine]:
        """Handles the outcomes of the items. Returns the lines to log."""
        failures = [outcome for outcome in outcomes if isinstance(outcome, Unreachable)]
        if len(failures) == len(outcomes):
            line = self.outage.record_failure(failures[0], now=now, random=random)
            self._max_updates, retry_at = 1, self.outage.retry_at
        else:
            line = self.outage.record_response(now=now)
            self._max_updates, retry_at = (
                min(2 * self._max_updates, MAX_UPDATES_PER_REQUEST),
                now + JOB_RETRY_PAUSE * (0.5 + random),
            )
        log = [] if line is None else [LogLine(None, line)]
        for (subject, _, fields), outcome in zip(items, outcomes, strict=True):
            if subject is None:
                continue
            if isinstance(subject, Report):
                text = self._handle_report_outcome(
                    subject, fields, outcome, now=now, retry_at=retry_at
                )
            else:
                text = self._handle_announcement_outcome(subject, outcome)
            if text is not None:
                log.append(LogLine(subject, text))
        return log + self.expire(now) if self.outage.failures else log

    def expire(self, now: float) -> list[LogLine]:
        """Marks the final states whose deadlines have passed. Returns the lines to log."""
        log = []
        overdue = []
        for report in list(self.reports.values()):
            text = report.expire(self.outage.reason, now=now)
            if text is not None:
                log.append(LogLine(report, text))
            if report.deadline_passed or report.closed:
                overdue.append(report)
        # Limit the number of final states that are kept after their deadlines.
        for report in overdue[:-MAX_OVERDUE_JOBS]:
            report.close()
        for report in overdue:
            self._remove_closed(report)
        return log

    def before_fork(self) -> None:
        for report in self.reports.values():
            report.before_fork()

    def after_fork(self) -> None:
        """Resets the queue in a child. It keeps the reports, and sends them when they change.

        The parent sends the announcements and the final states.
        """
        reports = {
            job: r for job, r in self.reports.items() if not (r.has_final_state or r.released)
        }
        self.__init__()  # type: ignore[misc]  # resets all attributes
        self.reports = reports
        for report in reports.values():
            report.after_fork()

    def _handle_report_outcome(
        self,
        report: Report,
        update: dict[str, Any],
        outcome: Outcome,
        *,
        now: float,
        retry_at: float,
    ) -> str | None:
        if isinstance(outcome, PublishResult):
            text = report.on_result(update, outcome)
        elif isinstance(outcome, Rejected):
            text = report.on_rejected(update, outcome, now=now)
        else:
            text = report.on_unreachable(update, str(outcome), now=now, retry_at=retry_at)
        if not (report.closed or report.marked_unended):
            self._send_order.add(report)
        self._remove_closed(report)
        return text

    def _handle_announcement_outcome(
        self, announcement: Announcement, outcome: Outcome
    ) -> str | None:
        if isinstance(outcome, Unreachable):
            self._announcements.put_back(announcement)
        elif isinstance(outcome, Rejected):
            return f"the gateway rejects that it is {announcement.fields['status']}: {outcome}"
        return None

    def _is_releasing(self, job: str) -> bool:
        report = self.reports.get(job)
        return report is not None and report.released

    def _remove_closed(self, report: Report) -> None:
        if report.closed and self.reports.get(report.job) is report:
            del self.reports[report.job]
