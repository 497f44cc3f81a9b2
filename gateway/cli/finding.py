"""The result of one check of `gateway check`."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

__all__ = ["Finding", "Grade"]

Grade = Literal["OK", "WARN", "FAIL"]
"""The gateway would serve; would serve, but not well; would not start."""


@frozen
class Finding:
    """The result of one check."""

    what: str
    text: str
    grade: Grade = "OK"

    def __str__(self) -> str:
        return f"{self.grade:<4} {self.what:<9} {self.text}"
