"""How often a group has an event: as its counts and the first digit of its percentage change, and
not as often as its children report."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from gateway.model.groups import Contributions
from gateway.model.reducer import reduce
from gateway.model.state import Record, Update

CHILDREN = 10_000
TICKS = 5
"""A quarter of a second."""


def test_ten_thousand_children_at_20_hz_are_some_hundred_events_of_their_group() -> None:
    """A child's progress rises by a fifth in a second, so by a twentieth in this test."""
    declared = reduce(None, Update(children=CHILDREN), now=1.0, epoch=1).record
    records: dict[str, Record] = {"g": declared}
    contributions = Contributions()
    running = reduce(None, Update(percent=0), now=1.0, epoch=1).record
    events: Counter[str] = Counter()

    names = [f"g/{number}" for number in range(CHILDREN)]

    def report(percent: float, now: float) -> None:
        """Reports the same percentage for all children."""
        state = replace(running.state, percent=percent)
        record = Record(running.position, state)
        for name in names:
            for job, group in contributions.count_job(name, record, records.get, now=now):
                events[job] += group.position != records[job].position
                records[job] = group

    report(0, 1.0)
    assert events == {"g": CHILDREN}  # the start of each child is an event
    events.clear()
    for tick in range(1, TICKS + 1):
        report(tick, 1.0 + tick / 20)
    assert records["g"].state.percent == TICKS
    assert events == {"g": 10 * TICKS}  # of 50,000 reports: 200 in a second of 200,000
