"""One client's subscription to a set: when it notifies the outbox, and what it keeps."""

from __future__ import annotations

import pytest
from attrs import define, field
from msgspec.structs import replace
from trio.testing import MockClock

from gateway import Limits
from gateway.delivery.hub import Hub
from gateway.delivery.quota import QuotaKey
from gateway.delivery.repairs import Repairs
from gateway.delivery.set_registry import SetRegistry
from gateway.delivery.set_subscription import SetSubscription
from gateway.delivery.timer_wheel import TimerWheel
from gateway.delivery.topic import AnySubscription, Subscription
from gateway.model.state import UNSEEN, Event, Position
from gateway.model.statuses import Status
from gateway.protocol.commands import Mode
from tests.events import event


@define(eq=False)
class Outbox:
    """Records its notifications."""

    notified: list[AnySubscription] = field(factory=list)

    def notify(self, subscription: AnySubscription) -> None:
        self.notified.append(subscription)

    def cancel(self, subscription: AnySubscription) -> None:
        pass


@define
class Holder:
    """In place of `Session`: the subscriptions of one connection, without reference counts."""

    hub: Hub
    outbox: Outbox
    mode: Mode = "latest"
    position: Position | None = None
    events: dict[str, Event] = field(factory=dict)
    """The newest event of each job, as the broker has it."""
    held: dict[str, Subscription] = field(factory=dict)

    def acquire(self, job: str) -> Subscription:
        self.held[job] = self.hub.subscribe(
            job, self.outbox, mode=self.mode, position=self.position
        )
        Repairs(self.hub).apply_loads({job: UNSEEN}, self.events)
        return self.held[job]

    def release(self, job: str) -> None:
        self.hub.unsubscribe(self.held.pop(job))

    def release_for_client(self, job: str) -> None:
        self.release(job)

    def release_after_final_state(self, job: str) -> None:
        self.release(job)

    def drop_positions(self, prefix: str) -> None:
        pass

    def announce_denial(self, jobs: dict[str, str]) -> None:
        raise AssertionError(f"no room for {jobs}")


class Watched:
    """A set of one client, with at most one job in its view."""

    def __init__(
        self,
        mode: Mode = "latest",
        position: Position | None = None,
        sets: SetRegistry | None = None,
    ) -> None:
        self.hub = Hub(Limits())
        self.sets = sets or SetRegistry(Limits(), timer_wheel=TimerWheel(), clock=lambda: 1.0)
        self.outbox = Outbox()
        self.holder = Holder(self.hub, self.outbox, mode, position)
        self.watch = SetSubscription(
            *("a:", None, ("running", "succeeded"), 1, False),
            *(self.sets, self.outbox, self.holder, QuotaKey("", None)),
        )
        self.sets.begin_scan(everything=True).end()
        self.kinds()

    def deliver(self, job: str, seq: int, status: Status = "running", *, started: float) -> None:
        one = event(job, seq)
        ended = 100.0 if status == "succeeded" else None
        state = replace(one.state, status=status, started_at=started, finished_at=ended)
        one = self.holder.events[job] = replace(one, state=state)
        self.hub.deliver([one])
        self.sets.deliver([one])

    def kinds(self) -> list[str]:
        """Take everything that is due."""
        kinds: list[str] = []
        while (message := self.watch.next_message()) is not None:
            kinds.append(message.kind)
        return kinds

    def displace(self) -> None:
        """a:1 is shown, and then displaced by a:2."""
        self.deliver("a:1", 1, started=1.0)
        assert "set" in self.kinds()
        self.deliver("a:2", 1, started=2.0)
        assert "set" in self.kinds()
        assert list(self.holder.held) == ["a:2"]
        self.outbox.notified.clear()


async def test_the_end_of_a_displaced_job_does_not_wait_for_the_next_notification_of_the_set(
    autojump_clock: MockClock,
) -> None:
    watched = Watched()
    watched.displace()
    watched.deliver("a:1", 2, "succeeded", started=1.0)
    assert watched.watch in watched.outbox.notified
    assert watched.watch.next_message() is not None


async def test_a_set_that_changes_while_it_is_written_is_due_again(
    autojump_clock: MockClock,
) -> None:
    watched = Watched()
    watched.displace()
    watched.deliver("a:3", 1, started=3.0)
    message = watched.watch.next_message()
    while message is not None and message.kind != "set":
        message = watched.watch.next_message()
    assert message is not None
    watched.outbox.notified.clear()
    watched.deliver("a:4", 1, started=4.0)  # too early for another notification of the set
    assert watched.outbox.notified == []
    watched.kinds()
    assert watched.watch in watched.outbox.notified


async def test_a_job_whose_history_must_be_read_stays_due(autojump_clock: MockClock) -> None:
    watched = Watched(mode="every", position=Position(1, 1))
    watched.deliver("a:1", 1, started=1.0)
    watched.hub.subscribe("a:1", Outbox())
    watched.deliver("a:1", 4, started=1.0)
    watched.outbox.notified.clear()
    assert watched.kinds() == ["set"]
    assert watched.holder.held["a:1"] in watched.outbox.notified


async def test_the_first_message_of_a_loaded_set_is_the_set(autojump_clock: MockClock) -> None:
    sets = SetRegistry(Limits(), timer_wheel=TimerWheel(), clock=lambda: 1.0)
    outbox = Outbox()
    watch = SetSubscription(
        *("a:", None, ("running",), 1, False, sets, outbox),
        *(Holder(Hub(Limits()), outbox), QuotaKey("", None)),
    )
    sets.begin_scan(everything=True).end()
    message = watch.next_message()
    assert message is not None
    assert message.kind == "set"
    assert watch.next_message() is None


async def test_closing_releases_a_job_whose_last_state_was_not_taken(
    autojump_clock: MockClock,
) -> None:
    watched = Watched()
    watched.displace()
    watched.deliver("a:1", 2, "succeeded", started=1.0)
    assert "a:1" in watched.holder.held
    watched.watch.close()
    assert watched.holder.held == {}


async def test_a_closed_set_holds_no_job_that_ends_later(autojump_clock: MockClock) -> None:
    watched = Watched()
    watched.displace()
    watched.watch.close()
    watched.deliver("a:1", 2, "succeeded", started=1.0)
    assert watched.holder.held == {}


@pytest.mark.parametrize("denied", [True, False])
async def test_only_a_denied_set_is_due_before_the_list_was_read(
    denied: bool, autojump_clock: MockClock
) -> None:
    sets = SetRegistry(Limits(), timer_wheel=TimerWheel(), clock=lambda: 1.0)
    outbox = Outbox()
    watch = SetSubscription(
        *("a:", None, ("running",), 1, denied, sets, outbox),
        *(Holder(Hub(Limits()), outbox), QuotaKey("", None)),
    )
    assert outbox.notified == ([watch] if denied else [])


async def test_a_client_that_reconnects_finds_its_view(autojump_clock: MockClock) -> None:
    """The view is kept, so that the client receives only what has changed meanwhile."""
    sets = SetRegistry(Limits(), timer_wheel=TimerWheel(), clock=lambda: 1.0)
    views = []
    for _ in range(2):
        watched = Watched(sets=sets)
        views.append((watched.watch._view.epoch, watched.watch._view.seq))
        watched.watch.close()
    assert views[0] == views[1]
