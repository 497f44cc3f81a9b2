"""Reading progress off the output of commands: what counts, and what must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.reading import MAX_LINE, Reader, Reading, read_line


@pytest.mark.parametrize(
    ("line", "percent"),
    [
        ("37%", 37),
        ("37 %", 37),
        ("37.5 %", 37.5),
        ("37,5%", 37.5),
        ("[ 37%] Building CXX object", 37),
        ("progress=37%", 37),
        ("(100%)", 100),
        ("0%", 0),
        ("5% and then 37%.", 37),
        ("  1,238,099,021  37%   34.10MB/s    0:00:34 (xfr#3, to-chk=12/40)", 37),
        ("12.34%", 12.34),
        ("██████▌   |37%|", 37),
        ("\x1b[1;32m37\x1b[0m\x1b[1m%\x1b[0m done", 37),
        ("\x1b]0;a title, 99%\x0737%", 37),
        ("-5%", None),
        ("+5%", None),
        ("250%", None),
        ("1234%", None),
        ("1,234%", None),
        ("a%20b/5%20c", None),
        ("10-20%", None),
        ("x37%", None),
        ("%", None),
        ("٣٧%", None),
    ],
)
def test_percentages(line: str, percent: float | None) -> None:
    assert read_line(line).percent == percent


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("12/40", (12, 40)),
        ("12 / 40", (12, 40)),
        ("[12/40] CC main.o", (12, 40)),
        ("(12/40)", (12, 40)),
        ("Epoch 3/12:", (3, 12)),
        ("Epoch:3/12", (3, 12)),
        ("Step 3/12 : RUN make", (3, 12)),
        ("1/40 then 2/40.", (2, 40)),
        ("1,200/4,000 rows", (1200, 4000)),
        ("12.5/40.0 MB", (12.5, 40)),
        ("0/40", (0, 40)),
        ("001/120", (1, 120)),
        ("3/12 0:00:10", (3, 12)),
        ("[11/2024]", (11, 2024)),
    ],
)
def test_counts(line: str, count: tuple[float, float]) -> None:
    reading = read_line(line)
    assert (reading.done, reading.total) == count


@pytest.mark.parametrize(
    "line",
    [
        "2024/11", "2024/11/05", "24/11/05", "11/05/2024", "11/2024", "11/24 10:31:02 started",
        "a/b", "a/1/2", "/1/2", "./1/2", "1/2/3", "dir/1/2.txt", "C:\\1/2", "src/12/40/x.c",
        "http://x/1/2", "http://10.0.0.1/2", "localhost:80/443", "10.0.0.0/24", "::1/128",
        "fe80::1/64", "v1/2", "1/2x", "24/7", "40/12", "1/0", "0/0", "-1/2", "1/-2", "12/40%",
        "1.2.3/4", "3/4-5", "1 /2", "and/or", "w/o 5", "½",
    ],
)  # fmt: skip
def test_what_is_no_count(line: str) -> None:
    reading = read_line(line)
    assert (reading.done, reading.total, reading.percent) == (None, None, None)
    assert reading.message == line


def test_a_bar_that_says_it_twice_is_read_whole() -> None:
    reading = read_line(" 37%|███▋      | 37/100 [00:03<00:06,  9.97it/s]")
    assert reading[:3] == (37, 37, 100)


def test_of_two_different_things_the_last_one_wins() -> None:
    assert read_line("file 3/10: 45%")[:3] == (45, None, None)
    assert read_line("45% of file 3/10")[:3] == (None, 3, 10)


def test_a_bar_drawn_in_place_is_many_lines() -> None:
    reader = Reader()
    assert reader.feed(b"\r  1%|   | 1/80\r  2%|   | 2/80").percent == 1
    assert reader.feed(b"\r").percent == 2
    assert reader.feed(b"0/40\b\b\b\b1/40\b\b\b\b")[1:3] == (1, 40)
    assert reader.feed(b"\x1b[1G5%\x1b[2K").percent == 5


def test_an_unfinished_line_is_read_only_when_nothing_more_comes() -> None:
    reader = Reader()
    assert reader.feed(b"12/4") == Reading()
    assert reader.feed(b"0") == Reading()
    assert reader.settle()[1:3] == (12, 40)
    assert reader.feed(b"0\n")[1:3] == (12, 400)
    assert not reader.unfinished


def test_an_escape_in_two_pieces_is_one() -> None:
    reader = Reader()
    reader.feed(b"done \x1b[3")
    assert reader.settle().message == "done"
    assert reader.feed(b"2m7%\n") == Reading(7, message="done 7%")


def test_a_stream_without_lines_takes_no_memory_and_is_not_cut_into_numbers() -> None:
    reader = Reader()
    for _ in range(100):
        reader.feed(b"9" * 1000)
    assert len(reader._line) <= MAX_LINE + 1
    reading = reader.feed(b"%\n")
    assert reading.percent is None


def test_the_message_is_the_last_line_that_says_something() -> None:
    assert Reader().feed(b"one\n\x1b[31mtwo\x1b[0m\t three \n\n \r\n").message == "two three"
    assert Reader().feed("caf\u00e9\n".encode()).message == "café"
    assert Reader().feed(b"\xff\xfe\n").message == "\ufffd\ufffd"


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_will_do(pieces: list[bytes]) -> None:
    reader = Reader()
    for piece in pieces:
        for reading in (reader.feed(piece), reader.settle()):
            assert reading.percent is None or 0 <= reading.percent <= 100
            assert (reading.done is None) == (reading.total is None)
            assert reading.total is None or 0 <= (reading.done or 0) <= reading.total
            assert reading.message is None or reading.message.strip()


PIECES = st.sampled_from(
    ["1", "2", "37%", "12/40", "3 / 4", "\n", "\r", "\b", "\x1b[1A", "\x1b[32m", "\x1b]0;t\x07",
     "é", " ", "/", "%", "2024/11", "working", "\x1b[", "m", ",", "."]
)  # fmt: skip


@given(st.lists(PIECES).map("".join), st.data())
def test_it_does_not_matter_in_which_pieces_output_comes(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    at_once = Reader()
    expected = at_once.feed(whole).then(at_once.settle())
    reader, reading, start = Reader(), Reading(), 0
    while start < len(whole):
        size = data.draw(st.integers(1, len(whole) - start))
        reading = reading.then(reader.feed(whole[start : start + size]))
        start += size
    assert reading.then(reader.settle()) == expected


@given(st.integers(1, 9999), st.integers(0, 9999), st.sampled_from("[]()|<>;!*=#\"' "))
def test_counts_in_any_decoration_are_found(total: int, done: int, mark: str) -> None:
    done = min(done, total)
    if 1 <= done <= 12 and 1900 <= total <= 2100:
        return  # a month of a year
    assert read_line(f"task {mark}{done}/{total}{mark} x")[1:3] == (done, total)


@given(st.dates(), st.sampled_from(["%Y/%m", "%Y/%m/%d", "%d/%m/%Y", "%m/%Y"]))
def test_dates_are_no_counts(date: object, form: str) -> None:
    year = int(f"{date:%Y}")
    if 1900 <= year <= 2100:
        assert read_line(f"at {date:{form}} it ran").total is None


WORDS = st.text("abcdefgh0123456789_.-", min_size=1, max_size=8)


@given(st.lists(WORDS, min_size=2, max_size=6))
def test_paths_and_addresses_are_no_counts(parts: list[str]) -> None:
    path = "/".join(parts)
    assert read_line(f"reading /{path}").total is None
    assert read_line(f"GET http://{path}").total is None
    assert read_line(f"reading ./{path}/x").total is None
