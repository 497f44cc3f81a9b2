"""Reads progress from the output of a command. Pure: bytes in, readings out.

An unfinished line is not read, because its `12/4` may become `12/40`, unless `settle` is called
when no more output has come for a while.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from .generic import see
from .lines import Lines, plain
from .matching import Matcher, Profile
from .progress import Phase, Progress

__all__ = ["Reader", "Reading"]


@frozen
class Reading:
    """The progress and the message in some output. None: nothing new."""

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
        """Whether stdout is not to be read where it can be told from stderr."""
        self._lines = Lines()
        self._is_text = True
        self._matcher = Matcher(profile, " ".join(arguments)) if profile else None
        self._generic = profile is None or profile.generic
        parts, whole = 1, True
        if profile is not None:
            whole = profile.whole
            if profile.each:
                parts = sum(bool(re.search(profile.each, word)) for word in arguments)
        self._progress = Progress(parts=max(parts, 1), whole=whole)

    def feed(self, data: bytes) -> Reading:
        """The reading of the lines that `data` completes.

        An output with a zero byte carries data, and is not read from there on: by chance some of
        its bytes look like a percentage.
        """
        if not self._is_text:
            return Reading()
        text, zero, _ = data.partition(b"\0")
        reading = self._read(self._lines.feed(text))
        if zero:
            self._is_text, self._lines = False, Lines()
        return reading

    def settle(self) -> Reading:
        """The reading of the unfinished line. It may continue later."""
        return self._read([self._lines.rest])

    def skip(self) -> None:
        """Part of the output was left out here."""
        self._lines.skip()

    def _read(self, lines: Sequence[str]) -> Reading:
        phase = message = None
        for line in lines:
            text = plain(line)
            if not text:
                continue
            message = text
            seen = self._matcher.see(text) if self._matcher else None
            if seen is None and self._generic:
                seen = see(text)
            if seen is not None:
                phase = self._progress.observe(seen) or phase
        return Reading(phase, message)
