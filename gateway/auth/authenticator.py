"""The authenticator of a node: authenticates its clients, and checks its open connections.

`authenticate` checks the origin and the token of a request; `admit` makes the `ConnectionAuth` of a
connection. One task checks all of these for expired and revoked tokens every 0.4 s
(`ConnectionAuth.check` in `connection_auth.py`), so that none needs a separate task or timer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING

import trio

from ..model.errors import BrokerUnavailable, InvalidInput, Refusal, Unauthorized
from ..model.limits import DEFAULT_LIMITS, Limits
from .connection_auth import ConnectionAuth
from .origins import SAME_ORIGIN, Origins
from .permissions import EVERYTHING, LEEWAY, NOTHING, Permissions
from .revocations import MemoryRevocations, Revocations, Revoked

if TYPE_CHECKING:  # its libraries are slow to import, and only servers with tokens need them
    from .key_sources import KeySources

__all__ = ["Authenticator"]

log = logging.getLogger("gateway.auth")

REFRESH_INTERVAL = 0.4
"""Seconds between checks. Revocations must take effect within one second, on a busy machine too."""


MAX_LOGGED_ORIGINS = 100
"""The number of refused origins that are logged: a client could invent any number of them."""


class Authenticator:
    """The authenticator of one node. Without `keys` no token is required, and every client has all
    permissions."""

    def __init__(
        self,
        keys: KeySources | None = None,
        *,
        origins: Origins = SAME_ORIGIN,
        revocations: Revocations | None = None,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = keys
        self.origins = origins
        self.revocations = MemoryRevocations(clock) if revocations is None else revocations
        self.clock = clock
        self.limits = limits
        self._connections: dict[ConnectionAuth, None] = {}
        self._version: str | None = None
        self._revoked: Mapping[str, float] = {}
        self._revocations_unavailable = False
        self._logged_origins: set[str] = set()

    def __repr__(self) -> str:
        return f"<Authenticator {self.keys or 'open'}, {len(self._connections)} connections>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps connections and keys up to date until cancelled. Counts as started after the first
        attempt to read the list of revocations."""
        async with trio.open_nursery() as nursery:
            if self.keys is not None:
                await self._refresh_revocations()
                nursery.start_soon(self.keys.follow)
                nursery.start_soon(self._check_connections)
            task_status.started()

    async def permissions(self, token: str) -> Permissions:
        """Returns the permissions of `token`. Raises `Unauthorized`."""
        if self.keys is None:
            await trio.lowlevel.checkpoint()
            return EVERYTHING
        permissions = await self.keys.permissions_of(token.strip(), now=self.clock())
        if permissions.token_id in self._revoked:
            raise Unauthorized("the token is revoked", "revoked")
        return permissions

    async def authenticate_header(self, authorization: str | None) -> Permissions | None:
        """Returns the permissions of an `Authorization` header; None if the header is required and
        missing.

        Raises `Unauthorized`.
        """
        if self.keys is None or authorization is None:
            await trio.lowlevel.checkpoint()
            return EVERYTHING if self.keys is None else None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("Authorization is not a Bearer token")
        return await self.permissions(token)

    async def authenticate(self, headers: Mapping[str, str]) -> Permissions | None:
        """Checks the headers of a request (names in lower case): its origin, then its token.

        Returns None if the client has to send a token by `hello`. Raises `Unauthorized`.
        """
        origin, host = headers.get("origin"), headers.get("host", "")
        reason = self.origins.refusal(origin, host=host, site=headers.get("sec-fetch-site"))
        if reason is not None:
            self._log_once(origin or host, reason)
            raise Unauthorized(reason, "forbidden_origin")
        return await self.authenticate_header(headers.get("authorization"))

    def _log_once(self, origin: str, reason: str) -> None:
        """Logs a refused origin once, because its pages try again and again."""
        if origin in self._logged_origins or len(self._logged_origins) >= MAX_LOGGED_ORIGINS:
            return
        self._logged_origins.add(origin)
        log.warning("connection refused: %s", reason)

    async def revoke(self, token_id: str, *, until: float) -> None:
        """Revokes a token: here at once, on other nodes within a second.

        `until` is the token's `exp`, `inf` if it is not known.

        Raises:
            InvalidInput: `until` is in the past, so the token has already expired.
            BrokerUnavailable: The list of revocations cannot be written.
        """
        until += LEEWAY
        if until <= self.clock():
            raise InvalidInput("until is in the past: the token has expired", field="until")
        await self.revocations.revoke({token_id: until})
        await self._refresh_revocations()

    def admit(
        self,
        permissions: Permissions | None,
        *,
        end: Callable[[Refusal, str], object],
        expire: Callable[[], object] | None = None,
    ) -> ConnectionAuth:
        """Returns the permissions of one connection. They are checked while the result is entered
        (`with`).

        Args:
            permissions: The permissions that the client's request has granted; None: the client has
                none until it sends a token.
            end: Called to end the connection, with the reason, and perhaps details.
            expire: Called when the token has expired. Without it the connection ends then.
        """
        if self.keys is None:
            return ConnectionAuth(self, EVERYTHING, -inf, end)
        if permissions is None:
            permissions = NOTHING
        return ConnectionAuth(self, permissions, trio.current_time(), end, expire)

    def watch(self, auth: ConnectionAuth) -> None:
        """Checks the permissions of an open connection from now on."""
        if self.keys is not None:
            self._connections[auth] = None

    def unwatch(self, auth: ConnectionAuth) -> None:
        """Stops checking the permissions of a closed connection."""
        self._connections.pop(auth, None)

    async def _check_connections(self) -> None:
        while True:
            await trio.sleep(REFRESH_INTERVAL)
            await self._refresh_revocations()
            now, monotonic = self.clock(), trio.current_time()
            for auth in list(self._connections):
                auth.check(revoked=self._revoked, now=now, monotonic=monotonic)

    async def _refresh_revocations(self) -> None:
        try:
            revoked = await self.revocations.read(known=self._version)
            if revoked is not None:
                await self._apply(revoked)
        except BrokerUnavailable as error:
            if not self._revocations_unavailable:
                log.warning("cannot read the list of revoked tokens: %s", error)
            self._revocations_unavailable = True
            return
        self._revocations_unavailable = False

    async def _apply(self, revoked: Revoked) -> None:
        """Uses the list, and writes back entries that are missing although they have not expired.

        No entry is ever removed early, so a missing one means that the broker was emptied or
        rolled back. Raises `BrokerUnavailable`; the next check then tries again.
        """
        now = self.clock()
        lost = {
            id_: until
            for id_, until in self._revoked.items()
            if id_ not in revoked.until and until > now
        }
        self._revoked = {**lost, **revoked.until}
        if lost:
            await self.revocations.revoke(lost)
            log.warning("restored %d revoked tokens that the broker had lost", len(lost))
        self._version = revoked.version
