"""How far a command is, by what it prints: percentages, counts, and its last line.

Pure: bytes in, readings out. A *line* ends with a newline, but also wherever a terminal
would write over what stands there (`\\r`, backspaces, cursor movements), since that is how
progress bars are drawn. Colours and other escapes are no text. An unfinished line is not
read, as its `12/4` may be about to become `12/40`, unless the reader is told that nothing
more has come for a while (`settle`).

In a line the last one wins:

    37%  37.5 %  37,5%         a percentage, up to 100
    12/40  3 / 12  1,200/4,000 a count, if it is not above its total

and these are none: signed or longer numbers (`-5%`, `250%`, `5%20`), parts of paths,
addresses and words (`a/1/2`, `http://x/1/2`, `10.0.0.1/24`, `::1/128`, `v1/2`), dates
(`2024/11`, `24/11/05`, `11/2024`, `11/24 10:31:02`), `24/7`.

A percentage and a count in one line that say the same (as tqdm's do) are both read.

Reading keeps pace with the command, whatever it prints. Every pattern is linear, of a line
only the end is looked at, and of the lines that come together only those which may change
what the later ones say.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Reader", "Reading", "read_line"]

MAX_LINE = 4_096
"""Characters of a line that are kept and read: its end. Bars are shorter, and a command that
prints no newline at all must cost no memory."""
CUT = "…"
"""Stands where an overlong line was cut, so that half a number is not taken for one."""

_MOVES = r"\x1b\[[0-9;]*[ABEFGHJdf]|\x1b\[[12]K|\x1b[78DEM]"
_ENDS = re.compile(rf"[\r\n\x08\x0b\x0c\x85\u2028\u2029]|{_MOVES}")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, erasing to the right, modes
    r"|\x1b[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, hyperlinks
    r"|\x1b[ -/]*[0-~]"  # character sets, single characters
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[ -/]*|[\]P^_X][^\x07\x1b\r\n]*\x1b?)\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

_NOT_BEFORE = r"(?<![\w.…/\\+\-%])(?<!\d,)"
_NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,16})(?:\.\d{1,16})?"  # 2**53 has 16 digits
_PERCENT = re.compile(rf"{_NOT_BEFORE}(\d{{1,3}}(?:\.\d+|,\d{{1,2}})?) ?%(?![\w%])", re.ASCII)
_COUNT = re.compile(
    rf"{_NOT_BEFORE}({_NUMBER})(?:/| / )({_NUMBER})(?![\w/\\%…\-]|[.,:]\d| /)", re.ASCII
)
_LABEL = re.compile(r"(?:^|[\s(\[{,;])(?!localhost:)[A-Za-z]+:$")
_LEFT = re.compile(r"(?:to|ir)-chk=$")
_LOOK_BACK = 40
"""Characters before a count in which its label is looked for. A longer word is none."""
_TIME_OF_DAY = re.compile(r"\s+\d\d:\d\d:\d\d")


class Reading(NamedTuple):
    """What some output said. None: nothing."""

    percent: float | None = None
    done: float | None = None
    total: float | None = None
    message: str | None = None

    def then(self, later: Reading) -> Reading:
        """Both: what `later` says counts, and what it does not say stays."""
        counted = later if later.total is not None else self
        return Reading(
            self.percent if later.percent is None else later.percent,
            counted.done,
            counted.total,
            self.message if later.message is None else later.message,
        )


NOTHING = Reading()


class Reader:
    """Reads one stream as it comes, in pieces of any size."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._line = ""

    @property
    def unfinished(self) -> bool:
        """Whether there is something to `settle`."""
        return bool(self._line)

    def feed(self, data: bytes) -> Reading:
        """What the lines say that are finished by `data`."""
        text = self._line + self._decode(data)
        # What may be the beginning of an escape must not be taken apart.
        open_end = _UNFINISHED.search(text, max(0, len(text) - MAX_LINE))
        whole = open_end.start() if open_end else len(text)
        *lines, rest = _ENDS.split(text[:whole])
        rest += text[whole:]
        self._line = _end_of(rest)
        return _read_lines(lines)

    def settle(self) -> Reading:
        """What the unfinished line says as it stands. It may still go on."""
        return read_line(_UNFINISHED.sub("", self._line))


def _read_lines(lines: Sequence[str]) -> Reading:
    """What they say together: the later ones first, as those before may not count."""
    reading = NOTHING
    for line in reversed(lines):
        if (
            (reading.percent is None and "%" in line)
            or (reading.total is None and "/" in line)
            or reading.message is None
        ):
            reading = read_line(line).then(reading)
    return reading


def _end_of(line: str) -> str:
    return line if len(line) <= MAX_LINE else CUT + line[-MAX_LINE:]


def read_line(line: str) -> Reading:
    """What one line says. Any text will do."""
    text = " ".join(_CONTROL.sub(" ", _ESCAPES.sub("", _end_of(line))).split())
    if not text:
        return NOTHING
    percent, percent_at = _last_percent(text) if "%" in text else (None, -1)
    done, total, count_at = _last_count(text) if "/" in text else (0, None, -1)
    if percent is not None and total is not None and abs(percent - 100 * done / total) > 1:
        # They speak of different things ("file 3/10: 45%").
        if count_at > percent_at:
            percent = None
        else:
            total = None
    if total is None:
        return Reading(percent, message=text)
    return Reading(percent, done, total, message=text)


def _last_percent(text: str) -> tuple[float | None, int]:
    for match in reversed([*_PERCENT.finditer(text)]):
        value = float(match[1].replace(",", "."))
        if value <= 100:
            return value, match.start()
    return None, -1


def _last_count(text: str) -> tuple[float, float | None, int]:
    """Done, total (None: there is no count) and where it stands."""
    for match in reversed([*_COUNT.finditer(text)]):
        done, total = _number(match[1]), _number(match[2])
        if 0 <= done <= total <= 2**53 and total > 0 and not _is_something_else(match, text):
            return done, total, match.start()
    return 0, None, -1


def _number(text: str) -> float:
    plain = text.replace(",", "")
    return float(plain) if "." in plain else int(plain)


def _is_something_else(match: re.Match[str], text: str) -> bool:
    start = match.start()
    if _LEFT.search(text, max(0, start - _LOOK_BACK), start):
        return True  # rsync counts what is left
    if text.endswith(":", 0, start):
        # `Epoch:3/40` but neither `host.org:80/443` nor `::1/128`.
        return not _LABEL.search(text, max(0, start - _LOOK_BACK), start)
    done, total = _number(match[1]), _number(match[2])
    if 1 <= done <= 12 and 1900 <= total <= 2100 and not text.endswith(("[", "("), 0, start):
        return True  # a month of a year
    day = 1 <= done <= 31 and 1 <= total <= 31
    return day and start == 0 and bool(_TIME_OF_DAY.match(text, match.end()))
