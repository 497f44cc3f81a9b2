"""The contract of `gateway.brokers.base.Broker`, for every broker.

`brokers.py` lists the brokers. Their time moves by `tick`, so nothing here waits.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from gateway import InvalidInput
from gateway.brokers.base import PublishResult
from gateway.model.constants import QUEUED_RETENTION
from gateway.model.patterns import EVERY_JOB, Patterns
from gateway.model.state import UNSEEN, Position, Request, RequestUpdate, Update
from tests.traceparents import OTHER, SPAN

from .brokers import LIMITS, BrokerUnderTest, collect


async def test_publish_read_and_history_are_consistent(tested: BrokerUnderTest) -> None:
    assert await tested.broker.read(["a"]) == {}
    assert await tested.broker.history("a", after=Position(0, 0)) == []
    receipt = await tested.broker.publish("a", Update(start=True, total=4, done=1))
    assert (receipt.applied, receipt.attempt, receipt.position.seq) == (True, 1, 1)
    second_result = await tested.publish("a", done=2)
    assert second_result == (receipt.position.epoch, 2)

    assert await tested.broker.positions(["b", "a"]) == {"a": second_result}
    assert await tested.broker.positions([]) == {}
    event = (await tested.broker.read(["b", "a"]))["a"]
    assert (event.job, event.position, event.state.percent) == ("a", second_result, 50)
    history = await tested.broker.history("a", after=Position(0, 0))
    assert [one.state.done for one in history] == [1, 2]
    assert await tested.broker.history("a", after=receipt.position) == [event]


async def test_rejections_have_a_reason_and_change_nothing(tested: BrokerUnderTest) -> None:
    await tested.publish("a", attempt=2, percent=5)
    before = await tested.broker.read(["a"])
    stale = await tested.broker.publish("a", Update(attempt=1, percent=50))
    same = await tested.broker.publish("a", Update(percent=5))
    assert (stale.reason, same.reason) == ("stale_attempt", "unchanged")
    assert (stale.attempt, stale.position) == (2, before["a"].position)
    assert await tested.broker.read(["a"]) == before
    await tested.publish("a", status="succeeded")
    assert (await tested.broker.publish("a", Update(percent=50))).reason == "final"


async def test_history_is_limited_to_the_newest_events(tested: BrokerUnderTest) -> None:
    for percent in range(1, 10):
        await tested.publish("a", percent=percent)
    history = await tested.broker.history("a", after=Position(0, 0))
    assert [event.position.seq for event in history] == [5, 6, 7, 8, 9]


async def test_the_feed_has_all_events_since_it_was_opened_in_order(
    tested: BrokerUnderTest,
) -> None:
    await tested.publish("a", percent=1)
    async with tested.broker.feed() as feed, tested.broker.feed() as other:
        for percent in (2, 3, 3, 4):
            await tested.publish("a", percent=percent)
            await tested.publish("b", percent=percent)
        for each in (feed, other):
            events = await collect(each, 6)
            assert [e.state.percent for e in events if e.job == "a"] == [2, 3, 4]
            assert [e.position.seq for e in events if e.job == "b"] == [1, 2, 3]


async def test_a_traceparent_is_in_the_feed_and_is_not_stored(tested: BrokerUnderTest) -> None:
    async with tested.broker.feed() as feed, tested.broker.feed() as other:
        await tested.publish("a", percent=1, lease=1, traceparent=SPAN)
        again = await tested.broker.publish("a", Update(percent=1, traceparent=OTHER))
        assert again.reason == "unchanged"
        await tested.publish("a", percent=2, traceparent=OTHER)
        await tested.publish("a", percent=3)
        await tested.tick(2)
        await tested.broker.expire_leases()
        for each in (feed, other):
            events = await collect(each, 4)
            assert [event.traceparent for event in events] == [SPAN, OTHER, None, None]
    untraced = [replace(event, traceparent=None) for event in events]
    assert await tested.broker.history("a", after=Position(0, 0)) == untraced
    assert await tested.broker.read(["a"]) == {"a": untraced[-1]}
    assert (await tested.broker.recent(EVERY_JOB, limit=5, after=None)).events == untraced[-1:]


async def test_an_update_without_a_report_creates_no_job(tested: BrokerUnderTest) -> None:
    async with tested.broker.feed() as feed:
        for bare in (Update(), Update(run="r"), Update(attempt=3, age=5)):
            result = await tested.broker.publish("a", bare)
            assert (result.reason, result.position, result.attempt) == ("unknown", UNSEEN, 0)
        assert await tested.broker.read(["a"]) == {}
        batch = [("a", Update()), ("a", Update(start=True, run="r")), ("a", Update(run="r"))]
        results = await tested.broker.publish_many(batch)
        reasons = [isinstance(r, PublishResult) and r.reason for r in results]
        assert reasons == ["unknown", None, "unchanged"]
        (event,) = await collect(feed, 1)
    assert event.position.seq == 1


async def test_two_workers_with_different_runs_do_not_mix(tested: BrokerUnderTest) -> None:
    await tested.publish("a", start=True, run="r1")
    await tested.publish("a", start=True, run="r2", percent=5)
    late = await tested.broker.publish("a", Update(run="r1", percent=90))
    assert (late.reason, late.attempt) == ("other_run", 2)
    assert (await tested.broker.read(["a"]))["a"].state.percent == 5


async def test_a_job_lost_in_mid_attempt_keeps_its_age(tested: BrokerUnderTest) -> None:
    await tested.publish("a", attempt=2, percent=5, age=90)
    state = (await tested.broker.read(["a"]))["a"].state
    assert state.started_at is not None
    assert (state.started_at, state.created_at) == (state.updated_at - 90, state.updated_at - 90)


async def test_an_expired_lease_leads_to_stalled_and_lost_and_a_report_to_ok(
    tested: BrokerUnderTest,
) -> None:
    await tested.publish("a", lease=10, percent=5)
    await tested.tick(9)
    assert (await tested.broker.publish("a", Update())).reason == "unchanged"
    await tested.tick(9)
    assert await tested.broker.expire_leases() == 0

    async with tested.broker.feed() as feed:
        await tested.tick(2)
        assert await tested.broker.expire_leases() == 1
        assert await tested.broker.expire_leases() == 0
        await tested.tick(88)
        assert await tested.broker.expire_leases() == 0
        await tested.tick(2)
        assert await tested.broker.expire_leases() == 1
        await tested.tick(1000)
        assert await tested.broker.expire_leases() == 0
        await tested.publish("a")
        events = await collect(feed, 3)
    assert [event.state.health for event in events] == ["stalled", "lost", "ok"]
    assert [event.position.seq for event in events] == [2, 3, 4]
    assert all(event.state.percent == 5 for event in events)


async def test_after_an_outage_of_all_nodes_jobs_become_stalled_and_lost(
    tested: BrokerUnderTest,
) -> None:
    await tested.publish("a", lease=1)
    await tested.tick(100)
    assert [await tested.broker.expire_leases() for _ in range(3)].count(0) >= 1
    assert (await tested.broker.read(["a"]))["a"].state.health == "lost"
    assert (await tested.broker.read(["a"]))["a"].position.seq == 3


@pytest.mark.parametrize("status", ["queued", "succeeded", "failed", "cancelled"])
async def test_queued_and_final_jobs_have_no_lease(tested: BrokerUnderTest, status: Any) -> None:
    await tested.publish("a", status=status, lease=1)
    await tested.tick(1000)
    assert await tested.broker.expire_leases() == 0


async def test_a_shorter_lease_applies_immediately(tested: BrokerUnderTest) -> None:
    await tested.publish("a", lease=1000)
    await tested.publish("a", lease=1)
    await tested.tick(2)
    assert await tested.broker.expire_leases() == 1


async def test_a_job_is_dropped_after_its_retention(tested: BrokerUnderTest) -> None:
    first = await tested.publish("a", status="succeeded")
    await tested.tick(3500)
    await tested.publish("b", lease=600)
    await tested.tick(200)
    await tested.broker.expire_leases()
    assert list(await tested.broker.read(["a", "b"])) == ["b"]
    again = await tested.publish("a", lease=30)
    assert again.seq == 1
    assert again.epoch > first.epoch


async def test_a_queued_job_is_kept_longer(tested: BrokerUnderTest) -> None:
    await tested.publish("a", status="queued")
    await tested.publish("b", status="succeeded")
    await tested.tick(2 * LIMITS.retention)
    await tested.broker.expire_leases()
    assert list(await tested.broker.read(["a", "b"])) == ["a"]
    assert (await tested.publish("a", percent=1)).seq == 2
    await tested.publish("c", status="queued")
    await tested.tick(QUEUED_RETENTION + 1)
    await tested.broker.expire_leases()
    assert await tested.broker.read(["c"]) == {}


async def test_a_lease_longer_than_the_retention_expires(tested: BrokerUnderTest) -> None:
    lease = 2 * LIMITS.retention
    await tested.publish("a", lease=lease)
    await tested.tick(1.5 * LIMITS.retention)
    assert await tested.broker.expire_leases() == 0
    assert list(await tested.broker.read(["a"])) == ["a"]
    await tested.tick(LIMITS.retention)
    assert await tested.broker.expire_leases() == 1
    await tested.tick(9 * lease)
    assert await tested.broker.expire_leases() == 1
    assert (await tested.broker.read(["a"]))["a"].state.health == "lost"


async def test_recent_pages_newest_first_with_filters(tested: BrokerUnderTest) -> None:
    for number in range(5):
        await tested.publish(f"x:{number}", percent=1)
        await tested.publish(f"y:{number}", status="failed")
        await tested.tick(1)
    await tested.publish("x:1", percent=2)

    async def names(prefix: str = "", **query: Any) -> list[list[str]]:
        pages = []
        after = None
        while True:
            page = await tested.broker.recent(EVERY_JOB.within(prefix), after=after, **query)
            pages.append([event.job for event in page.events])
            after = page.next_cursor
            if after is None:
                return pages

    assert await names(limit=4, prefix="x:") == [["x:1", "x:4", "x:3", "x:2"], ["x:0"]]
    assert await names(limit=9, status="failed") == [["y:4", "y:3", "y:2", "y:1", "y:0"]]
    assert await names(limit=5, prefix="z") == [[]]
    assert await names(limit=5, prefix="y", status="running") == [[]]
    assert await names(limit=1, prefix="x:0") == [["x:0"]]


async def test_jobs_that_do_not_match_are_not_on_a_page(tested: BrokerUnderTest) -> None:
    for number in range(5):
        await tested.publish(f"user:7:{number}", percent=1)
        await tested.publish(f"user:9:{number}", percent=1)
        await tested.tick(1)
    mine = Patterns.parse(["user:7:*", "user:9:0"])
    page = await tested.broker.recent(mine, limit=5, after=None)
    assert page.next_cursor is not None
    next_page = await tested.broker.recent(mine, limit=5, after=page.next_cursor)
    assert next_page.next_cursor is None
    found = [event.job for event in [*page.events, *next_page.events]]
    assert sorted(found) == [*(f"user:7:{number}" for number in range(5)), "user:9:0"]
    for others in (["user:8:*"], ["user:9"], []):
        page = await tested.broker.recent(Patterns.parse(others), limit=1, after=None)
        assert (list(page.events), page.next_cursor) == ([], None)


async def test_a_page_ends_after_the_scan_limit(tested: BrokerUnderTest) -> None:
    await tested.publish("x:old", percent=1)
    await tested.publish("x:older", status="failed")
    for number in range(45):
        await tested.publish(f"y:{number}", percent=1)
        await tested.tick(1)
    for query in ({"jobs": EVERY_JOB.within("x:")}, {"jobs": EVERY_JOB, "status": "failed"}):
        page = await tested.broker.recent(**query, limit=5, after=None)
        assert (list(page.events), page.next_cursor is None) == ([], False)
        jobs, pages = [], 1
        while page.next_cursor is not None:
            page = await tested.broker.recent(**query, limit=5, after=page.next_cursor)
            jobs += [event.job for event in page.events]
            pages += 1
        assert sorted(jobs) == (["x:older"] if "status" in query else ["x:old", "x:older"])
        assert pages <= 47 / 10 + 1  # a third from each of three shards


async def test_a_page_ends_after_the_size_limit(tested: BrokerUnderTest) -> None:
    for number in range(6):
        await tested.publish(f"big:{number}", data=msgspec.Raw(b'"%s"' % (b"x" * 8_000)))
    lengths, after = [], None
    while True:
        page = await tested.broker.recent(EVERY_JOB, limit=50, after=after)
        lengths.append(len(page.events))
        after = page.next_cursor
        if after is None:
            break
    assert lengths == [3, 3]  # the first that is over 20,000 bytes is the last


async def test_a_nodes_own_job_is_in_no_list(tested: BrokerUnderTest) -> None:
    async with tested.broker.feed() as feed:
        position = await tested.publish("!probe:x", status="queued")
        assert [event.job for event in await collect(feed, 1)] == ["!probe:x"]
    assert await tested.broker.positions(["!probe:x"]) == {"!probe:x": position}
    await tested.publish("a", lease=30)
    page = await tested.broker.recent(EVERY_JOB, limit=5, after=None)
    assert [event.job for event in page.events] == ["a"]


@pytest.mark.parametrize("after", ["", "x", "-1", "1e9", "9" * 30])
async def test_an_invalid_cursor_is_rejected(tested: BrokerUnderTest, after: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await tested.broker.recent(EVERY_JOB, limit=5, after=after)
    assert caught.value.field == "after"


# Requests.


def request_update(id_: str = "1", verb: str = "cancel", **more: Any) -> RequestUpdate:
    return RequestUpdate(request=Request(id=id_, verb=verb, by="user 7"), **more)


async def asked_of(tested: BrokerUnderTest, job: str = "a") -> Request | None:
    return (await tested.broker.read([job]))[job].state.request


async def test_a_request_is_an_event_and_is_returned_until_it_is_acknowledged(
    tested: BrokerUnderTest,
) -> None:
    broker = tested.broker
    await broker.publish("a", Update(accepts=("cancel", "pause")))
    async with broker.feed() as feed:
        response = await broker.publish("a", request_update())
        assert (response.applied, response.position.seq) == (True, 2)
        with trio.fail_after(5):
            (event,) = await feed.receive()
    request = event.state.request
    assert request is not None
    assert (request.id, request.verb, request.by, request.open) == ("1", "cancel", "user 7", True)
    assert (await broker.publish("a", Update())).request == request
    assert (await broker.publish("a", Update(done=1))).request == request
    acknowledged = await broker.publish("a", Update(ack="1"))
    assert (acknowledged.applied, acknowledged.request) == (True, None)
    request_seen = await asked_of(tested)
    assert request_seen is not None
    assert request_seen.seen_at is not None
    await broker.publish("a", Update(status="cancelled"))
    assert (await broker.publish("a", request_update("2"))).reason == "final"


async def test_a_verb_that_the_job_does_not_accept_is_rejected(tested: BrokerUnderTest) -> None:
    broker = tested.broker
    assert (await broker.publish("a", request_update())).reason == "unknown"
    assert await broker.read(["a"]) == {}
    await broker.publish("a", Update(done=1))
    assert (await broker.publish("a", request_update())).reason == "not_accepted"
    await broker.publish("a", Update(accepts=("pause",)))
    assert (await broker.publish("a", request_update())).reason == "not_accepted"
    assert (
        await broker.publish("a", request_update(verb="pause", attempt=2))
    ).reason == "stale_attempt"
    assert (await broker.publish("a", request_update(verb="pause", attempt=1))).applied


async def test_a_newer_request_replaces_all_but_a_cancel(tested: BrokerUnderTest) -> None:
    broker = tested.broker
    await broker.publish("a", Update(accepts=("cancel", "pause", "resume")))
    assert (await broker.publish("a", request_update("1", "pause"))).applied
    assert (await broker.publish("a", request_update("1", "pause"))).reason == "unchanged"
    assert (await broker.publish("a", request_update("2", "resume"))).applied
    assert (await broker.publish("a", request_update("3", "cancel"))).applied
    assert (await broker.publish("a", request_update("4", "pause"))).reason == "unchanged"
    await broker.publish("a", Update(ack="2", refused="too late"))  # of a dropped record
    await broker.publish("a", Update(ack="3", refused="it is nearly done"))
    refused_request = await asked_of(tested)
    assert refused_request is not None
    assert (refused_request.id, refused_request.refused) == ("3", "it is nearly done")
    assert (await broker.publish("a", request_update("5", "cancel"))).applied


async def test_a_request_does_not_renew_the_lease(tested: BrokerUnderTest) -> None:
    """The worker is still silent when a client sends a request, or sends it again."""
    await tested.broker.publish("a", Update(accepts=("cancel",), lease=10))
    for _ in range(2):
        await tested.tick(4)
        await tested.broker.publish("a", request_update("1", "cancel"))
        await tested.broker.expire_leases()
    await tested.tick(3)
    await tested.broker.expire_leases()
    assert (await tested.broker.read(["a"]))["a"].state.health == "stalled"


async def test_an_earlier_request_that_is_sent_again_does_not_return(
    tested: BrokerUnderTest,
) -> None:
    publish = tested.broker.publish
    await publish("a", Update(accepts=("pause", "resume")))
    await publish("a", request_update("1", "pause"))
    await publish("a", request_update("2", "resume"))
    assert (await publish("a", request_update("1", "pause"))).reason == "unchanged"
    stands = await asked_of(tested)
    assert stands is not None
    assert stands.id == "2"
    # The next attempt has none of them.
    await publish("a", Update(attempt=2, accepts=("pause", "resume")))
    assert (await publish("a", request_update("1", "pause"))).applied
    assert (await publish("a", request_update("2", "resume"))).applied


async def test_a_request_belongs_to_an_attempt_and_renews_no_lease(tested: BrokerUnderTest) -> None:
    broker = tested.broker
    await broker.publish("a", Update(accepts=("cancel",), lease=10))
    await tested.tick(9)
    await broker.publish("a", request_update())
    await tested.tick(2)
    assert await broker.expire_leases() == 1
    await broker.publish("a", Update(start=True, run="2"))
    state = (await broker.read(["a"]))["a"].state
    assert (state.attempt, state.request, state.accepts) == (2, None, None)
    assert (await broker.publish("a", Update(attempt=1, ack="1"))).reason == "stale_attempt"


async def test_the_worker_of_a_queued_job_receives_its_request(tested: BrokerUnderTest) -> None:
    """The program that queued the job does not know the worker's run. A worker that does not
    accept the request does not receive it, and no client sees it any more."""
    broker = tested.broker
    for job in ("a", "b"):
        await broker.publish(job, Update(status="queued", accepts=("cancel", "pause")))
        assert (await broker.publish(job, request_update())).applied
        assert await asked_of(tested, job) is not None
    begun = await broker.publish("a", Update(start=True, run="r", accepts=("cancel",)))
    assert (begun.attempt, begun.request) == (1, await asked_of(tested))
    assert begun.request is not None
    assert (await broker.publish("a", request_update())).reason == "unchanged"
    assert (await broker.publish("b", Update(start=True, run="r"))).request is None
    assert await asked_of(tested, "b") is None
    await broker.publish("a", Update(ack="1", status="cancelled"))
    await broker.publish("a", Update(start=True, run="s", accepts=("cancel",)))
    assert await asked_of(tested) is None
