"""The permissions that a token grants, with the time when it expires. Pure.

`ConnectionAuth.check` in `connection_auth.py` checks that time for an open connection. `watch` is
checked by `Session.subscribe`, by `SessionSets`, and by `http/api.py` and `http/sets.py`.
"""

from __future__ import annotations

from attrs import frozen

from ..model.patterns import EVERY_JOB, NO_JOB, Patterns

__all__ = ["EVERYTHING", "LEEWAY", "NOTHING", "Permissions"]

LEEWAY = 30.0
"""Seconds by which the clocks of the signer of a token and of the gateway may differ."""


@frozen(kw_only=True)
class Permissions:
    """The permissions that a token grants."""

    watch: Patterns = NO_JOB
    """The jobs whose progress the client may watch. All others look unreported."""
    publish: Patterns = NO_JOB
    """The jobs on which the client may report."""
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
"""The permissions before the client has sent a token."""
