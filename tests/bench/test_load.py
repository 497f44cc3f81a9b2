"""The pure parts of the load generator: no double counts and no losses for any split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from bench.load.ages import LONGEST, Ages
from bench.load.marks import MARK, OVERLAP, Scan, mark, scan
from bench.load.search import highest
from bench.load.wire import binary, text


def test_a_timestamp_is_read_in_microseconds() -> None:
    assert mark(12.5) == MARK + b"0000000012500000"
    assert scan(bytearray(b"..." + mark(12.5) + b"..."), 40) == Scan(1, 12_500_000, 12_500_000)


def test_bytes_after_the_end_are_ignored() -> None:
    whole = bytearray(mark(1) + b"-" + mark(2) + b"-" + mark(3))
    assert scan(whole, 43) == Scan(2, 1_000_000, 2_000_000)
    assert scan(whole, 40) == Scan(2, 1_000_000, None)  # its digits are cut off
    assert scan(whole, 4) == Scan(0)


@given(st.lists(st.binary(max_size=30), max_size=12), st.data())
def test_timestamps_split_over_reads_are_counted(filling: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(some.replace(MARK[:1], b"") + mark(1) for some in filling)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    counted, tail, start = 0, bytes(OVERLAP), 0
    for end in [*sorted(cuts), len(stream)]:
        buffer = bytearray(tail + stream[start:end])
        counted += scan(buffer, len(buffer)).events
        tail, start = bytes(buffer[-OVERLAP:]), end
    assert counted == len(filling)


class TestAges:
    def test_percentiles_round_up_to_the_next_millisecond(self) -> None:
        ages = Ages()
        for milliseconds in range(100):
            ages.add(milliseconds * 1000 + 500)
        assert [ages.percentile(p) for p in (1, 50, 99, 100)] == [1, 50, 99, 100]

    def test_percentiles_use_the_counts(self) -> None:
        ages = Ages()
        ages.add(1_000, 99)
        ages.add(9_000, 1)
        assert (ages.count, ages.percentile(99), ages.percentile(99.5)) == (100, 2, 10)

    def test_values_out_of_range_are_clamped(self) -> None:
        ages = Ages()
        ages.add(-5)
        ages.add(10**12)
        assert (ages.percentile(1), ages.percentile(100)) == (1, LONGEST + 1)

    def test_an_empty_histogram_is_zero(self) -> None:
        assert Ages().percentile(99) == 0


class TestHighest:
    @pytest.mark.parametrize("start", [1.0, 90.0, 1_000.0])
    @pytest.mark.parametrize("limit", [7.0, 100.0, 12_345.0])
    def test_the_maximum_load_is_found_to_the_precision(self, start: float, limit: float) -> None:
        tried: list[float] = []

        def probe(rate: float) -> str | None:
            tried.append(rate)
            return "sustained" if rate <= limit else None

        highest_rate = highest(probe, start=start, precision=1.05)
        assert highest_rate is not None
        assert limit / 1.05 <= highest_rate[0] <= limit
        assert highest_rate[1] == "sustained"
        assert len(tried) < 25

    def test_a_maximum_below_the_range_is_zero(self) -> None:
        assert highest(lambda rate: None, start=100) is None

    def test_a_maximum_above_the_range_is_its_end(self) -> None:
        assert highest(lambda rate: rate, start=100, max_rate=5_000) == (5_000, 5_000)


@given(st.binary(max_size=70_000))
def test_frames_can_be_parsed_by_wsproto(payload: bytes) -> None:
    reader = FrameProtocol(client=False, extensions=[])
    reader.receive_bytes(binary(payload) + text({"a": 1}) + text("plain"))
    first, second, third = reader.received_frames()
    assert (first.payload, second.payload, third.payload) == (payload, '{"a":1}', "plain")
