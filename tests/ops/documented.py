"""The files and commands of `docs/operations.md`, so that the tests run exactly the documented
text."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["adapted", "documented", "files"]

TEXT = (Path(__file__).parents[2] / "docs/operations.md").read_text()
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PATH = re.compile(r"`(/etc/[^`\s]+)`")


def documented(section: str, language: str) -> str:
    """The only code block in this language in a section."""
    text = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    (block,) = (found[2] for found in _BLOCK.finditer(text) if found[1] == language)
    return block


def files() -> dict[str, str]:
    """The files in the guide: each code block is the content of the path before it."""
    written = {}
    start = 0
    for found in _BLOCK.finditer(TEXT):
        before = TEXT[start : found.start()].rstrip().rpartition("\n\n")[2]
        if path := _PATH.search(before):
            written[path[1]] = found[2]
        start = found.end()
    return written


def adapted(text: str, *changes: tuple[str, str]) -> str:
    """`text` with each pattern replaced; each must occur exactly once."""
    for pattern, replacement in changes:
        text, times = re.subn(pattern, replacement, text)
        assert times == 1, f"{pattern!r} is {times} times in\n{text}"
    return text
