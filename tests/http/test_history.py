"""A job's history contains every event, or a gap that covers the event."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.history import history_after
from gateway.model.state import Event, Position
from tests.events import event


def job_event(epoch: int, seq: int) -> Event:
    return event("a", seq, epoch=epoch, done=seq)


@given(
    head=st.integers(1, 9),
    kept=st.integers(0, 9),
    oldest=st.integers(1, 9),
    after=st.integers(0, 9),
)
def test_entries_and_gap_cover_the_whole_history(
    head: int, kept: int, oldest: int, after: int
) -> None:
    """The history is complete whether it or the snapshot was read later, and however much was
    trimmed."""
    log = [job_event(5, seq) for seq in range(oldest, kept + 1)]
    document = history_after(job_event(5, head), log, after=Position(5, after), bytes_left=10_000)
    newest = max(head, kept if log else 0)
    seqs = [entry["seq"] for entry in document["events"]]
    gap = document.get("gap", {"from": after + 1, "to": after})
    assert (document["job"], document["epoch"]) == ("a", 5)
    assert [*range(gap["from"], gap["to"] + 1), *seqs] == list(range(after + 1, newest + 1))
    assert all(entry["state"].done == entry["seq"] for entry in document["events"])


@given(count=st.integers(1, 30), bytes_left=st.integers(1, 1_000))
def test_pages_together_cover_the_whole_history(count: int, bytes_left: int) -> None:
    log = [job_event(5, seq) for seq in range(1, count + 1)]
    size = len(msgspec.json.encode(log[0].state))
    seqs: list[int] = []
    more = True
    while more:
        after = Position(5, seqs[-1] if seqs else 0)
        document = history_after(log[-1], log, after=after, bytes_left=bytes_left)
        part = [entry["seq"] for entry in document["events"]]
        assert 1 <= len(part) <= bytes_left // size + 1
        seqs += part
        more = document.get("more", False)
    assert seqs == list(range(1, count + 1))


def test_another_epoch_starts_at_its_first_event() -> None:
    document = history_after(
        job_event(6, 2), [job_event(6, 1), job_event(6, 2)], after=Position(5, 7), bytes_left=10_000
    )
    assert [entry["seq"] for entry in document["events"]] == [1, 2]
    # The epoch changed between the two reads.
    document = history_after(
        job_event(5, 7), [job_event(6, 1)], after=Position(5, 6), bytes_left=10_000
    )
    assert (document["epoch"], [entry["seq"] for entry in document["events"]]) == (6, [1])
