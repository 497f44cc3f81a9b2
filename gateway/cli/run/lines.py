"""Bytes become lines, as a terminal would show them. Pure.

A line ends with a newline, and wherever a terminal would overwrite it (`\\r`, backspaces, cursor
movements), because progress bars are drawn so. Colours and other escapes are removed. Of a long
line only the end is kept, so a command that prints no newlines takes no memory.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["CUT", "MAX_LINE", "Lines", "plain"]

MAX_LINE = 4_096
"""Characters of a line that are kept and read: its last ones. Bars are shorter."""
CUT = "…"
"""Replaces the part of a line that was cut off, so that half a number is not read as one."""

_MOVES = r"\x1b\[[0-9;]*[ABEFGHJdf]|\x1b\[[12]K|\x1b[78DEM]"
_ENDS = re.compile(rf"[\r\n\x08\x0b\x0c\x85\u2028\u2029]|{_MOVES}")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, erasing to the right, modes
    r"|\x1b[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, hyperlinks
    r"|\x1b[ -/]*[0-~]"  # character sets, single characters
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[ -/]*|[\]P^_X][^\x07\x1b\r\n]*\x1b?)\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Lines:
    """Splits one stream, which comes in pieces of any size, into lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes, unchanged."""
        text = self._line + self._decoder.decode(data)
        # What may be the beginning of an escape must not be taken apart.
        open_end = _UNFINISHED.search(text, max(0, len(text) - MAX_LINE))
        whole = open_end.start() if open_end else len(text)
        *lines, rest = _ENDS.split(text[:whole])
        self._line = _end_of(rest + text[whole:])
        return lines

    def skip(self) -> None:
        """Part of the stream was left out here, so the beginning of the current line is missing."""
        self._decoder.reset()
        self._line = CUT

    @property
    def rest(self) -> str:
        """The unfinished line. It may continue later."""
        return _UNFINISHED.sub("", self._line)


def plain(line: str) -> str:
    """The text of a line: no escapes, no control characters, single spaces."""
    text = _end_of(line)
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    return " ".join(_CONTROL.sub(" ", text).split())


def _end_of(line: str) -> str:
    return line if len(line) <= MAX_LINE else CUT + line[-MAX_LINE:]
