"""Lines of unknown programs: texts that are progress, and texts that are not."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.run.generic import label_of, parse_line
from gateway.cli.run.line_progress import quantity
from gateway.cli.run.lines import MAX_LINE, plain_text


def percent(line: str) -> float | None:
    seen = parse_line(plain_text(line))
    return seen.percent if seen else None


def count(line: str) -> tuple[float | None, float | None]:
    seen = parse_line(plain_text(line))
    return (seen.done, seen.total) if seen else (None, None)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("37%", 37), ("37 %", 37), ("37.5 %", 37.5), ("37,5%", 37.5), ("(100%)", 100), ("0%", 0),
        ("[ 37%] Building CXX object", 37), ("progress=37%", 37), ("12.34%", 12.34),
        ("  1,238,099,021  37%   34.10MB/s    0:00:34 (xfr#3, to-chk=12/40)", 37),
        ("██████▌   |37%|", 37), ("\x1b[1;32m37\x1b[0m\x1b[1m%\x1b[0m done", 37),
        ("\x1b]0;a title, 99%\x0737%", 37), ("٣٧٪", 37), ("３７％", 37), ("37\u202f%", 37),
        ('{"type":"status","percent_done":0.45}', 45), ('{"percent": 45}', 45),
        ('{"progress": 0.45, "x": 1}', 45), ('{"progress": "45%"}', 45),
        ("Encoding: task 1 of 2, 50.00 %", 50), ("cpu 90%, done 37%", 37),
        ("-5%", None), ("+5%", None), ("250%", None), ("1234%", None), ("1,234%", None),
        ("a%20b/5%20c", None), ("10-20%", None), ("x37%", None), ("%", None),
        ("5% and then 37%.", None), ('{"progress": 1}', None), ('{"loss": 0.5}', None),
        ("x264 [info]: mb I  I16..4: 77.9%  8.1% 13.9%", None),
    ],
)  # fmt: skip
def test_percentages_are_read(line: str, expected: float | None) -> None:
    assert percent(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "accuracy: 93%", "loss 37%", "val_acc=93%", "TOTAL coverage 85%", "2% packet loss",
        "/dev/sda1  20G  12G  7G  63% /mnt", "cpu: 37%", "37% of memory", "memory usage 37%",
        "adding: a.txt (deflated 63%)", "a : 35.20%   ( 12 MiB =>  4 MiB, a.zst)",
        "a.gz: 63.0% -- replaced with a.gz", "12% faster", "37% smaller", "Humidity 37%",
        "confidence: 93%", "hit rate 93%", "battery 37%", "SAR=1/1", "aspect: 1/1", "ratio 3/4",
        "Score: 8/10", "passed 12/40", "12/40 passed", "3 of 10 failed", "version 5/7",
        "libavutil  57. 28.100 / 57. 28.100", "7 of the 9 hosts", "Rating 4/5",
    ],
)  # fmt: skip
def test_percentages_with_another_meaning_are_ignored(line: str) -> None:
    assert parse_line(plain_text(line)) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("12/40", (12, 40)), ("12 / 40", (12, 40)), ("[12/40] CC main.o", (12, 40)),
        ("(12/40)", (12, 40)), ("Epoch 3/12:", (3, 12)), ("Epoch:3/12", (3, 12)),
        ("Step 3/12 : RUN make", (3, 12)), ("1/40 then 2/40.", (2, 40)),
        ("1,200/4,000 rows", (1200, 4000)), ("0/40", (0, 40)), ("001/120", (1, 120)),
        ("3/12 0:00:10", (3, 12)), ("[11/2024]", (11, 2024)), ("5 of 10", (5, 10)),
        ("3 out of 10 done", (3, 10)), ("12.5MB/40.0MB", (12_500_000, 40_000_000)),
        ("12.5/40.0 MB", (12_500_000, 40_000_000)), ("900K of 2M", (900_000, 2_000_000)),
        ("1.5 MiB / 3 MiB", (1572864, 3145728)), ("12,5 MB of 40 MB", (12_500_000, 40_000_000)),
        ("１２／４０", (12, 40)), ('{"done": 3, "total": 9}', (3, 9)),
        ("Epoch 2/10 step 45/100", (2, 10)), ("45% of file 3/10", (3, 10)),
    ],
)  # fmt: skip
def test_counts_are_read(line: str, expected: tuple[float | None, float | None]) -> None:
    assert count(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        "2024/11", "2024/11/05", "24/11/05", "11/05/2024", "11/2024", "11/24 10:31:02 started",
        "a/b", "a/1/2", "/1/2", "./1/2", "1/2/3", "dir/1/2.txt", "C:\\1/2", "src/12/40/x.c",
        "http://x/1/2", "http://10.0.0.1/2", "localhost:80/443", "10.0.0.0/24", "::1/128",
        "fe80::1/64", "v1/2", "1/2x", "24/7", "40/12", "1/0", "0/0", "-1/2", "1/-2", "12/40%",
        "1.2.3/4", "3/4-5", "1 /2", "and/or", "w/o 5", "½", "12.5/40", "1 of them",
    ],
)  # fmt: skip
def test_texts_that_are_not_counts_are_ignored(line: str) -> None:
    assert parse_line(plain_text(line)) is None


def test_a_bar_with_percentage_and_count_is_one_progress() -> None:
    seen = parse_line(" 37%|███▋      | 37/100 [00:03<00:06,  9.97it/s]")
    assert seen is not None
    assert (seen.done, seen.total, seen.percent, seen.is_sure) == (37, 100, 37, True)


def test_a_percentage_after_a_count_is_that_of_the_item() -> None:
    seen = parse_line("file 3/10: 45%")
    assert seen is not None
    assert (seen.item, seen.percent, seen.total) == ((3, 10), 45, None)


@pytest.mark.parametrize(
    ("line", "sure"),
    [
        ("37%", True), ("[3/7] CC", True), ("copying 3/7", True), ("37% done", True),
        ("we had 3/7 there", False), ("at 37% now", False), ("a (3/7)", True),
    ],
)  # fmt: skip
def test_a_number_that_is_alone_or_labelled_is_sure(line: str, sure: bool) -> None:
    seen = parse_line(line)
    assert seen is not None
    assert seen.is_sure is sure


def test_the_label_is_the_text_before_the_number() -> None:
    assert label_of("Receiving objects:  ") == "Receiving objects"
    assert label_of("2026-11-29 10:00:01 [INFO] loading rows [") == "loading rows"
    assert label_of("Building [====>       ] ") == "Building"
    assert label_of("[") == label_of("| ██▌") == label_of("") == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,200", 1200), ("12,5", 12.5), ("57.2 MiB", 59978547), ("3072k", 3072000),
        ("00:01:02.5", 62.5), ("01:30", 90), ("x", None), ("1.2.3", None), ("1e400", None),
        ("9" * 5000, None),
    ],
)  # fmt: skip
def test_numbers_with_units_are_parsed(text: str, value: float | None) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize(
    "piece",
    ["a:1/2 ", "1/2 ", '{"x":"1/2"},', "12/40%", "37% ", ",111", "\x1b]", "\x1b[1", "1", " /",
     "progress", "=", "(", "a of 1 "],
)  # fmt: skip
def test_no_line_takes_long_to_read(piece: str) -> None:
    line = (piece * MAX_LINE)[:MAX_LINE]
    started = process_time()
    parse_line(plain_text(line))
    assert (
        process_time() - started < 5
    )  # some milliseconds; a pattern that is not linear would take minutes


@given(st.text(max_size=80) | st.text("0123456789/%., ofMB:[]()=|-", max_size=40))
def test_any_text_can_be_read(text: str) -> None:
    seen = parse_line(plain_text(text))
    if seen is not None:
        assert seen.fraction is not None
        assert 0 <= seen.fraction <= 1


@given(st.dates(), st.sampled_from(["%Y/%m", "%Y/%m/%d", "%d/%m/%Y", "%m/%Y"]))
def test_dates_are_not_counts(date: object, form: str) -> None:
    if 1900 <= int(f"{date:%Y}") <= 2100:
        assert parse_line(f"at {date:{form}} it ran") is None


WORDS = st.text("abcdefgh0123456789_.-", min_size=1, max_size=8)


@given(st.lists(WORDS, min_size=2, max_size=6))
def test_paths_and_addresses_are_not_counts(parts: list[str]) -> None:
    path = "/".join(parts)
    assert parse_line(f"reading /{path}") is None
    assert parse_line(f"GET http://{path}") is None
