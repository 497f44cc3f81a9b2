"""Each check of `held_requests` detects a violation: each rule is broken once, by records alone."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, evolve, field

from .held_requests import Held, HeldRequests

ACCEPTS = ("cancel", "pause", "resume")
RUNNING = Held(1, "running", ACCEPTS, 1.0, None)


def request(id_: str = "r", verb: str = "pause", at: float = 2.0, **more: Any) -> dict[str, Any]:
    return {"id": id_, "verb": verb, "at": at} | more


@define
class Broker:
    """A broker with a running group `g` and its running children `g/a` and `g/b`."""

    held: HeldRequests = field(factory=lambda: HeldRequests(["g", "g/a", "g/b"], (), fenced=True))
    records: dict[str, Held] = field(factory=lambda: dict.fromkeys(("g", "g/a", "g/b"), RUNNING))

    def __attrs_post_init__(self) -> None:
        self.held.check_command(self.records.get, publishes=True)

    def change(self, job: str, **changes: Any) -> str:
        """Applies one command; returns the violation."""
        self.records[job] = evolve(self.records[job], **changes)
        self.held.check_command(self.records.get, publishes=True)
        return self.held.violation or ""


async def test_correct_records_break_no_rule() -> None:
    broker = Broker()
    before = broker.held.now
    broker.change("g", request=request())
    broker.change("g/a", request=request(at=2.1))
    broker.change("g/b", request=request(at=2.1))
    assert broker.held.left_out(before, "g", "r", "pause") is None
    broker.change("g/a", request=request(at=2.1, seen_at=3.0), reported_at=3.0)
    broker.change("g/a", request=request("own", "resume", at=4.0))
    broker.change("g/a", reported_at=5.0)
    # The next attempt gets it as well, and with its first report.
    broker.change("g/a", attempt=2, request=request(at=6.0), reported_at=6.0)
    assert broker.change("g/a", status="cancelled", reported_at=7.0) == ""


async def test_a_running_child_without_the_request_is_detected() -> None:
    broker = Broker()
    before = broker.held.now
    broker.change("g", request=request())
    broker.change("g/a", request=request(at=2.1))
    wrong = broker.held.left_out(before, "g", "r", "pause")
    assert "g/b runs, and was not asked" in (wrong or "")


async def test_a_later_child_without_the_request_is_detected() -> None:
    broker = Broker()
    broker.change("g", request=request())
    assert "is not asked what a group above it is" in broker.change("g/a", reported_at=3.0)


@pytest.mark.parametrize("by_report", [False, True])
async def test_a_repeated_request_is_detected(by_report: bool) -> None:
    broker = Broker()
    broker.change("g", request=request())
    broker.change("g/a", request=request(at=2.1))
    broker.change("g/a", request=request("own", "resume", at=3.0))
    again = {"reported_at": 4.0} if by_report else {}
    assert "is asked the same again" in broker.change("g/a", request=request(at=4.0), **again)


async def test_an_older_request_of_a_group_that_replaces_a_newer_one_is_detected() -> None:
    broker = Broker()
    broker.change("g", request=request())
    broker.change("g/a", request=request("own", "resume", at=3.0))
    wrong = broker.change("g/a", request=request(at=4.0), reported_at=4.0)
    assert "is asked what its group was asked before" in wrong


async def test_a_request_that_replaces_a_cancel_is_detected() -> None:
    broker = Broker()
    broker.change("g/a", request=request("c", "cancel"))
    assert "in place of a cancel" in broker.change("g/a", request=request("p", at=3.0))


async def test_a_request_that_survives_its_attempt_is_detected() -> None:
    broker = Broker()
    broker.change("g/a", request=request())
    wrong = broker.change("g/a", attempt=2, reported_at=3.0)
    assert "is asked by its own report what no group above it was asked" in wrong


async def test_a_lost_request_is_detected() -> None:
    broker = Broker()
    broker.change("g/a", request=request())
    assert "has lost its request" in broker.change("g/a", request=None)


async def test_a_second_end_is_detected() -> None:
    broker = Broker()
    broker.change("g/a", status="succeeded")
    assert "had another end" in broker.change("g/a", status="cancelled")


async def test_a_request_after_the_end_is_detected() -> None:
    broker = Broker()
    broker.change("g/a", status="succeeded")
    assert "had another end" in broker.change("g/a", request=request())
