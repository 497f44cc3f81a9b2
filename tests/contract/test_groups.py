"""Groups, on every broker: what children report becomes the group's state."""

from __future__ import annotations

import pytest
import trio

from gateway.model.state import Children, Request, RequestUpdate, State, Update

from .brokers import LIMITS, BrokerUnderTest, collect


async def state_of(tested: BrokerUnderTest, job: str = "g") -> State:
    return (await tested.broker.read([job]))[job].state


async def test_a_group_counts_its_children_and_ends_with_them(tested: BrokerUnderTest) -> None:
    await tested.publish("g", children=3)
    state = await state_of(tested)
    assert (state.status, state.percent, state.children) == ("running", 0, Children(3))
    await tested.publish("g/a", percent=50)
    await tested.publish("g/b", status="queued")
    state = await state_of(tested)
    assert (state.percent, state.children) == (16.6, Children(3, queued=1, running=1))
    await tested.publish("g/a", status="succeeded")
    await tested.publish("g/b", status="failed", error="no disk")
    state = await state_of(tested)
    assert (state.percent, state.status) == (66.6, "running")
    await tested.publish("g/c", status="succeeded")
    state = await state_of(tested)
    assert (state.status, state.error, state.percent) == ("failed", "1 of 3 failed", 100)
    assert state.children == Children(3, succeeded=2, failed=1)
    assert state.finished_at is not None


async def test_a_retried_child_opens_the_groups_next_attempt(tested: BrokerUnderTest) -> None:
    await tested.publish("g", children=2, message="two parts", accepts=("cancel",))
    await tested.publish("g/a", status="succeeded")
    await tested.publish("g/b", status="failed")
    assert (await state_of(tested)).status == "failed"
    await tested.publish("g/b", start=True, percent=50)
    state = await state_of(tested)
    assert (state.attempt, state.status, state.percent) == (2, "running", 75)
    assert (state.error, state.message, state.accepts) == (None, None, ("cancel",))
    assert state.children == Children(2, running=1, succeeded=1)
    await tested.publish("g/b", status="succeeded")
    assert (await state_of(tested)).status == "succeeded"
    assert (await state_of(tested)).attempt == 2


async def test_small_changes_of_children_make_no_group_event(tested: BrokerUnderTest) -> None:
    await tested.publish("g", children=100)
    await tested.publish("g/a", percent=1)
    before = await tested.broker.positions(["g"])
    await tested.publish("g/a", percent=5)
    assert await tested.broker.positions(["g"]) == before
    async with tested.broker.feed() as feed:
        await tested.publish("g/a", percent=10)
        events = await collect(feed, 2)
    assert [(event.job, event.state.percent) for event in events] == [("g/a", 10), ("g", 0.1)]
    history = await tested.broker.history("g", after=before["g"])
    assert history == [events[1]]


async def test_a_group_has_far_fewer_events_than_its_children(tested: BrokerUnderTest) -> None:
    """1,000 reports of twenty children, each of a tenth of a percent, make a hundred events."""
    names = [f"g/{number}" for number in range(20)]
    await tested.publish("g", children=len(names))
    for step in range(51):
        before = (await tested.broker.positions(["g"]))["g"]
        update = Update(percent=step / 5)
        await tested.broker.publish_many([(name, update) for name in names])
        if step == 0:
            began = (await tested.broker.positions(["g"]))["g"]
            assert began.seq - before.seq == len(names)  # the start of each child is an event
    after = (await tested.broker.positions(["g"]))["g"]
    assert (await state_of(tested)).percent == 10
    assert after.seq - began.seq == 100


async def test_children_that_report_before_the_declaration_are_counted(
    tested: BrokerUnderTest,
) -> None:
    await tested.publish("g/a", status="succeeded", weight=2)
    await tested.publish("g/b", percent=10)
    assert await tested.broker.read(["g"]) == {}
    await tested.publish("g", children=4)
    state = await state_of(tested)
    assert (state.percent, state.children) == (52.5, Children(4, running=1, succeeded=1))


async def test_an_open_group_ends_after_its_size_is_declared(tested: BrokerUnderTest) -> None:
    await tested.publish("g", children=None)
    await tested.publish("g/a", status="succeeded")
    state = await state_of(tested)
    assert (state.status, state.percent, state.children) == (
        "running", None, Children(None, succeeded=1),
    )  # fmt: skip
    await tested.publish("g", children=1)
    assert (await state_of(tested)).status == "succeeded"


async def test_an_orchestrator_sets_other_fields_and_may_end_the_group(
    tested: BrokerUnderTest,
) -> None:
    await tested.publish("g", children=2)
    await tested.publish("g/a", percent=50)
    await tested.publish("g", percent=90, done=9, total=10, message="half")
    state = await state_of(tested)
    assert (state.percent, state.done, state.total, state.message) == (25, None, None, "half")
    await tested.publish("g", status="cancelled")
    await tested.publish("g/a", status="succeeded")
    await tested.publish("g/b", status="succeeded")  # new, but no attempt after another
    state = await state_of(tested)
    assert (state.status, state.attempt, state.children) == ("cancelled", 1, Children(2, running=1))


async def test_groups_nest_four_levels(tested: BrokerUnderTest) -> None:
    names = ["g", "g/1", "g/1/2", "g/1/2/3", "g/1/2/3/4"]
    for group in names:
        await tested.publish(group, children=1)
    await tested.publish("g/1/2/3/4/job", percent=50)
    percents = [(await state_of(tested, group)).percent for group in names]
    assert percents == [0, 50, 50, 50, 50]
    await tested.publish("g/1/2/3/4/job", status="failed")
    assert [(await state_of(tested, group)).status for group in names] == ["running"] + 4 * [
        "failed"
    ]


async def test_a_start_resets_the_counts_of_a_group(tested: BrokerUnderTest) -> None:
    await tested.publish("g", children=2)
    await tested.publish("g/a", status="succeeded")
    await tested.publish("g/b", percent=50)
    await tested.publish("g", start=True)
    state = await state_of(tested)
    assert (state.attempt, state.percent, state.children) == (2, 25, Children(2, running=1))
    await tested.publish("g/a", start=True, status="succeeded")
    await tested.publish("g/b", status="succeeded")
    assert (await state_of(tested)).children == Children(2, succeeded=2)


async def test_a_group_has_no_lease_and_is_kept_as_long_as_its_children(
    tested: BrokerUnderTest,
) -> None:
    await tested.publish("g", children=2, lease=1)
    await tested.publish("g/a", status="succeeded")
    await tested.publish("g/b", lease=10 * LIMITS.retention)
    await tested.tick(2 * LIMITS.retention)
    await tested.broker.expire_leases()
    state = await state_of(tested)
    assert (state.health, state.children) == ("ok", Children(2, running=1, succeeded=1))
    assert list(await tested.broker.read(["g/a", "g/b"])) == ["g/b"]
    # The dropped child is still counted, and counts as another attempt when it reports again.
    await tested.publish("g/b", status="succeeded")
    assert (await state_of(tested)).status == "succeeded"
    await tested.publish("g/a", percent=1)
    assert (await state_of(tested)).children == Children(2, running=1, succeeded=1)
    assert (await state_of(tested)).attempt == 2


async def test_a_lost_child_counts_as_running_until_it_is_dropped(tested: BrokerUnderTest) -> None:
    await tested.publish("g", children=2)
    await tested.publish("g/a", lease=1)
    await tested.publish("g/b", lease=1)
    await tested.tick(20)
    await tested.broker.expire_leases()
    assert (await state_of(tested, "g/a")).health == "lost"
    assert (await state_of(tested)).children == Children(2, running=2)
    await tested.publish("g/b", status="succeeded")
    await tested.tick(LIMITS.retention)
    await tested.publish("g", message="still here")
    await tested.broker.expire_leases()
    state = await state_of(tested)
    assert (state.status, state.children) == ("running", Children(2, succeeded=1))


async def test_a_group_is_lost_if_all_its_running_children_are(tested: BrokerUnderTest) -> None:
    await tested.publish("g", children=5)
    await tested.publish("g/a", percent=10, lease=1)
    await tested.publish("g/b", percent=10, lease=4)
    await tested.publish("g/c", status="queued")
    healths = []
    for _ in range(3):
        await tested.tick(3)
        await tested.broker.expire_leases()
        healths.append((await state_of(tested)).health)
    await tested.tick(40)
    await tested.broker.expire_leases()
    state = await state_of(tested)
    assert [*healths, state.health, state.eta] == ["ok", "stalled", "stalled", "lost", None]
    await tested.publish("g/a", status="failed", error="no disk")
    assert (await state_of(tested)).health == "lost"
    await tested.publish("g/c", percent=1)
    state = await state_of(tested)
    assert (state.health, state.children) == ("ok", Children(5, running=2, failed=1))


@pytest.mark.parametrize("children", [0, 1])
async def test_a_group_without_children_ends_immediately(
    tested: BrokerUnderTest, children: int
) -> None:
    await tested.publish("g", children=children)
    assert (await state_of(tested)).final == (children == 0)


async def test_concurrent_reports_of_children_are_all_counted(tested: BrokerUnderTest) -> None:
    await tested.publish("g", children=40)

    async def work(number: int) -> None:
        for percent in (10, 60):
            await tested.publish(f"g/{number}", percent=percent)
        await tested.broker.publish(f"g/{number}", Update(status="succeeded"))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(work, number)
    state = await state_of(tested)
    assert (state.status, state.children) == ("succeeded", Children(40, succeeded=40))


async def test_running_children_are_listed_by_name(tested: BrokerUnderTest) -> None:
    assert await tested.broker.running_children("g") == []
    await tested.publish("g/a", percent=1)
    await tested.publish("g/b", status="queued")
    await tested.publish("g/c", status="succeeded")
    await tested.publish("g/s/x", percent=1)
    assert await tested.broker.running_children("g") == ["g/a"]
    assert await tested.broker.running_children("g/s") == ["g/s/x"]


async def test_a_job_that_begins_later_gets_the_request_of_its_group(
    tested: BrokerUnderTest,
) -> None:
    await tested.publish("g", children=3, accepts=("cancel",))
    await tested.publish("g/before", percent=1, accepts=("cancel",))
    await tested.broker.publish(
        "g", RequestUpdate(request=Request(id="r", verb="cancel", by="ann"))
    )
    async with tested.broker.feed() as feed:
        begins = Update(start=True, run="x", accepts=("cancel",))
        result = await tested.broker.publish("g/s/a", begins)
        events = await collect(feed, 2)
    assert result.applied
    assert result.request is not None
    assert (result.request.id, result.request.verb, result.request.by) == (
        "r",
        "cancel",
        "ann",
    )
    assert result.position == events[1].position
    assert [event.state.request for event in events] == [None, result.request]
    assert await tested.broker.history("g/s/a", after=events[0].position) == events[1:]
    # A child that ran before also receives it, also in the answer to a renewal.
    result = await tested.broker.publish("g/before", Update(attempt=1))
    assert (result.reason, result.request and result.request.id) == ("unchanged", "r")
    assert (await tested.broker.positions(["g/before"]))["g/before"] == result.position
    # After the worker has acknowledged it, its reports do not get the request again.
    again = await tested.broker.publish("g/s/a", Update(attempt=1, ack="r", percent=3))
    assert again.request is None
    assert (await state_of(tested, "g/s/a")).request != result.request


async def test_a_request_that_a_killed_node_did_not_send_to_all_children_reaches_them(
    tested: BrokerUnderTest,
) -> None:
    accepts = ("pause", "resume", "save")
    await tested.publish("g", children=3, accepts=accepts)
    for child in ("g/a", "g/b"):
        await tested.publish(child, percent=1, accepts=accepts)
    for number, verb in enumerate(("pause", "resume", "save")):
        await tested.tick(1)
        request = Request(id=str(number), verb=verb)
        # The node stores the request in the group, sends it to one child, and is killed.
        for job in ("g", "g/a"):
            await tested.broker.publish(job, RequestUpdate(request=request))
        await tested.tick(1)
        result = await tested.broker.publish("g/b", Update(attempt=1))
        assert (result.request and result.request.verb) == verb
        result = await tested.broker.publish("g/a", Update(attempt=1, ack=str(number)))
        assert result.request is None
    # A request that is not lasting is not for jobs that begin later.
    begins = Update(start=True, run="x", accepts=accepts)
    assert (await tested.broker.publish("g/c", begins)).request is None


@pytest.mark.parametrize("inner", ["undeclared", "ended"])
async def test_below_an_inner_group_that_is_not_running_the_next_report_brings_any_verb(
    tested: BrokerUnderTest, inner: str
) -> None:
    """The job is not among the running children, so no node sends the request to the job."""
    accepts = ("pause", "resume", "save")
    await tested.publish("g", children=2, accepts=accepts)
    if inner == "ended":
        await tested.publish("g/s", children=2)
    await tested.publish("g/s/x", percent=1, accepts=accepts)
    if inner == "ended":
        await tested.publish("g/s", status="failed", error="given up")
    assert await tested.broker.running_children("g") == []
    for number, verb in enumerate(accepts):
        await tested.tick(1)
        request = Request(id=str(number), verb=verb)
        assert (await tested.broker.publish("g", RequestUpdate(request=request))).applied
        await tested.tick(1)
        result = await tested.broker.publish("g/s/x", Update(attempt=1))
        assert (result.request and result.request.verb) == verb
        result = await tested.broker.publish("g/s/x", Update(attempt=1, ack=str(number)))
        assert result.request is None


async def test_a_group_that_begins_with_its_child_gets_the_request_too(
    tested: BrokerUnderTest,
) -> None:
    await tested.publish("g", children=1, accepts=("cancel",))
    await tested.publish("g/s", children=2, status="queued", accepts=("cancel",))
    await tested.broker.publish("g", RequestUpdate(request=Request(id="r", verb="cancel")))
    await tested.publish("g/s/a", status="succeeded")
    state = await state_of(tested, "g/s")
    assert (state.status, state.children) == ("running", Children(2, succeeded=1))
    assert state.request is not None
    assert state.request.id == "r"
