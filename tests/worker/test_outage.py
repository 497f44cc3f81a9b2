"""When a gateway is away: pauses, and what is said of it."""

from __future__ import annotations

from gateway.worker.outage import Outage


def test_pauses_grow_to_a_bound_and_jitter() -> None:
    outage, pauses = Outage(), []
    for _ in range(50):
        outage.failed("refused", now=100.0)
        pauses.append(outage.retry_at - 100.0)
    assert 0.05 <= pauses[0] <= 0.1
    assert all(1.5 <= pause <= 3.0 for pause in pauses[5:])
    assert len(set(pauses[5:])) > 1
    assert outage.answered(now=101.0) == "is back after 1.0 s"
    assert (outage.failures, outage.retry_at) == (0, 0.0)


def test_said_once() -> None:
    outage = Outage()
    assert outage.answered(now=0.0) is None
    said = outage.failed("refused", now=1.0)
    assert said is not None
    assert said.startswith("is away (refused)")
    assert outage.failed("refused", now=2.0) is None
    assert outage.answered(now=3.0) == "is back after 2.0 s"
    assert outage.answered(now=4.0) is None


def test_a_flapping_gateway_is_said_now_and_then() -> None:
    outage, said = Outage(), 0
    for second in range(180):
        said += outage.failed("500", now=second) is not None
        said += outage.answered(now=second + 0.5) is not None
    assert said == 6
