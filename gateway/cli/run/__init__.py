"""`gateway run`: runs any command as a job, with progress read from its output.

command.py         the options
child.py           the process: starts it, forwards signals, waits for its end
outputs.py         forwards the output of the process at once, and passes it to the reader
reporter.py        reports readings as updates of the job

lines.py           pure: splits bytes into lines, as a terminal would show them
line_progress.py   pure: the progress in one line; parses numbers
generic.py         pure: finds progress in a line of an unknown program
profiles.py        pure: the table of known programs
matching.py        pure: finds progress in a line of a known program, with its profile
progress.py        pure: the progress of a whole run, from that of its lines: phases, nested bars
reader.py          pure: combines these: bytes in, readings out
"""

from __future__ import annotations

from .command import run

__all__ = ["run"]
