"""Outages of the gateway: pauses, how long an end is waited for, and log lines."""

from __future__ import annotations

import pytest

from gateway.worker.outage import Outage
from gateway.worker.publisher import NotConnected, Unreachable

REFUSED = NotConnected("refused")


@pytest.mark.parametrize("random", [0.0, 0.5, 1.0])
def test_pauses_grow_to_a_limit_and_are_randomised(random: float) -> None:
    outage, pauses = Outage(), []
    for _ in range(50):
        outage.record_failure(REFUSED, now=100.0, random=random)
        pauses.append(outage.retry_at - 100.0)
    assert pauses[0] == pytest.approx(0.05 + 0.05 * random)
    assert pauses[-1] == pytest.approx(1.5 + 1.5 * random)
    assert pauses == sorted(pauses)
    assert outage.record_response(now=101.0) == "is available again after 1.0 s"
    assert (outage.failures, outage.retry_at) == (0, 0.0)


@pytest.mark.parametrize(("requested", "waited"), [(0.0, 0.05), (7.0, 7.0), (86_400.0, 60.0)])
def test_retry_after_is_respected_up_to_a_limit(requested: float, waited: float) -> None:
    outage = Outage()
    outage.record_failure(Unreachable("429", retry_after=requested), now=100.0, random=0.0)
    assert outage.retry_at - 100.0 == pytest.approx(waited)


def test_an_outage_is_logged_once() -> None:
    outage = Outage()
    assert outage.record_response(now=0.0) is None
    text = outage.record_failure(Unreachable("refused"), now=1.0, random=0.0)
    assert text is not None
    assert text.startswith("is unavailable (refused)")
    assert outage.record_failure(Unreachable("refused"), now=2.0, random=0.0) is None
    assert outage.record_response(now=3.0) == "is available again after 2.0 s"
    assert outage.record_response(now=4.0) is None


def test_a_flapping_gateway_is_logged_at_a_limited_rate() -> None:
    outage, logged = Outage(), 0
    for second in range(180):
        logged += outage.record_failure(Unreachable("500"), now=second, random=0.0) is not None
        logged += outage.record_response(now=second + 0.5) is not None
    assert logged == 6


def test_an_address_without_any_connection_is_waited_for_a_second() -> None:
    outage = Outage()
    assert outage.wait_budget(10.0, now=0.0) == 10.0
    outage.record_failure(REFUSED, now=0.0, random=0.0)
    assert outage.wait_budget(10.0, now=0.9) == 10.0
    assert not outage.never_connected(0.9)
    assert outage.never_connected(1.0)
    assert outage.wait_budget(10.0, now=1.0) == 0.0


@pytest.mark.parametrize("connected", ["answered", "hung up"])
def test_an_address_with_an_earlier_connection_is_waited_for_the_timeout(connected: str) -> None:
    outage = Outage()
    if connected == "answered":
        outage.record_response(now=0.0)
    else:
        outage.record_failure(Unreachable("reset"), now=0.0, random=0.0)
    outage.record_failure(REFUSED, now=0.0, random=0.0)
    assert outage.wait_budget(10.0, now=9.0) == 10.0
    assert outage.wait_budget(10.0, now=10.1) == 0.0
