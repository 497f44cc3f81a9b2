"""`Job`: the object with which a worker reports one attempt of a job.

All calls are synchronous and thread-safe, and take about a microsecond: they set the newest state,
which the sender's thread sends. They raise TypeError or ValueError for an invalid argument, and
never an exception because of the network. They never use an event loop.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from ..model.constants import DEFAULT_LEASE, MAX_NUMBER
from . import checks, process_state
from .checks import KEEP, Keep
from .children import ChildCall, CreatedChildren, Pool, submit_all
from .final_state import FinalState, error_text, final_state_after
from .inside_run import name_and_run
from .limits import DEFAULT_TIMEOUT, REPORTING_OFF
from .log import warn
from .phases import Phase, PhaseRecord
from .publisher import Token
from .report import Report
from .request_handler import RequestHandler
from .requests import JobRequest
from .sender import sender_for
from .snapshot import JobSnapshot
from .tracking import count_items, count_items_async, total_after
from .waiting import running_loop, wait_until

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Job"]

T = TypeVar("T")
R = TypeVar("R")
Number = int | float


class OtherFields(TypedDict, total=False):
    """The arguments of `Job.update` besides `done`."""

    total: Number | Keep | None
    percent: Number | Keep
    overall: Number | Keep | None
    unit: str | Keep | None
    phase: str | Keep | None
    message: str | Keep | None
    data: object


class Job:
    """One attempt of the job `name`, reported to the gateway at `url`, or to its Redis.

        with Job("video:42", total=1200, unit="frames") as job:
            for frame in job.track(frames):
                encode(frame)

    At its end the block reports the final state (see `gateway.worker.final_state`), and waits until
    the gateway has it. An exception of the block is raised unchanged. `async with` does the
    same in asyncio and Trio without blocking the loop. Without a block the first call starts the
    job, and `succeed`, `fail` or `cancel` ends it. For a retry create a new Job, which starts
    the next attempt.

    A forked child may continue to report the same attempt. The counts of all processes are added
    up. The first process that ends the job ends it for all of them.

    Args:
        name: The id of the job. Inside `gateway run` it may be omitted: then the `Job` reports the
            job of the command, as part of the same attempt.
        url: The URL of a gateway or of its Redis, or `off` to report nothing. Default:
            `PROGRESS_GATEWAY_URL`.
        token: A token, or the path of a file that contains one. A file is read for each request;
            while it contains no valid token, the gateway counts as unavailable. Default:
            `PROGRESS_GATEWAY_TOKEN` or `PROGRESS_GATEWAY_TOKEN_FILE`.
        disabled: Whether to report nothing: no thread, no network, no waiting.
        total: The count at the end of the job.
        unit: The unit of the count.
        run: The id of this run (1-64 characters). A Job with the `run` that started the current
            attempt, in another process or with `announce`, joins that attempt.
        part: The name of this Job's own count, if several Jobs report the same `run`; the counts
            are added up. Default: a random name if there is a `run`. For a process that may be
            restarted, use a name that stays the same.
        children: Declares a group, whose progress is computed from its children, the jobs
            `NAME/…` (docs/groups.md): the number of children, or None if it is not known
            yet. The group ends with its children, and not at the end of the block; but with None
            the end of a block in which no child was created ends it.
        weight: The weight of this job in the group above it (0.001-1000). Default: 1.
        message, data: As for `update`.
        accepts: The requests that the job accepts: `cancel`, `pause`, `resume`, or other verbs
            (a-z 0-9 _ -). Pages draw a button for each. See `request` and `check`. A `cancel`
            request cancels an `async with` block.
        interrupt: Whether `track` and `advance` raise `Cancelled` after a `cancel` request.
        lease: How many seconds without a report the gateway waits before it shows the job as
            stalled. A thread renews the lease also while the worker computes.
        timeout: The maximum number of seconds for which the end of the block waits for the gateway
            (`math.inf`: a month). The wait is shorter if it is probably useless: one second if the
            address has refused the first connection, none in an outage that is older than
            `timeout`. If the event loop is running, only the exit of the process waits.
        traceparent: The span that the reports belong to: a function that is called for each
            report, such as `gateway.integrations.opentelemetry.current_traceparent`, or a text.

    Raises:
        TypeError, ValueError: An argument is invalid; the text names it.

    Cancellation: does not shorten the wait at the end of an `async with` block.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        url: str | None = None,
        token: Token = None,
        disabled: bool = False,
        total: Number | None = None,
        unit: str | None = None,
        run: str | None = None,
        part: str | None = None,
        children: Number | Keep | None = KEEP,
        weight: Number | None = None,
        message: str | None = None,
        data: object = None,
        accepts: Iterable[str] = (),
        interrupt: bool = False,
        lease: float = DEFAULT_LEASE,
        timeout: float = DEFAULT_TIMEOUT,
        traceparent: Callable[[], str | None] | str | None = None,
    ) -> None:
        name, command_run = name_and_run(name)
        self.name = checks.job_id("name", name)
        if part is not None:
            part = checks.part("part", part)
        elif run is not None:
            part = os.urandom(6).hex()  # a name that no other process has
        snapshot = JobSnapshot(lease=checks.lease("lease", lease), part=part)
        snapshot.children = checks.children("children", children)
        snapshot.weight = None if weight is None else checks.weight("weight", weight)
        snapshot.accepts = checks.accepts("accepts", accepts)
        snapshot.phase.segment.total = checks.count_or_none("total", total)
        snapshot.set_fields(checks.texts_and_data(unit=unit, message=message, data=data))
        run = command_run if run is None else run
        run = None if run is None else checks.run("run", run)
        timeout = checks.seconds("timeout", timeout)
        self._current_span = traceparent if callable(traceparent) else None
        if traceparent is not None and self._current_span is None:
            snapshot.traceparent = checks.traceparent("traceparent", traceparent)
        self._publisher_arguments: dict[str, Any] = {
            "url": REPORTING_OFF if disabled else url,
            "token": token,
        }
        self._sender = sender_for(**self._publisher_arguments)
        self._snapshot = snapshot
        self._report = Report(self.name, snapshot, timeout=timeout, run=run)
        self._children = CreatedChildren(self.name, snapshot)
        self._request_handler = RequestHandler(self._report, interrupt=interrupt)
        self._block_entered = False
        self._has_no_span_function = self._current_span is None

    @property
    def url(self) -> str:
        """The URL that the job is reported to, without a password."""
        return self._sender.url

    @property
    def status(self) -> str:
        """`running`, or the final status that this process has reported."""
        final_state = self._snapshot.final_state
        return final_state.status if final_state else "running"

    @property
    def done(self) -> Number | None:
        """This process's count of the current phase, from `update`, `advance` and `track`."""
        return self._snapshot.phase.segment.done

    @property
    def total(self) -> Number | None:
        """The count at the end of the current phase, if it is known."""
        return self._snapshot.phase.segment.total

    @property
    def attempt(self) -> int | None:
        """The number of this attempt; None until the gateway has answered."""
        return self._report.attempt

    @property
    def run(self) -> str:
        """The id of this run: the argument, or a random one."""
        return self._report.run

    @property
    def superseded(self) -> bool:
        """Whether there is a newer attempt, so that the reports of this one are ignored."""
        return self._report.superseded

    @property
    def request(self) -> JobRequest | None:
        """The last request to this attempt (see `accepts`); None if there was none."""
        return self._report.request

    def check(self) -> None:
        """Raises `Cancelled` after a `cancel` request. Never blocks.

        Raises:
            Cancelled: If the block ends with it, the job ends as `cancelled`.
        """
        self._request_handler.check()

    def refuse(self, reason: str) -> None:
        """Refuses the last request. Pages show the reason. Without a request it does nothing."""
        with process_state.lock:
            self._report.refusal = checks.text("refused", reason)
            self._report.must_interrupt = False
        self._sender.wake(self._report)

    def on_request(self, function: Callable[[JobRequest], object]) -> None:
        """Calls `function` with each request, in the sender's thread, so it must not take long."""
        self._request_handler.callback = function

    def update(
        self,
        *,
        done: Number | Keep | None = KEEP,
        **others: Unpack[OtherFields],
    ) -> None:
        """Sets any of `done`, `total`, `percent`, `overall`, `unit`, `phase`, `message` and `data`;
        None clears one. After the end of the job it does nothing.

        `done`, `total`, `unit` and `percent` (clamped to 0-100) are those of the current phase if
        it has a share or a total, else of the job. `overall` sets the percentage of the whole job
        directly; with None it becomes, and stays, unknown. The percentage of the whole job never
        falls. Texts that are too long are cut.
        """
        if (
            not others
            and type(done) is int
            and 0 <= done <= MAX_NUMBER
            and self._has_no_span_function
        ):
            # The usual call sets one number, which needs no lock. The signature has few defaults,
            # because Python looks up each omitted argument in a dictionary.
            snapshot = self._snapshot
            segment = snapshot.phase.segment
            if not segment.running_loops and snapshot.final_state is None:
                segment.count_without_loops = done
                report = self._report
                if report.wakes_sender:
                    self._sender.wake(report)
                return
        checks.check_changes(others)
        if done is not KEEP and not (type(done) is int and 0 <= done <= MAX_NUMBER):
            done = checks.count_or_none("done", done)
        if self._current_span is not None:
            self._set_span(self._current_span())
        report, snapshot = self._report, self._snapshot
        lock = process_state.lock
        lock.acquire()  # half as expensive as a `with` block
        try:
            if snapshot.final_state is not None:
                return
            if done is not KEEP:
                snapshot.phase.segment.set_done(done)
            snapshot.apply_changes(others)
        finally:
            lock.release()
        if report.wakes_sender:
            self._sender.wake(report)

    def advance(self, n: Number = 1) -> None:
        """Adds `n` to `done`. After the end of the job it does nothing.

        Raises:
            Cancelled: The job was created with `interrupt`, and there is a `cancel` request.
        """
        report, snapshot = self._report, self._snapshot
        if report.must_interrupt:
            self._request_handler.check()
        if not (type(n) is int and 0 <= n <= MAX_NUMBER):
            n = checks.count("n", n)
        if self._current_span is not None:
            self._set_span(self._current_span())
        lock = process_state.lock
        lock.acquire()  # as in `update`
        try:
            if snapshot.final_state is not None:
                return
            segment = snapshot.phase.segment
            segment.count_without_loops = (segment.count_without_loops or 0) + n
        finally:
            lock.release()
        if report.wakes_sender:
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
        """Yields the items of `iterable`. When the loop requests the next item, `done` grows by 1.

        `total` is the number of items. Default: the length of `iterable` if it has one, unless the
        job has a larger `total` already. Several loops in a row continue the same count.
        """
        with process_state.lock:
            segment = self._snapshot.phase.segment
            new_total = total_after(iterable, segment, total)
        self.update(total=new_total)
        if isinstance(iterable, AsyncIterable):
            return count_items_async(iterable, self.advance)
        changed = self.update if self._current_span else self._wake
        return count_items(iter(iterable), segment, self._report, on_change=changed)

    def phase(
        self,
        name: str,
        *,
        share: float | None = None,
        total: Number | None = None,
        unit: str | None = None,
        message: str | Keep | None = KEEP,
    ) -> Phase[Job]:
        """Begins a phase. It ends with its `with` block, or, without a block, with the next phase.

        `share` (0 to 1) is its part of the whole job, or of the phase around it; `done`,
        `total`, `unit` and `percent` then belong to the phase, and fill that part. With a `total`
        and no `share` it gets the rest of the whole, so only the last phase may omit `share`. With
        neither it is only a name, and the counts continue.
        """
        name = checks.text("phase", name)
        share = None if share is None else checks.share("share", share)
        total = checks.count_or_none("total", total)
        texts = checks.texts_and_data(unit=KEEP if unit is None else unit, message=message)
        with process_state.lock:
            record = self._snapshot.begin_phase(name, share=share, total=total, fields=texts)
        self.update()
        if record.segment.low >= record.segment.high and share != 0:
            warn(
                "job %s: phase %s gets no share, because the earlier phases have used it",
                self.name,
                name,
            )
        return Phase(self, record, end_phase=self._end_phase)

    def child(self, name: str, *, weight: Number | None = None, **options: Any) -> Job:
        """Creates a child of this group, the job `NAME/name`, reported to the same URL.

        Another process creates the same child with `Job("NAME/name")`. `options` are those of
        `Job`.

        Raises:
            ValueError: This job was created without `children`.
        """
        self._children.add(weight=1 if weight is None else weight)
        return Job(f"{self.name}/{name}", weight=weight, **self._publisher_arguments | options)

    def map(
        self,
        executor: Executor | Pool,
        function: Callable[..., R],
        items: Iterable[Any],
        *,
        name: Callable[[Any], str] | None = None,
        with_job: bool = False,
    ) -> Iterator[R]:
        """Calls `function` with each item in `executor`, each call as a child of this group.

            with Job("batch:1", children=None) as job, ProcessPoolExecutor() as executor:
                for size in job.map(executor, encode, files):
                    ...

        All items are submitted at once. The results are yielded in the order of the items; if a
        call has raised an exception, it is raised instead of the result. `executor` is an executor
        of `concurrent.futures`, or a `multiprocessing.Pool`.

        If the job was created with `interrupt`, a request to cancel it raises `Cancelled` in the
        place of the next result. Calls that have not begun are then dropped, except in a
        `multiprocessing.Pool`.

        Args:
            name: Returns the name of an item's child. Default: the children are numbered.
            with_job: Call `function(job, item)` with the child's `Job`, which accepts the same
                requests as this one, with the same `interrupt`.

        Raises:
            ValueError: This job was created without `children`.
        """
        options = self._publisher_arguments | {
            "accepts": self._snapshot.accepts,
            "interrupt": self._request_handler.interrupt,
        }
        call = ChildCall(Job, self.name, function, with_job=with_job, **options)
        named_items = self._children.add_each(items, name=name)
        return submit_all(executor, call, named_items, raise_if_cancelled=self._check_interrupted)

    def _check_interrupted(self) -> None:
        self._request_handler.check_interrupted()

    def succeed(self, message: str | None = None) -> None:
        """Ends the job as `succeeded`. Later calls that end or update the job do nothing."""
        self._end(FinalState("succeeded"), message)

    def fail(self, error: BaseException | str, message: str | None = None) -> None:
        """Ends the job as `failed`, because of `error`. After the end of the job it does
        nothing."""
        if isinstance(error, BaseException):
            error = error_text(error)
        self._end(FinalState("failed", error), message)

    def cancel(self, message: str | None = None) -> None:
        """Ends the job as `cancelled`. After the end of the job it does nothing."""
        self._end(FinalState("cancelled"), message)

    def release(self) -> None:
        """Stops reporting without an end, because another process or a retry will end the job.

        Earlier reports are still sent. Later ones are ignored, and so is the end of the block.
        After the end of the job it does nothing.
        """
        if self._snapshot.final_state is None:
            self._sender.release(self._report)

    def end_with_children(self, *, all_created: bool = True) -> None:
        """Lets the group end when its children have ended. After its end it does nothing.

        Args:
            all_created: Whether this Job has created all children, so that the group also ends if
                they are fewer than the declared number.

        Raises:
            ValueError: This job was created without `children`.
        """
        if isinstance(self._snapshot.children, Keep):
            raise ValueError(f"job {self.name} was created without children")  # noqa: TRY004 - as documented
        if self._snapshot.final_state is not None:
            return
        if all_created:
            self._snapshot.children = self._children.total_weight
        self._wake()
        self.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the gateway has the final state; returns False if it does not within
        `timeout` seconds.

        The default is the job's own timeout. Returns True at once if the job is disabled.

        Raises:
            RuntimeError: The job has not ended.
        """
        if self._snapshot.final_state is None:
            raise RuntimeError(f"job {self.name} has not ended")
        seconds = self._report.timeout if timeout is None else checks.seconds("timeout", timeout)
        return self._sender.wait(self._report, seconds)

    def __enter__(self) -> Job:
        if self._block_entered:
            raise RuntimeError(f"job {self.name} was entered before: each attempt needs a new Job")
        self._block_entered = self._report.in_block = True
        self.update()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._end_after_block(error)
        # Waiting here would block the event loop, so only the exit of the process waits.
        in_loop = self._sender.disabled or running_loop() is not None
        self._sender.wait(self._report, 0.0 if in_loop else self._sender.wait_budget(self._report))

    async def __aenter__(self) -> Job:
        self.__enter__()
        if "cancel" in self._snapshot.accepts:
            self._request_handler.enter_block()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        try:
            await self._end_block_async(error)
        finally:
            suppressed = self._request_handler.exit_block(kind, error, trace)
        return suppressed

    async def _end_block_async(self, error: BaseException | None) -> None:
        self._end_after_block(error)
        report, sender = self._report, self._sender
        try:
            await wait_until(
                lambda: sender.wait_is_finished(report),
                sender.wait_budget(report),
                keep_cancellation=error is None,
            )
        finally:
            sender.wait(report, 0)

    def _end_after_block(self, error: BaseException | None) -> None:
        """Ends the job at the end of its block. A group whose block ends without an exception ends
        with its children. If their number was unknown, it is now the number of children so far. If
        no child was created in the block, the group ends with it: nothing says whether others will
        be created elsewhere, and the group would never end."""
        final_state, snapshot = final_state_after(error), self._snapshot
        is_group = not isinstance(snapshot.children, Keep)
        may_have_children = snapshot.children is not None or self._children.count > 0
        if is_group and may_have_children and final_state.status == "succeeded":
            self.end_with_children(all_created=snapshot.children is None)
        else:
            self._end(final_state, None)

    def __del__(self) -> None:
        report: Report | None = getattr(self, "_report", None)  # none if __init__ raised
        if report is not None:
            report.abandon()

    def __reduce__(self) -> str:
        raise TypeError(
            f"job {self.name} cannot be copied or sent to another process: send its name and its "
            "run; there Job(name, run=run) continues this attempt"
        )

    def __repr__(self) -> str:
        return f"<Job {self.name} {self.status} at {self.url}>"

    def _end(self, final_state: FinalState, message: str | None) -> None:
        texts = checks.texts_and_data(message=KEEP if message is None else message)
        if final_state.error is not None:
            final_state = FinalState(final_state.status, checks.text("error", final_state.error))
        if self._current_span is not None:
            self._set_span(self._current_span())
        with process_state.lock:
            if self._snapshot.final_state is not None:
                return
            self._snapshot.set_fields(texts)
            self._snapshot.stop_loops()
            self._report.set_final_state(final_state, now=monotonic())
        self._sender.wake(self._report)

    def _wake(self) -> None:
        self._sender.wake(self._report)

    def _set_span(self, traceparent: str | None) -> None:
        """Sets the span of the next report; None: no span."""
        with process_state.lock:
            if self._snapshot.final_state is None:
                self._snapshot.traceparent = traceparent

    def _end_phase(self, phase: PhaseRecord) -> None:
        with process_state.lock:
            if self._snapshot.final_state is None:
                self._snapshot.end_phase(phase)
        self.update()
