"""A client that names many jobs leaves room for others; each topic counts for one watcher."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import Limits
from gateway.delivery.hub import Hub
from gateway.delivery.quota import QuotaKey
from gateway.delivery.topic import Subscription
from gateway.model.errors import NodeFull
from tests.events import event

from .subscribers import IgnoringOutbox

LIMITS = Limits(max_topics=3_000, max_topics_per_address=300, max_topics_per_subject=500)


@pytest.fixture
def hub() -> Hub:
    return Hub(LIMITS)


def invent(hub: Hub, quota_key: QuotaKey, names: Iterator[int]) -> int:
    """Watches invented jobs until there is no room. Returns for how many there was room."""
    for number in count():
        try:
            hub.subscribe(f"invented:{next(names)}", IgnoringOutbox(), quota_key=quota_key)
        except NodeFull:
            return number
    raise AssertionError


async def test_the_quota_of_one_address_leaves_topics_for_others(hub: Hub) -> None:
    assert invent(hub, QuotaKey.at("192.0.2.1"), count()) == 300
    with pytest.raises(NodeFull) as caught:
        hub.subscribe("another", IgnoringOutbox(), quota_key=QuotaKey.at("192.0.2.1"))
    assert caught.value.code == "share_full"
    hub.subscribe(
        "invented:0", IgnoringOutbox(), quota_key=QuotaKey.at("192.0.2.1")
    )  # watched already
    assert invent(hub, QuotaKey.at("192.0.2.2"), count(300)) == 300


async def test_the_quota_of_one_subject_leaves_topics_for_others(hub: Hub) -> None:
    names = count()
    found = [invent(hub, QuotaKey.at(f"192.0.2.{n}", "mallory"), names) for n in range(3)]
    assert found == [300, 200, 0]
    hub.subscribe("real", IgnoringOutbox(), quota_key=QuotaKey.at("192.0.2.1", "alice"))


async def test_an_ipv6_network_is_one_address(hub: Hub) -> None:
    assert invent(hub, QuotaKey.at("2001:db8::1"), count()) == 300
    assert invent(hub, QuotaKey.at("2001:db8::2"), count(300)) == 0
    assert invent(hub, QuotaKey.at("2001:db8:0:1::1"), count(400)) == 300


async def test_a_full_node_refuses_every_owner(hub: Hub) -> None:
    names = count()
    for number in range(10):
        invent(hub, QuotaKey.at(f"192.0.2.{number}"), names)
    assert hub.statistics().free == 0
    with pytest.raises(NodeFull) as caught:
        hub.subscribe("another", IgnoringOutbox(), quota_key=QuotaKey.at("192.0.2.99"))
    assert caught.value.code == "node_full"


async def test_a_shared_topic_counts_for_one_owner_until_all_have_left(hub: Hub) -> None:
    first_key, second_key = QuotaKey.at("192.0.2.1"), QuotaKey.at("192.0.2.2")
    made = [hub.subscribe(f"a:{n}", IgnoringOutbox(), quota_key=first_key) for n in range(300)]
    shared = [hub.subscribe(f"a:{n}", IgnoringOutbox(), quota_key=second_key) for n in range(300)]
    assert hub.statistics().free == 2_700
    hub.subscribe("b", IgnoringOutbox(), quota_key=second_key)
    for subscription in made:
        hub.unsubscribe(subscription)
    assert hub.statistics().free == 2_699  # they count for the second by now
    assert invent(hub, first_key, count()) == 300
    assert invent(hub, second_key, count(1_000)) == 0
    for subscription in shared:
        hub.unsubscribe(subscription)
    assert invent(hub, second_key, count(2_000)) == 299


async def test_an_idle_topic_counts_for_the_owner_that_returns(hub: Hub) -> None:
    quota_key, other_key = QuotaKey.at("192.0.2.1"), QuotaKey.at("192.0.2.2")
    watched = hub.subscribe("a", IgnoringOutbox(), quota_key=quota_key)
    hub.deliver([event("a", 1)])
    hub.unsubscribe(watched)
    assert (hub.statistics().topics, hub.statistics().free) == (1, 3_000)
    hub.subscribe("a", IgnoringOutbox(), quota_key=other_key)
    assert (invent(hub, quota_key, count()), invent(hub, other_key, count(1_000))) == (300, 299)


OWNERS = [None, *(QuotaKey(network, subject) for network in "12" for subject in (None, "s", "t"))]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(OWNERS), st.booleans()), max_size=80))
@settings(deadline=None)
def test_quota_counts_equal_the_watched_topics(
    steps: list[tuple[int, QuotaKey | None, bool]],
) -> None:
    async def main() -> None:
        hub = Hub(Limits(max_topics=8, max_topics_per_address=5, max_topics_per_subject=4))
        subscriptions: list[Subscription] = []
        for number, quota_key, comes in steps:
            if comes:
                try:
                    subscriptions.append(
                        hub.subscribe(f"a:{number}", IgnoringOutbox(), quota_key=quota_key)
                    )
                except NodeFull:
                    assert f"a:{number}" not in {watched.job for watched in subscriptions}
            elif subscriptions:
                hub.unsubscribe(subscriptions.pop(number % len(subscriptions)))
            assert hub.statistics().free == 8 - len({watched.job for watched in subscriptions})
        for subscription in subscriptions:
            hub.unsubscribe(subscription)
        names = count()
        found = [invent(hub, quota_key, names) for quota_key in OWNERS[1:] if quota_key]
        assert found == [5, 0, 0, 3, 0, 0]  # nothing is left of the counts

    trio.run(main)
