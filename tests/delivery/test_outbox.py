"""An outbox is bounded and never blocks; replies wait for a slot; after its end, queued messages
are sent and later ones are dropped. The fan-out uses the writer only while the writer task
waits."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
import trio
import trio.testing
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway import Limits
from gateway.delivery.fan_out import FanOut
from gateway.delivery.outbox import Outbox
from gateway.delivery.timer_wheel import TimerWheel
from gateway.delivery.topic import AnySubscription, Subscription, Topic
from gateway.protocol import close_codes
from gateway.protocol.messages import Message, encode

PONG = encode("pong")


@define
class Batch:
    replies: Sequence[Message]
    pending: list[AnySubscription]
    pending_since: float
    ping: bool
    at: float


@define
class FakeWriter:
    """Records the batches. It writes the first `prompt` batches at once."""

    batches: list[Batch] = field(factory=list)
    prompt: int = 1_000
    error: Exception | None = None

    def begin(
        self,
        replies: Sequence[Message],
        pending: Collection[AnySubscription],
        *,
        pending_since: float,
        ping: bool = False,
    ) -> bool:
        if self.error is not None:
            raise self.error
        self.batches.append(Batch(replies, list(pending), pending_since, ping, trio.current_time()))
        self.prompt -= 1
        return self.prompt >= 0

    @property
    def pending(self) -> list[list[AnySubscription]]:
        return [batch.pending for batch in self.batches]


class OutboxHarness:
    """An outbox and its writer task."""

    def __init__(self, outbox: Outbox, nursery: trio.Nursery) -> None:
        self.outbox = outbox
        self.nursery = nursery
        self.writer = FakeWriter()
        self.finished = 0
        self.finish = trio.Event()
        """Set by the test when the write may be finished."""
        self.over = trio.Event()
        self.scope = trio.CancelScope()

    async def start(self) -> None:
        self.nursery.start_soon(self.run)
        await wait_all_tasks_blocked()

    async def run(self) -> None:
        with self.scope:
            while await self.outbox.write_until_blocked(self.writer):
                await self.finish.wait()
                self.finished += 1
        self.over.set()


@pytest.fixture
async def harness(nursery: trio.Nursery) -> OutboxHarness:
    timer_wheel, fan_out = TimerWheel(), FanOut()
    nursery.start_soon(timer_wheel.run)
    nursery.start_soon(fan_out.run)
    outbox = Outbox(Limits(max_replies=2), fan_out=fan_out, timer_wheel=timer_wheel)
    return OutboxHarness(outbox, nursery)


def subscription(outbox: Outbox) -> Subscription:
    return Subscription(Topic("job", 100, list[Topic]().append), outbox)


async def test_a_subscription_notified_several_times_is_written_once(
    harness: OutboxHarness,
) -> None:
    outbox, writer = harness.outbox, harness.writer
    first_subscription, second_subscription = subscription(outbox), subscription(outbox)
    await harness.start()
    for _ in range(100):
        outbox.notify(first_subscription)
        outbox.notify(second_subscription)
    assert writer.batches == []
    await wait_all_tasks_blocked()
    assert writer.pending == [[first_subscription, second_subscription]]
    outbox.notify(second_subscription)
    await wait_all_tasks_blocked()
    assert writer.pending == [[first_subscription, second_subscription], [second_subscription]]


async def test_a_cancelled_subscription_is_not_written(harness: OutboxHarness) -> None:
    subscribed = subscription(harness.outbox)
    await harness.start()
    harness.outbox.notify(subscribed)
    harness.outbox.cancel(subscribed)
    await wait_all_tasks_blocked()
    assert harness.writer.batches == []


async def test_notifications_before_the_loan_are_written_with_it(harness: OutboxHarness) -> None:
    subscribed = subscription(harness.outbox)
    harness.outbox.notify(subscribed)
    harness.outbox.announce(PONG)
    await wait_all_tasks_blocked()
    assert harness.writer.batches == []
    await harness.start()
    assert harness.writer.pending == [[subscribed]]
    assert harness.writer.batches[0].replies == [PONG]


async def test_replies_wait_for_a_slot_and_announcements_do_not(harness: OutboxHarness) -> None:
    outbox, writer = harness.outbox, harness.writer
    for _ in range(2):
        await outbox.wait_for_reply_slot()
        outbox.reply(PONG)
    for _ in range(5):
        outbox.announce(PONG)
    outbox.ping()
    with trio.move_on_after(0) as scope:
        await outbox.wait_for_reply_slot()
    assert scope.cancelled_caught

    await harness.start()
    assert (len(writer.batches[0].replies), writer.batches[0].ping) == (7, True)
    await outbox.wait_for_reply_slot()
    outbox.reply(PONG)
    await wait_all_tasks_blocked()
    assert not writer.batches[1].ping


async def test_an_unfinished_write_is_left_to_the_writer_and_blocks_other_writes(
    harness: OutboxHarness,
) -> None:
    outbox, writer = harness.outbox, harness.writer
    subscribed = subscription(outbox)
    writer.prompt = 0
    await harness.start()
    for _ in range(3):
        outbox.notify(subscribed)
        outbox.announce(PONG)
        await wait_all_tasks_blocked()
    assert len(writer.batches) == 1
    writer.prompt = 1
    harness.finish.set()
    await wait_all_tasks_blocked()
    assert harness.finished == 1
    assert writer.pending == [[subscribed], [subscribed]]
    assert writer.batches[1].replies == [PONG, PONG]


async def test_an_exception_in_a_write_is_raised_in_the_writer(
    harness: OutboxHarness, nursery: trio.Nursery
) -> None:
    broken = OutboxHarness(harness.outbox, nursery)
    broken.writer.error = ZeroDivisionError("a defect")
    other = Outbox(
        Limits(),
        fan_out=harness.outbox._fan_out,
        timer_wheel=harness.outbox._timer_wheel,
    )
    healthy = OutboxHarness(other, nursery)
    await healthy.start()
    async with trio.open_nursery() as tasks:
        broken.nursery = tasks
        with pytest.RaisesGroup(ZeroDivisionError):
            async with trio.open_nursery() as inner:
                inner.start_soon(broken.run)
                await wait_all_tasks_blocked()
                broken.outbox.announce(PONG)
                healthy.outbox.announce(PONG)
    await wait_all_tasks_blocked()
    assert len(healthy.writer.batches) == 1


async def test_closing_sends_queued_messages_and_drops_later_ones(harness: OutboxHarness) -> None:
    outbox, writer = harness.outbox, harness.writer
    subscribed = subscription(outbox)
    outbox.limit_rate(0.001)
    for _ in range(2):
        outbox.notify(subscribed)
        await outbox.wait_for_reply_slot()
        outbox.reply(PONG)
        if not outbox.close_code:
            outbox.end(close_codes.PING_TIMEOUT)
            outbox.end(close_codes.TOO_BIG)
        outbox.announce(PONG)
    await harness.start()
    assert harness.over.is_set()
    assert [(batch.pending, len(batch.replies)) for batch in writer.batches] == [([subscribed], 1)]
    assert outbox.close_code is close_codes.PING_TIMEOUT
    assert "heartbeat" in repr(outbox)


@pytest.mark.parametrize("prompt", [0, 1_000])
@pytest.mark.parametrize("ended_first", [True, False])
async def test_closing_while_the_fan_out_may_write_prevents_later_writes(
    harness: OutboxHarness, ended_first: bool, prompt: int
) -> None:
    """The outbox closes while it is in the queue of the fan-out, or before that."""
    outbox, writer = harness.outbox, harness.writer
    subscribed = subscription(outbox)
    writer.prompt = prompt
    await harness.start()
    if ended_first:
        outbox.end(close_codes.GOING_AWAY)
        outbox.notify(subscribed)
    else:
        outbox.notify(subscribed)
        outbox.end(close_codes.GOING_AWAY)
    harness.finish.set()
    await harness.over.wait()
    written = list(writer.batches)
    assert [batch.pending for batch in written] == ([] if ended_first else [[subscribed]])
    assert harness.finished == (prompt == 0 and not ended_first)
    outbox.notify(subscribed)
    outbox.announce(PONG)
    await wait_all_tasks_blocked()
    assert outbox.write() == 0
    assert writer.batches == written


async def test_a_cancelled_writer_is_not_used_again(harness: OutboxHarness) -> None:
    outbox = harness.outbox
    subscribed = subscription(outbox)
    await harness.start()
    outbox.notify(subscribed)  # in the queue of the fan-out already
    harness.scope.cancel()
    await harness.over.wait()
    written = list(harness.writer.batches)
    outbox.announce(PONG)
    await wait_all_tasks_blocked()
    assert outbox.write() == 0
    assert harness.writer.batches == written


async def test_a_rate_limited_outbox_collects_progress_and_sends_replies(
    harness: OutboxHarness, autojump_clock: MockClock
) -> None:
    outbox, writer = harness.outbox, harness.writer
    outbox.limit_rate(2)
    first_subscription, second_subscription = subscription(outbox), subscription(outbox)
    await harness.start()
    outbox.notify(first_subscription)
    await wait_all_tasks_blocked()
    start = trio.current_time()
    outbox.notify(first_subscription)
    outbox.reply(PONG)
    await wait_all_tasks_blocked()
    outbox.notify(second_subscription)
    await trio.sleep(1)
    assert [(batch.pending, batch.at - start) for batch in writer.batches] == [
        ([first_subscription], 0),
        ([], 0),
        ([first_subscription, second_subscription], 0.5),
    ]


async def test_an_outbox_that_has_ended_waits_for_no_tick(
    harness: OutboxHarness, autojump_clock: MockClock
) -> None:
    outbox = harness.outbox
    outbox.limit_rate(0.1)
    await harness.start()
    outbox.notify(subscription(outbox))
    await wait_all_tasks_blocked()
    assert repr(outbox._timer_wheel) == "<TimerWheel, 1 waiting>"
    outbox.end(close_codes.GOING_AWAY)
    assert repr(outbox._timer_wheel) == "<TimerWheel, 0 waiting>"


async def test_the_last_write_schedules_no_tick(
    harness: OutboxHarness, autojump_clock: MockClock
) -> None:
    outbox = harness.outbox
    outbox.limit_rate(0.1)
    await harness.start()
    outbox.notify(subscription(outbox))
    outbox.end(close_codes.GOING_AWAY)
    await harness.over.wait()
    assert len(harness.writer.batches) == 1
    assert repr(outbox._timer_wheel) == "<TimerWheel, 0 waiting>"


async def test_what_becomes_due_during_the_last_write_is_written_before_the_end(
    harness: OutboxHarness, autojump_clock: MockClock
) -> None:
    outbox, writer = harness.outbox, harness.writer
    outbox.limit_rate(0.1)
    await harness.start()
    first_subscription, second_subscription = subscription(outbox), subscription(outbox)
    outbox.notify(first_subscription)
    await wait_all_tasks_blocked()
    outbox.notify(second_subscription)  # it waits for the rate limit, and the end does not
    outbox.end(close_codes.GOING_AWAY)
    await harness.over.wait()
    assert writer.pending == [[first_subscription], [second_subscription]]


async def test_a_new_rate_applies_immediately(
    harness: OutboxHarness, autojump_clock: MockClock
) -> None:
    outbox, writer = harness.outbox, harness.writer
    subscribed = subscription(outbox)
    await harness.start()
    start = trio.current_time()
    for max_hz, opens_after in (0.001, 0), (2, 0.5), (0.1, 10.5), (100, 10.51):
        outbox.limit_rate(max_hz)
        outbox.notify(subscribed)
        await trio.sleep(opens_after - (trio.current_time() - start) + 0.001)
        assert writer.batches[-1].at - start == pytest.approx(opens_after, abs=0.001)


async def test_due_since_is_the_time_of_the_first_notification(
    harness: OutboxHarness, autojump_clock: MockClock
) -> None:
    outbox, writer = harness.outbox, harness.writer
    first_subscription, second_subscription = subscription(outbox), subscription(outbox)
    start = trio.current_time()
    outbox.notify(first_subscription)
    await trio.sleep(3)
    outbox.notify(second_subscription)
    await harness.start()
    assert writer.batches[-1].pending_since == start
    outbox.limit_rate(0.1)  # what waits for that is not late
    outbox.notify(first_subscription)
    await wait_all_tasks_blocked()
    written_at = trio.current_time()
    outbox.notify(second_subscription)
    await trio.sleep(20)
    assert writer.batches[-1].pending_since == written_at + 10
