"""`Job`: a worker's handle on one attempt at a job.

All calls are synchronous, thread-safe and take about a microsecond: they set the newest
state and leave it to the sender. They raise TypeError or ValueError for a wrong argument,
at once, and nothing for a broken connection, ever. They never touch an event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from time import monotonic
from typing import TypeVar, overload

from . import checks, process
from .checks import KEEP, Keep
from .limits import DEFAULT_LEASE, DEFAULT_TIMEOUT, MAX_NUMBER
from .log import warn
from .outcome import End, describe, end_of
from .phases import Phase, Stage
from .picture import Picture
from .publisher import Token
from .report import Report
from .sender import sender_for
from .tracking import counted, counted_async, total_with
from .waiting import wait_until

__all__ = ["Job"]

T = TypeVar("T")
Number = int | float


class Job:
    """One attempt at the job `name`, reported to the gateway at `url`, or to its Redis.

        with Job("video:42", total=1200, unit="frames") as job:
            for frame in job.track(frames):
                encode(frame)

    Leaving the block reports the end (see `gateway.worker.outcome`) and waits until the
    gateway has it, at most `timeout` seconds (`math.inf`: a month); if it has not, that is
    logged, and tries go on for two seconds at least, also while the process exits. If the
    gateway has been away for longer than that already, only the exit waits. The block's
    exception goes on unchanged. `async with` does the same in asyncio and Trio without
    blocking the loop, and a cancellation does not cut the wait short. `lease` (seconds) is
    how long the gateway waits for a word before it shows the job as stalled; a thread
    renews it also while the worker computes.

    `token` is a token, or the path of a file that has one, which is read for each request:
    whoever puts it there may put a newer one in its place. Until then a gateway that no
    longer takes it is one that is away.

    Without a block the first call starts the job, and `succeed`, `fail` or `cancel` ends
    it. A forked child may go on reporting, as the same attempt; whichever process ends
    the job ends it for both. For a retry make a new Job: it opens the next attempt, unless
    its `run` (1-64 characters) is the one that opened the current attempt, in another
    process or by `announce`.

    `traceparent` names the span that what it says belongs to, for the trace to show when
    that was delivered: a function that is asked with every word, such as
    `gateway.integrations.opentelemetry.current_traceparent`, or one text for all.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        token: Token = None,
        total: Number | None = None,
        unit: str | None = None,
        run: str | None = None,
        parent: Job | str | None = None,
        message: str | None = None,
        data: object = None,
        lease: float = DEFAULT_LEASE,
        timeout: float = DEFAULT_TIMEOUT,
        traceparent: Callable[[], str | None] | str | None = None,
    ) -> None:
        self.name = checks.job_id("name", name)
        if isinstance(parent, Job):
            parent = parent.name
        picture = Picture(
            lease=checks.lease("lease", lease),
            parent=None if parent is None else checks.job_id("parent", parent),
        )
        picture.stage.span.total = checks.count_or_none("total", total)
        picture.say(checks.said(unit=unit, message=message, data=data))
        timeout = checks.seconds("timeout", timeout)
        run = None if run is None else checks.run("run", run)
        self._current_span = traceparent if callable(traceparent) else None
        if traceparent is not None and self._current_span is None:
            picture.traceparent = checks.traceparent("traceparent", traceparent)
        self._sender = sender_for(url, token)
        self._picture = picture
        self._report = Report(self.name, picture, timeout=timeout, run=run)
        self._entered = False

    @property
    def url(self) -> str:
        """Where it is reported to, as it may be shown: without a password."""
        return self._sender.url

    @property
    def status(self) -> str:
        """`running` or how it ended, as far as this process knows."""
        end = self._picture.end
        return end.status if end else "running"

    @property
    def done(self) -> Number | None:
        """What `update`, `advance` and `track` have counted here, in the current phase."""
        return self._picture.stage.span.done

    @property
    def total(self) -> Number | None:
        """What it will be at the end of the current phase, if anybody said so."""
        return self._picture.stage.span.total

    @property
    def attempt(self) -> int | None:
        """The number of this attempt; None until the gateway has told it."""
        return self._report.attempt

    @property
    def run(self) -> str:
        """The id of this run: as given, or its own."""
        return self._report.run

    @property
    def superseded(self) -> bool:
        """Whether a newer attempt has taken over: what this one reports is ignored."""
        return self._report.superseded

    def update(
        self,
        *,
        done: Number | Keep | None = KEEP,
        total: Number | Keep | None = KEEP,
        percent: Number | Keep = KEEP,
        unit: str | Keep | None = KEEP,
        phase: str | Keep | None = KEEP,
        message: str | Keep | None = KEEP,
        data: object = KEEP,
    ) -> None:
        """Set any of these; None clears one. Ignored after the end.

        `done`, `total`, `unit` and `percent` (clamped to 0-100) are those of the current
        phase if it has a share or a total, else of the job. The percentage of the whole
        job never falls. Texts that are too long are cut.
        """
        if done is not KEEP and not (type(done) is int and 0 <= done <= MAX_NUMBER):
            done = checks.count_or_none("done", done)
        if total is not KEEP:
            total = checks.count_or_none("total", total)
        if percent is not KEEP:
            percent = checks.number("percent", percent)
        said = None
        if not (unit is phase is message is data is KEEP):
            said = checks.said(unit=unit, phase=phase, message=message, data=data)
        if self._current_span is not None:
            self._follow(self._current_span())
        report, picture = self._report, self._picture
        with process.lock:
            if picture.end is not None:
                return
            span = picture.stage.span
            if done is not KEEP:
                span.done = done
            if total is not KEEP:
                span.total = total
            if percent is not KEEP:
                span.reach(percent / 100)
            if said is not None:
                picture.say(said)
        if not report.queued:
            self._sender.wake(report)

    def advance(self, n: Number = 1) -> None:
        """Add `n` to `done`. Ignored after the end."""
        if not (type(n) is int and 0 <= n <= MAX_NUMBER):
            n = checks.count("n", n)
        if self._current_span is not None:
            self._follow(self._current_span())
        report, picture = self._report, self._picture
        with process.lock:
            if picture.end is not None:
                return
            span = picture.stage.span
            span.done = (span.done or 0) + n
        if not report.queued:
            self._sender.wake(report)

    @overload
    def track(self, iterable: Iterable[T], total: Number | None = None) -> Iterator[T]: ...
    @overload
    def track(
        self, iterable: AsyncIterable[T], total: Number | None = None
    ) -> AsyncIterator[T]: ...
    def track(
        self, iterable: Iterable[T] | AsyncIterable[T], total: Number | None = None
    ) -> Iterator[T] | AsyncIterator[T]:
        """Yield the items of `iterable`; each that has been dealt with adds 1 to `done`.

        `total` is the number of its items; without it, its length if it has one, unless
        more was announced (`Job(total=…)`) than is done. Several loops in a row go on
        counting.
        """
        with process.lock:
            announced = total_with(iterable, self._picture.stage.span, total)
        self.update(total=announced)
        if isinstance(iterable, AsyncIterable):
            return counted_async(self, iterable)
        return counted(self, iter(iterable))

    def phase(
        self,
        name: str,
        *,
        share: float | None = None,
        total: Number | None = None,
        unit: str | None = None,
        message: str | Keep | None = KEEP,
    ) -> Phase:
        """Begin a phase, which ends with its `with` block, or else when the next one begins.

        `share` (0 to 1) is its part of the whole job, or of the phase around it; `done`,
        `total`, `unit` and `percent` then belong to the phase and are counted into that
        part. With a `total` and no share it gets all that is left, so only the last one
        may go without. With neither it is just a name, and the counts go on.
        """
        name = checks.text("phase", name)
        share = None if share is None else checks.share("share", share)
        total = checks.count_or_none("total", total)
        said = checks.said(unit=KEEP if unit is None else unit, message=message)
        with process.lock:
            stage = self._picture.open(name, share=share, total=total, said=said)
        self.update()
        if stage.span.low >= stage.span.high and share != 0:
            warn("job %s: no share of it is left for its phase %s", self.name, name)
        return Phase(self, stage, leave=self._leave)

    def succeed(self, message: str | None = None) -> None:
        """End it as `succeeded`. The first end counts; what comes after it is ignored."""
        self._end(End("succeeded"), message)

    def fail(self, error: BaseException | str, message: str | None = None) -> None:
        """End it as `failed`, because of `error`. The first end counts."""
        if isinstance(error, BaseException):
            error = describe(error)
        self._end(End("failed", error), message)

    def cancel(self, message: str | None = None) -> None:
        """End it as `cancelled`. The first end counts."""
        self._end(End("cancelled"), message)

    def hand_over(self) -> None:
        """Report no more, and leave the end to somebody else: another process, a retry.

        For good: what is said here from now on is ignored, leaving the block too. Ignored
        after the end.
        """
        if self._picture.end is None:
            self._sender.drop(self._report)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the gateway has the end; False if it has not within `timeout` seconds.

        Without an argument, the job's own timeout. Raises RuntimeError before the end.
        """
        if self._picture.end is None:
            raise RuntimeError(f"job {self.name} has not ended")
        seconds = self._report.timeout if timeout is None else checks.seconds("timeout", timeout)
        return self._sender.wait(self._report, seconds)

    def __enter__(self) -> Job:
        if self._entered:
            raise RuntimeError(f"job {self.name} was entered before: a Job is one attempt")
        self._entered = True
        self.update()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end(end_of(error), None)
        self.wait(self._sender.patience(self._report))

    async def __aenter__(self) -> Job:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end(end_of(error), None)
        report, sender = self._report, self._sender
        try:
            await wait_until(
                lambda: sender.over(report),
                sender.patience(report),
                keep_cancellation=error is None,
            )
        finally:
            self.wait(0)

    def __del__(self) -> None:
        report: Report | None = getattr(self, "_report", None)  # none if __init__ raised
        if report is not None:
            report.abandoned = True  # only a flag: this may run anywhere, in any lock

    def __reduce__(self) -> str:
        raise TypeError(
            f"job {self.name} cannot be copied or sent to another process: send its name and its "
            "run; Job(name, run=run) there goes on with this attempt"
        )

    def __repr__(self) -> str:
        return f"<Job {self.name} {self.status} at {self.url}>"

    def _end(self, end: End, message: str | None) -> None:
        said = checks.said(message=KEEP if message is None else message)
        if end.error is not None:
            end = End(end.status, checks.text("error", end.error))
        if self._current_span is not None:
            self._follow(self._current_span())
        with process.lock:
            if self._picture.end is not None:
                return
            self._picture.say(said)
            self._report.end(end, now=monotonic())
        self._sender.wake(self._report)

    def _follow(self, traceparent: str | None) -> None:
        """What is sent next belongs to this span; None: to none."""
        with process.lock:
            if self._picture.end is None:
                self._picture.traceparent = traceparent

    def _leave(self, stage: Stage) -> None:
        with process.lock:
            if self._picture.end is None:
                self._picture.leave(stage)
        self.update()
