"""What one client may do, and for how long. Pure."""

from __future__ import annotations

from attrs import frozen

from .patterns import EVERY_JOB, NO_JOB, Patterns

__all__ = ["EVERYTHING", "LEEWAY", "NOTHING", "Rights"]

LEEWAY = 30.0
"""Seconds that the clocks of those who sign tokens and those who check them may differ."""


@frozen(kw_only=True)
class Rights:
    """What a token allows."""

    watch: Patterns = NO_JOB
    """The jobs whose progress may be seen. All others look as if nobody had reported them."""
    publish: Patterns = NO_JOB
    """The jobs that may be reported on."""
    revoke: bool = False
    """Whether the tokens of others may be revoked; everybody may revoke their own."""
    expires_at: float | None = None
    """Unix seconds; None: never, because no token was needed."""
    token_id: str | None = None
    """By which the token can be revoked."""
    subject: str | None = None
    """Whose it is, for logs."""


EVERYTHING = Rights(watch=EVERY_JOB, publish=EVERY_JOB, revoke=True)
"""When no tokens are asked for."""
NOTHING = Rights()
"""Before a token was shown."""
