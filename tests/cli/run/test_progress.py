"""Phases, nested bars, and percentages that become unknown."""

from __future__ import annotations

from gateway.cli.run.lines import MAX_LINE, LineSplitter, plain_text
from gateway.cli.run.reader import Reader, Reading


def displayed_progress(
    *texts: str,
) -> list[tuple[str | None, float | None, float | None, float | None]]:
    """Returns name, done, total and percentage, as they are shown."""
    reader = Reader()
    readings = (reader.feed(f"{text}\n".encode()) for text in texts)
    phases = [reading.phase for reading in readings if reading.phase is not None]
    return [
        (p.name, p.done, p.total, None if p.overall is None else round(100 * p.overall, 1))
        for p in phases
    ]


def test_a_bar_complete_in_its_first_line_is_ignored() -> None:
    assert displayed_progress("1/1", "100%", "[100%] done") == []


def test_a_large_drop_begins_a_phase_without_a_known_percentage() -> None:
    assert displayed_progress("reading 1/2", "reading 2/2", "writing 1/3", "writing 3/3") == [
        ("reading", 1, 2, 50),
        ("reading", 2, 2, 100),
        ("writing", 1, 3, None),
        ("writing", 3, 3, None),
    ]


def test_the_same_bar_after_its_end_is_another_phase() -> None:
    names = [name for name, *_ in displayed_progress("[1/2]", "[2/2]", "[1/2]", "[2/2]", "[1/2]")]
    assert list(dict.fromkeys(names)) == [None, "stage 2", "stage 3"]


def test_bars_inside_an_unfinished_bar_are_ignored() -> None:
    inner = [f"rows {i}/3 done" for i in range(4)]
    found = displayed_progress("files 0/2 done", *inner, "files 1/2 done", *inner, "files 2/2 done")
    assert [(done, total) for _, done, total, _ in found] == [(0, 2), (1, 2), (2, 2)]


def test_a_number_that_never_moves_is_replaced_by_a_bar_that_does() -> None:
    steps = displayed_progress(
        "step 3/10", "loading 40%", "loading 50%", "loading 60%", "loading 70%"
    )
    assert steps[0][1:3] == (3, 10)
    assert steps[-1] == ("loading", None, None, 70)


def test_a_small_drop_is_a_correction() -> None:
    assert [percent for *_, percent in displayed_progress("40%", "38%", "45%")] == [40, 40, 45]


def test_labels_that_change_with_each_item_are_one_bar() -> None:
    found = displayed_progress("compiling a.c 1/20", "compiling b.c 2/20", "compiling d.c 3/20")
    assert [percent for *_, percent in found] == [5, 10, 15]


def test_an_unsure_number_is_shown_when_it_rises() -> None:
    assert displayed_progress("we had 3/7 there") == []
    assert [done for _, done, _, _ in displayed_progress("we are at 3/7", "we are at 4/7")] == [4]


def test_a_bar_redrawn_in_place_is_many_lines() -> None:
    lines = LineSplitter()
    assert lines.feed(b"\r  1%|   | 1/80\r  2%|   | 2/80") == ["", "  1%|   | 1/80"]
    assert lines.feed(b"0/40\b\b\b\b")[0] == "  2%|   | 2/800/40"
    assert lines.feed(b"\x1b[1G5%\x1b[2K")[-1] == "5%"


def test_an_unfinished_line_is_read_only_after_a_pause() -> None:
    reader = Reader()
    assert reader.feed(b"12/4") == Reading()
    assert reader.feed(b"0") == Reading()
    settled_phase = reader.read_unfinished_line().phase
    assert settled_phase is not None
    assert (settled_phase.done, settled_phase.total) == (12, 40)


def test_escape_sequences_split_over_pieces_are_removed() -> None:
    reader = Reader()
    reader.feed(b"done \x1b[3")
    assert reader.read_unfinished_line().message == "done"
    assert reader.feed(b"2m7%\n").message == "done 7%"
    for end in ("\x1b\\", "\x07"):
        assert plain_text(f"\x1b]8;;http://x/1/2{end}log\x1b]8;;{end} 37%") == "log 37%"


def test_a_stream_without_lines_uses_bounded_memory() -> None:
    reader = Reader()
    for _ in range(100):
        reader.feed(b"9" * 1000)
    assert len(reader._lines._line) <= MAX_LINE + 1
    assert reader.feed(b"%\n").phase is None


def test_no_partial_number_is_read_after_skipped_output() -> None:
    reader = Reader()
    reader.feed(b"step 1")
    reader.skip_output()
    assert reader.feed(b"2/40\n").phase is None
    assert reader.feed(b"step 13/40\n").phase is not None


def test_the_message_is_the_last_line_that_has_text() -> None:
    assert Reader().feed(b"one\n\x1b[31mtwo\x1b[0m\t three \n\n \r\n").message == "two three"
    assert Reader().feed(b"\xff\xfe\n").message == "\ufffd\ufffd"


def test_data_is_not_read() -> None:
    """Some bytes of the output look like a bar. The output is treated as data from its first zero
    byte on."""
    reader = Reader()
    before = reader.feed(b"3/40 files\n\x1f\x8b\x08\0\0\0\0\n7%\n").phase
    assert before is not None
    assert (before.done, before.total) == (3, 40)
    assert reader.feed(b"12/40 files\r8%\r") == Reading()
    assert reader.read_unfinished_line() == Reading()
