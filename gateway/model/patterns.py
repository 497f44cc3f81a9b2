"""The patterns that name jobs. Pure, and the only module that interprets them.

A pattern is a job id, which stands for itself, or a prefix followed by `*`, which stands for
every job id with that prefix: `video:42`, `user:7:*`, `*`. There are no other forms: no star in the
middle, no character classes, no escapes. So a pattern is easy to read, and checking it is a
comparison and never a search.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from .errors import InvalidInput
from .ids import is_job_id, is_job_id_prefix

__all__ = ["EVERY_JOB", "NO_JOB", "Patterns"]


@frozen
class Patterns:
    """A set of jobs, as a token names it."""

    ids: frozenset[str] = frozenset()
    """Jobs named individually."""
    beginnings: tuple[str, ...] = ()
    """Prefixes of job ids; the empty one matches every job."""

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Patterns:
        """Parses patterns. Raises `InvalidInput`, which quotes a text that is not a pattern."""
        ids: set[str] = set()
        beginnings: dict[str, None] = {}
        for text in texts:
            beginning = text.removesuffix("*")
            if not (is_job_id_prefix(beginning) if text.endswith("*") else is_job_id(text)):
                raise InvalidInput(
                    f"{text!r} is not a pattern: a job id, or its beginning followed by *",
                    code="invalid_pattern",
                )
            if text.endswith("*"):
                beginnings[beginning] = None
            else:
                ids.add(beginning)
        return cls(frozenset(ids), tuple(beginnings))

    def __contains__(self, job: str) -> bool:
        return job in self.ids or job.startswith(self.beginnings)

    def __bool__(self) -> bool:
        return bool(self.ids or self.beginnings)

    def covers(self, prefix: str) -> bool:
        """Returns whether every job whose id begins with `prefix` is among these, by one
        pattern."""
        return prefix.startswith(self.beginnings)

    def within(self, prefix: str) -> Patterns:
        """Returns the patterns for the jobs among these whose ids begin with `prefix`."""
        return Patterns(
            frozenset(job for job in self.ids if job.startswith(prefix)),
            tuple(
                max(beginning, prefix, key=len)
                for beginning in self.beginnings
                if beginning.startswith(prefix) or prefix.startswith(beginning)
            ),
        )


NO_JOB = Patterns()
EVERY_JOB = Patterns(beginnings=("",))
