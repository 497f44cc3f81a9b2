"""Which jobs a pattern stands for. Pure, and the only place that decides it.

A pattern is a job id, which stands for itself, or the beginning of one followed by `*`,
which stands for every job id that begins so: `video:42`, `user:7:*`, `*`. There is
nothing else: no star in the middle, no character classes, no escapes, so a pattern
cannot mean more than a reader sees, and checking one is a comparison, never a search.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from ..errors import InvalidInput
from ..job import is_job_id

__all__ = ["EVERY_JOB", "NO_JOB", "Patterns"]


@frozen
class Patterns:
    """Some jobs, as a token names them."""

    ids: frozenset[str] = frozenset()
    """Jobs named one by one."""
    beginnings: tuple[str, ...] = ()
    """What other jobs may begin with; the empty text is every job."""

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Patterns:
        """Raises `InvalidInput` quoting the one that is no pattern."""
        ids: set[str] = set()
        beginnings: dict[str, None] = {}
        for text in texts:
            beginning = text.removesuffix("*")
            if text != "*" and not is_job_id(beginning):
                raise InvalidInput(
                    f"{text!r} is no pattern: a job id, or its beginning followed by *",
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

    def within(self, prefix: str) -> Patterns:
        """Those of these jobs whose ids begin with `prefix`."""
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
