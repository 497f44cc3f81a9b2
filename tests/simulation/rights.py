"""Tokens and their permissions, written from docs/protocol.md alone."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

from tests.auth.signing import SECRET, sign

__all__ = ["CHOICES", "EVERYTHING", "SECRET", "covers", "may_watch", "token"]

EVERYTHING = ("*",)
CHOICES = (EVERYTHING, ("job:*",), ("batch:*",), ("batch:0/*", "job:1*"))
"""The patterns of the jobs that clients may watch."""
EXPIRES_AT = 4_000_000_000.0
"""The expiry (Unix seconds): later than every run."""


@cache
def token(watch: tuple[str, ...] = EVERYTHING) -> str:
    """Returns a token that allows to watch these jobs, and to publish and control all jobs."""
    claims = {"exp": EXPIRES_AT, "watch": list(watch), "publish": ["*"], "control": ["*"]}
    return sign(claims)


def may_watch(job: str, patterns: Collection[str]) -> bool:
    return any(job.startswith(pattern[:-1]) for pattern in patterns)


def covers(prefix: str, patterns: Collection[str]) -> bool:
    """Returns whether one of the patterns allows all jobs that begin with the prefix."""
    return any(prefix.startswith(pattern[:-1]) for pattern in patterns)
