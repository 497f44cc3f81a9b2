"""Splits bytes into lines, as a terminal would show them. Pure.

A line ends with a newline, and where a terminal would overwrite it (`\\r`, backspaces, cursor
movements), because progress bars are drawn so. Colours and other escapes are removed. Only
the last characters of a long line are kept, so that a command without newlines needs little memory.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["ELLIPSIS", "MAX_LINE", "LineSplitter", "plain_text"]

MAX_LINE = 4_096
"""The number of last characters of a line that are kept and read. Bars are shorter."""
ELLIPSIS = "…"
"""Replaces the text that was cut off a line, so that half a number is not read as one."""

_CURSOR_MOVES = r"\x1b\[[0-9;]*[ABEFGHJdf]|\x1b\[[12]K|\x1b[78DEM]"
_LINE_ENDS = re.compile(rf"[\r\n\x08\x0b\x0c\x85\u2028\u2029]|{_CURSOR_MOVES}")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, erasing to the right, modes
    r"|\x1b[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, hyperlinks
    r"|\x1b[ -/]*[0-~]"  # character sets, single characters
)
_UNFINISHED_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[ -/]*|[\]P^_X][^\x07\x1b\r\n]*\x1b?)\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class LineSplitter:
    """Splits one stream, which comes in pieces of any size, into lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""

    def feed(self, data: bytes) -> list[str]:
        """Returns the lines that `data` completes, unchanged."""
        text = self._line + self._decoder.decode(data)
        # Do not split the text inside an escape that may be incomplete.
        unfinished = _UNFINISHED_ESCAPE.search(text, max(0, len(text) - MAX_LINE))
        end = unfinished.start() if unfinished else len(text)
        *lines, rest = _LINE_ENDS.split(text[:end])
        self._line = _last_characters(rest + text[end:])
        return lines

    def skip_output(self) -> None:
        """Records that bytes of the stream are missing here, so the current line has no
        beginning."""
        self._decoder.reset()
        self._line = ELLIPSIS

    @property
    def rest(self) -> str:
        """The unfinished line. It may continue later."""
        return _UNFINISHED_ESCAPE.sub("", self._line)


def plain_text(line: str) -> str:
    """Returns the text of a line without escapes and control characters, and with single spaces."""
    text = _last_characters(line)
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    return " ".join(_CONTROL.sub(" ", text).split())


def _last_characters(line: str) -> str:
    return line if len(line) <= MAX_LINE else ELLIPSIS + line[-MAX_LINE:]
