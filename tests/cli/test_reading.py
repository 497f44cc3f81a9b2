"""Reading progress off the output of commands: what counts, and what must not."""

from __future__ import annotations

from functools import reduce
from time import process_time

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


@pytest.mark.parametrize(
    "piece",
    ["a:1/2 ", "1/2 ", '{"x":"1/2"},', "12/40%", "37% ", ",111", "\x1b]", "\x1b[1", "1", " /"],
)
@pytest.mark.parametrize("length", [MAX_LINE, 2**18])
def test_no_line_takes_long_to_read(piece: str, length: int) -> None:
    line = (piece * length)[:length]
    data = "\n".join([line] * (2**18 // length)).encode()
    reader, started = Reader(), process_time()
    reader.feed(data)
    reader.settle()
    reader.feed(b"\n")
    # It takes 0.02 s; what looks at all of a line for each piece of it takes minutes.
    assert process_time() - started < 5


def test_numbers_that_python_would_not_read() -> None:
    """Of more than 4,300 digits (`sys.set_int_max_str_digits`)."""
    digits = b"1" * 5_000
    assert Reader().feed(b"%b/%b\n" % (digits, digits)).total is None
    assert read_line("1/1234567890123456").total == 1234567890123456
    assert read_line("1/12345678901234567").total is None
    assert read_line("1,234/9,007,199,254,740,992").total == 2**53


def test_of_a_long_line_the_end_is_read() -> None:
    reading = Reader().feed(b"12/40 " + b"." * MAX_LINE + b" 37%\n")
    assert reading[:3] == (37, None, None)
    assert len(reading.message or "") == MAX_LINE + 1
    assert read_line("x" * MAX_LINE + ":1/2").total is None


def test_hyperlinks_end_in_two_ways() -> None:
    for end in ("\x1b\\", "\x07"):
        link = f"\x1b]8;;http://x/1/2{end}log\x1b]8;;{end} 37%"
        assert Reader().feed(f"{link}\n".encode()) == Reading(37, message="log 37%")
        reader = Reader()
        for byte in link.encode():
            reader.feed(bytes([byte]))
        assert reader.settle() == Reading(37, message="log 37%")


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
     "\x1b]8;;u\x1b\\", "é", " ", "/", "%", "2024/11", "working", "\x1b[", "m", ",", "."]
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


LINES = st.lists(st.sampled_from(["37%", "5%", "12/40", "3/4", "75% 3/4", "5% 1/2", "a", " "]))


@given(st.lists(LINES.map(" ".join)))
def test_lines_that_come_together_say_what_they_would_say_one_by_one(lines: list[str]) -> None:
    one_by_one = reduce(Reading.then, map(read_line, lines), Reading())
    assert Reader().feed("".join(f"{line}\n" for line in lines).encode()) == one_by_one


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
