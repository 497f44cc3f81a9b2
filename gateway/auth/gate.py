"""The gate: who a client is, and until when, as the edges ask for it.

Each connection has a `Pass`. Where tokens are asked for it is empty until the client has
shown one, in time; it is made good for longer by another one; and it ends with the token,
or when that is revoked. One task looks at all passes twice a second: expiry, revocation
and tardiness need no task or timer for each connection.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

import trio
from attrs import define

from .. import endings
from ..errors import BrokerUnavailable, InvalidInput, Unauthorized
from ..limits import DEFAULT_LIMITS, Limits
from ..outbox import Outbox
from ..protocol import Command, Hello, encode
from .origins import SAME_ORIGIN, Origins
from .revocations import MemoryRevocations, Revocations, Revoked
from .rights import EVERYTHING, LEEWAY, NOTHING, Rights

if TYPE_CHECKING:  # its libraries take their time, and only who uses tokens needs them
    from .keyring import Keyring

__all__ = ["Gate", "Pass"]

log = logging.getLogger("gateway.auth")

LOOK_EVERY = 0.4
"""Seconds: a revocation is to be heard of within one, on a busy machine too."""


@define(eq=False)
class Pass:
    """What one connection may do at present."""

    gate: Gate
    outbox: Outbox
    rights: Rights
    since: float
    """Since when, on Trio's clock, it has waited for its first token."""
    warned: bool = False
    """Whether it has been told that its token has expired."""

    def token_in(self, command: Command) -> str | None:
        """The token to `show` before this command is carried out, if there is one.

        Raises `Unauthorized` if the client may not say it before it has shown one.
        """
        if self.gate.keys is None:
            return None
        if isinstance(command, Hello) and command.token is not None:
            return command.token
        if self.rights is NOTHING:
            raise Unauthorized("a token is needed first")
        return None

    async def show(self, token: str) -> Rights:
        """Its rights from now on. Raises `Unauthorized`; then they are as before."""
        self.rights = await self.gate.rights(token)
        self.warned = False
        log.info("admitted", extra={"subject": self.rights.subject, "token": self.rights.token_id})
        return self.rights


class Gate:
    """Decides for one node. Without `keys` no token is asked for, and everybody may do
    everything."""

    def __init__(
        self,
        keys: Keyring | None = None,
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
        self._passes: dict[Pass, None] = {}
        self._version: str | None = None
        self._revoked: Mapping[str, float] = {}
        self._blind = False

    def __repr__(self) -> str:
        return f"<Gate {self.keys or 'open'}, {len(self._passes)} passes>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep passes and keys up to date until cancelled. Started when the list of
        revocations has been read once, if it could be."""
        async with trio.open_nursery() as nursery:
            if self.keys is not None:
                await self._look_for_revocations()
                nursery.start_soon(self.keys.follow)
                nursery.start_soon(self._look)
            task_status.started()

    async def rights(self, token: str) -> Rights:
        """What the holder of `token` may do. Raises `Unauthorized`."""
        if self.keys is None:
            await trio.lowlevel.checkpoint()
            return EVERYTHING
        rights = await self.keys.rights_of(token, now=self.clock())
        if rights.token_id in self._revoked:
            raise Unauthorized("the token is revoked", endings.REVOKED)
        return rights

    async def bearer(self, authorization: str | None) -> Rights | None:
        """The rights by an `Authorization` header; None if there is none, but one is needed.

        Raises `Unauthorized`.
        """
        if self.keys is None or authorization is None:
            await trio.lowlevel.checkpoint()
            return EVERYTHING if self.keys is None else None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("Authorization is not a Bearer token")
        return await self.rights(token.strip())

    async def welcome(self, headers: Mapping[str, str]) -> Rights | None:
        """Judge a WebSocket's request by its headers (names in lower case).

        None: it has to show a token by `hello`. Raises `Unauthorized`.
        """
        if not self.origins.allow(headers.get("origin"), host=headers.get("host", "")):
            raise Unauthorized("a page of another origin", endings.FORBIDDEN_ORIGIN)
        return await self.bearer(headers.get("authorization"))

    async def revoke(self, token_id: str, *, until: float) -> None:
        """Have a token count no more, here at once, elsewhere within a second.

        `until` is its `exp`, `inf` if nobody knows. Raises `InvalidInput` if it is worthless
        already by that, `BrokerUnavailable`.
        """
        until += LEEWAY
        if until <= self.clock():
            raise InvalidInput("the token has expired by then", field="until")
        await self.revocations.revoke({token_id: until})
        await self._look_for_revocations()

    @contextmanager
    def admit(self, outbox: Outbox, rights: Rights | None) -> Iterator[Pass]:
        """A pass for one connection, for as long as the context is open. None as `rights`:
        it may do nothing until it has shown a token."""
        if self.keys is None:
            yield Pass(self, outbox, EVERYTHING, -inf)
            return
        pass_ = Pass(self, outbox, NOTHING if rights is None else rights, trio.current_time())
        self._passes[pass_] = None
        try:
            yield pass_
        finally:
            del self._passes[pass_]

    async def _look(self) -> None:
        while True:
            await trio.sleep(LOOK_EVERY)
            await self._look_for_revocations()
            now, monotonic = self.clock(), trio.current_time()
            for pass_ in self._passes:
                self._inspect(pass_, now, monotonic)

    def _inspect(self, pass_: Pass, now: float, monotonic: float) -> None:
        rights = pass_.rights
        if rights.expires_at is None:
            if monotonic >= pass_.since + self.limits.hello_timeout:
                pass_.outbox.end(endings.UNAUTHORIZED)
        elif rights.token_id in self._revoked:
            pass_.outbox.end(endings.REVOKED)
        elif now >= rights.expires_at + self.limits.expiry_grace:
            pass_.outbox.end(endings.EXPIRED)
        elif now >= rights.expires_at and not pass_.warned:
            pass_.warned = True
            grace = self.limits.expiry_grace
            pass_.outbox.announce(
                encode(
                    "error",
                    code="token_expired",
                    message=f"say hello with a new token within {grace:g} s",
                )
            )

    async def _look_for_revocations(self) -> None:
        try:
            revoked = await self.revocations.read(known=self._version)
            if revoked is not None:
                await self._take(revoked)
        except BrokerUnavailable as error:
            if not self._blind:
                log.warning("cannot look for revoked tokens: %s", error)
            self._blind = True
            return
        self._blind = False

    async def _take(self, revoked: Revoked) -> None:
        """Heed the list, and write again what was on it and is gone before its time.

        Nothing is ever taken off it, so what kept it was emptied, or went back in time.
        Raises `BrokerUnavailable`; then the same is tried at the next look.
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
            log.warning("the list of revoked tokens had lost %d: written again", len(lost))
        self._version = revoked.version
