"""What one client may do, and for how long. Pure."""

from __future__ import annotations

from attrs import frozen

from ..model.patterns import EVERY_JOB, NO_JOB, Patterns

__all__ = ["EVERYTHING", "LEEWAY", "NOTHING", "Permissions"]

LEEWAY = 30.0
"""Seconds that the clocks of those who sign tokens and those who check them may differ."""


@frozen(kw_only=True)
class Permissions:
    """What a token allows."""

    watch: Patterns = NO_JOB
    """The jobs whose progress the client may watch. All others look unreported."""
    publish: Patterns = NO_JOB
    """The jobs that may be reported on."""
    control: Patterns = NO_JOB
    """The jobs to which the client may send requests, such as to cancel."""
    revoke: bool = False
    """Whether it may revoke the tokens of others; every client may revoke its own."""
    expires_at: float | None = None
    """Unix seconds; None: never, because no token was needed."""
    token_id: str | None = None
    """The id by which the token can be revoked."""
    subject: str | None = None
    """The token's subject, for logs."""


EVERYTHING = Permissions(watch=EVERY_JOB, publish=EVERY_JOB, control=EVERY_JOB, revoke=True)
"""The permissions of clients of a gateway without authentication."""
NOTHING = Permissions()
"""The permissions before a token was shown."""
