"""One WebSocket to a gateway, from dialling to its end: the client's side of `progress.v1`.

    live            dials, greets, takes frame by frame, hangs up; says why it ended
    _heed_silence   a line on which nothing is heard is asked, then given up

Every wait has a deadline: dialling, each send, the silence of the other side, the goodbye.
"""

from __future__ import annotations

from os import PathLike
from typing import Any, Protocol

import msgspec
import trio
from attrs import define
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
)

from ..protocol import Mode
from ..worker.publisher import Token, Unreachable
from ..worker.token import newest_token
from .dialling import DIAL_WITHIN, Away, dialled
from .frames import Error, Frame, Gap, Goaway, Ping, Progress, Subscriptions, Welcome, parse_frames
from .known import Known

__all__ = ["Audience", "Line", "Refused"]

SEND_WITHIN = 10.0  # seconds
ANSWER_WITHIN = 10.0  # how long the other side may be silent after a ping

BETTER_TOKEN = frozenset((4100, 4500, 4502))
"""Another token would do (expired, no good one, revoked): its file may soon have it."""
NO_RETURN = frozenset((1003, 1008, 1009))
"""Codes below 4000 after which a client does not come back (docs/protocol.md, Endings)."""


class Refused(Exception):
    """The gateway has ended the connection for good; the text says why."""


class Audience(Protocol):
    """Who is told what happens. Synchronous; must not block for long."""

    def connected(self, node: str) -> None:
        """There is a line to the gateway."""

    def away(self, why: str, seconds: float) -> None:
        """There is none, and the next one is dialled in that many seconds."""

    def progress(self, text: str, job: str) -> None:
        """What is known of `job` has changed; `text` is the frame."""

    def gap(self, text: str, job: str) -> None:
        """Events of `job` were missed; `text` is the frame."""

    def trouble(self, what: str) -> None:
        """Something odd that changes nothing."""


_ENDS_IT = Away, Unreachable, HandshakeError, ConnectionClosed, trio.TooSlowError, ValueError


@define
class Line:
    """One WebSocket, from dialling to its end."""

    known: Known
    mode: Mode
    token: Token
    """One in a file is read for each line, and while the gateway does not take it, it is away."""
    audience: Audience
    window: tuple[float, float] | None = None
    """Within how many seconds the gateway wants us back."""
    sent_away: bool = False
    """The gateway is leaving: that we must go is nobody's failure."""
    ping_after: float = 25.0
    heard_at: float = 0.0

    async def live(self, url: str) -> str:
        """Follow until the line ends or all jobs have; returns why it ended.

        Raises `Refused` if it ended for good, and whatever the audience raises.
        """
        why: str | Refused = "all jobs have ended"
        try:
            token = newest_token(self.token)
            async with dialled(url) as ws, trio.open_nursery() as nursery:
                with trio.fail_after(DIAL_WITHIN):
                    welcome = await ws.get_message()
                self.heard_at = trio.current_time()
                await self._greet(ws, token)
                await self._take(ws, welcome)
                nursery.start_soon(self._heed_silence, ws)
                while not self.known.finished:
                    message = await ws.get_message()
                    self.heard_at = trio.current_time()
                    await self._take(ws, message)
                nursery.cancel_scope.cancel()
        except* (Refused, *_ENDS_IT) as group:
            why = _why(group, renewable=isinstance(self.token, PathLike))
        if isinstance(why, Refused):
            raise why
        return why

    async def _greet(self, ws: WebSocketConnection, token: str | None) -> None:
        hello: dict[str, Any] = {"type": "hello", "positions": self.known.positions()}
        if token:
            hello["token"] = token
        await self._say(ws, hello)
        jobs = list(self.known.jobs)
        await self._say(ws, {"type": "sync_subscriptions", "jobs": jobs, "mode": self.mode})

    async def _say(self, ws: WebSocketConnection, command: dict[str, Any]) -> None:
        with trio.fail_after(SEND_WITHIN):
            await ws.send_message(msgspec.json.encode(command).decode())

    async def _take(self, ws: WebSocketConnection, message: str | bytes) -> None:
        if isinstance(message, bytes):
            raise ValueError("the gateway sent a binary message")  # noqa: TRY004 - not a caller's
        for text, frame in parse_frames(message):
            await self._take_one(ws, text, frame)
            if self.known.finished:
                return  # nothing after it matters

    async def _take_one(self, ws: WebSocketConnection, text: str, frame: Frame) -> None:
        match frame:
            case Progress(job=job):
                if self.known.apply(frame):
                    self.audience.progress(text, job)
                else:
                    self.audience.trouble(f"lost track of {job}, asking anew")
                    await self._say(ws, {"type": "unsubscribe", "jobs": [job]})
                    await self._say(ws, {"type": "subscribe", "jobs": [job], "mode": self.mode})
            case Gap(job=job):
                self.audience.gap(text, job)
            case Ping():
                await self._say(ws, {"type": "pong"})
            case Welcome(node=node, retry=window, ping_interval=seconds):
                self.window = window
                self.ping_after = max(1.0, min(seconds, self.ping_after))
                self.audience.connected(node)
            case Subscriptions(denied=denied) if denied:
                job, code = next(iter(denied.items()))
                raise Refused(f"{job} cannot be watched: {code}")
            case Goaway(retry=window):
                # It still sends what is due, and closes by itself.
                self.window, self.sent_away = window, True
            case Error(code=code, message=what):
                self.audience.trouble(f"{code}: {what}")

    async def _heed_silence(self, ws: WebSocketConnection) -> None:
        """Raise `TooSlowError` if nothing is heard, not even when asked."""
        while True:
            heard_at = self.heard_at
            await trio.sleep_until(heard_at + self.ping_after)
            if self.heard_at != heard_at:
                continue
            await self._say(ws, {"type": "ping"})
            await trio.sleep(ANSWER_WITHIN)
            if self.heard_at == heard_at:
                raise trio.TooSlowError


def _why(group: BaseExceptionGroup[Any], *, renewable: bool) -> str | Refused:
    """Why a line ended, from what was raised: `Refused` if it is for good.

    Who has no `renewable` token cannot come back with a better one.
    """
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ConnectionClosed):
        code = error.reason.code if error.reason else 1006
        reason = (error.reason.reason if error.reason else None) or "connection lost"
        final = code in NO_RETURN or 4500 <= code <= 4999
        if code in BETTER_TOKEN:
            final = not renewable
        if final:
            return Refused(f"the gateway has closed the connection: {reason} ({code})")
        return f"{reason} ({code})"
    if isinstance(error, Refused):
        return error
    if isinstance(error, ConnectionRejected):
        return f"it answers {error.status_code}; is it a gateway?"
    if isinstance(error, trio.TooSlowError):
        return "no answer"
    return str(error) or type(error).__name__
