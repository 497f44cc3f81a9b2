"""Reads progress from the output of a command. Pure.

An unfinished line is not read, because its `12/4` may become `12/40`. After a time without output
`read_unfinished_line` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from .generic import parse_line
from .lines import LineSplitter, plain_text
from .matching import Matcher, Profile
from .progress import Phase, Progress

__all__ = ["Reader", "Reading"]


@frozen
class Reading:
    """The progress and the message in a piece of output. None: nothing new."""

    phase: Phase | None = None
    message: str | None = None


class Reader:
    """Reads the output of one run, in pieces of any size.

    Args:
        profile: The patterns for its lines; None if the program is unknown.
        arguments: The command's arguments.
    """

    def __init__(self, profile: Profile | None = None, arguments: Sequence[str] = ()) -> None:
        self.only_stderr = profile is not None and profile.only_stderr
        """Whether stdout must not be read if it is separate from stderr."""
        self._lines = LineSplitter()
        self._is_text = True
        self._matcher = Matcher(profile, " ".join(arguments)) if profile else None
        self._generic = profile is None or profile.generic
        items, whole = 1, True
        if profile is not None:
            whole = profile.whole
            if profile.each:
                items = sum(bool(re.search(profile.each, word)) for word in arguments)
        self._progress = Progress(items=max(items, 1), whole=whole)

    def feed(self, data: bytes) -> Reading:
        """Returns the reading of the lines that `data` completes.

        After a zero byte the output is not read any more, because it contains data, in which bytes
        may look like a percentage by chance.
        """
        if not self._is_text:
            return Reading()
        text, zero, _ = data.partition(b"\0")
        reading = self._read(self._lines.feed(text))
        if zero:
            self._is_text, self._lines = False, LineSplitter()
        return reading

    def read_unfinished_line(self) -> Reading:
        """Returns the reading of the unfinished line. The line may continue later."""
        return self._read([self._lines.rest])

    def skip_output(self) -> None:
        """Records that output is missing here."""
        self._lines.skip_output()

    def _read(self, lines: Sequence[str]) -> Reading:
        phase = message = None
        for line in lines:
            text = plain_text(line)
            if not text:
                continue
            message = text
            progress = self._matcher.parse_line(text) if self._matcher else None
            if progress is None and self._generic:
                progress = parse_line(text)
            if progress is not None:
                phase = self._progress.add(progress) or phase
        return Reading(phase, message)
