"""The result of one check of `gateway check`."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

__all__ = ["Finding", "Grade"]

Grade = Literal["OK", "WARN", "FAIL"]
"""OK: the gateway would work. WARN: it would start, but not work well. FAIL: it would not start."""


@frozen
class Finding:
    """The result of one check."""

    subject: str
    text: str
    grade: Grade = "OK"

    def __str__(self) -> str:
        return f"{self.grade:<4} {self.subject:<9} {self.text}"
