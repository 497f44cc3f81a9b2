"""Escapes control characters in texts that come from others, before they are printed to a terminal.

Commands print texts of gateways, workers and publishers. Control characters in them
(C0, DEL, C1), line separators and characters that change the direction of text could move the
cursor, change colours, or make a line look like another. A pipe or a file gets the text as it is.
"""

from __future__ import annotations

import sys
from typing import Any, TextIO

import click

__all__ = ["CONTROLS", "echo", "escape", "for_terminal"]

_RANGES = (
    (0x00, 0x1F), (0x7F, 0x9F),  # C0, DEL, C1
    (0x061C, 0x061C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069),  # direction
    (0x2028, 0x2029),  # line and paragraph separators
)  # fmt: skip

CONTROLS = "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in _RANGES)
"""These characters, for a character class of a regular expression."""

_CODES = [code for first, last in _RANGES for code in range(first, last + 1)]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CODES} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
}
del _ESCAPES[ord("\t")]
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in _CODES if code >= 0x20}


def escape(text: str) -> str:
    """Returns `text` on one line, with escapes in place of control characters."""
    return text.translate(_ESCAPES)


def for_terminal(text: str, stream: TextIO, *, json: bool = False) -> str:
    """Returns `text` for `stream`: escaped if that is a terminal, otherwise unchanged.

    With `json` it is a JSON text, and remains one: its strings have the same values.
    """
    if not stream.isatty():
        return text
    return text.translate(_JSON_ESCAPES) if json else escape(text)


def echo(text: str, *, err: bool = False, **options: Any) -> None:
    """Prints a line with text from others: to stdout, or with `err` to stderr."""
    click.echo(for_terminal(text, sys.stderr if err else sys.stdout, **options), err=err)
