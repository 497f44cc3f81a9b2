"""The permissions of one open connection, and the check that ends it when its token expires.

Each connection, and each request that waits, has a `ConnectionAuth`. If the gateway requires
tokens, it grants nothing until the client has sent one, within `limits.hello_timeout`. The
connection ends when the token expires or is revoked; another token replaces the permissions.
`Authenticator` calls `check` for every open connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from attrs import define

from ..model.errors import Refusal
from .permissions import NOTHING, Permissions

if TYPE_CHECKING:
    from .authenticator import Authenticator

__all__ = ["ConnectionAuth"]

log = logging.getLogger("gateway.auth")


@define(eq=False)
class ConnectionAuth:
    """The current permissions of one connection."""

    authenticator: Authenticator
    permissions: Permissions
    waiting_since: float
    """The time when the connection began to wait for its first token, on Trio's clock."""
    end: Callable[[Refusal, str], object]
    """Called, perhaps several times, to end the connection, with the reason and details."""
    expire: Callable[[], object] | None = None
    """Called once when the token has expired. If None, the connection ends at once, without time
    for another token."""
    expiry_announced: bool = False
    """Whether `expire` was called for the current token."""

    def __enter__(self) -> ConnectionAuth:
        self.authenticator.watch(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.authenticator.unwatch(self)

    @property
    def needs_token(self) -> bool:
        """Whether the client must still send a token."""
        return self.authenticator.keys is not None and self.permissions is NOTHING

    async def authenticate(self, token: str) -> Permissions:
        """Replaces the permissions by those of `token`.

        Raises `Unauthorized`; the permissions then stay as they were.
        """
        self.permissions = await self.authenticator.permissions(token)
        self.expiry_announced = False
        log.info(
            "client authenticated",
            extra={"subject": self.permissions.subject, "token_id": self.permissions.token_id},
        )
        return self.permissions

    def check(self, *, revoked: Container[str | None], now: float, monotonic: float) -> None:
        """Ends the connection if its token is revoked or has expired, or if its first token has not
        come within `limits.hello_timeout`. Calls `expire` when the token expires.

        Args:
            revoked: The ids of revoked tokens.
            now: Unix seconds.
            monotonic: The time on Trio's clock.
        """
        permissions, limits = self.permissions, self.authenticator.limits
        if permissions.expires_at is None:
            if monotonic >= self.waiting_since + limits.hello_timeout:
                seconds = limits.hello_timeout
                self.end(
                    "unauthenticated", f"no token came within {seconds:g} s: send hello with one"
                )
        elif permissions.token_id in revoked:
            self.end("revoked", "")
        elif now < permissions.expires_at:
            pass
        elif self.expire is None or now >= permissions.expires_at + limits.expiry_grace:
            self.end("expired", "")
        elif not self.expiry_announced:
            self.expiry_announced = True
            self.expire()
