"""One WebSocket connection to a gateway: the client's side of `progress.v1`.

    run           connects, sends hello, handles each frame, closes; returns the reason of the end
    _keep_alive   pings a silent gateway, and ends the connection if nothing is received

Every wait has a deadline: connecting, each send, the silence of the gateway, closing.
"""

from __future__ import annotations

from os import PathLike
from typing import Any, Protocol, get_args

import msgspec
import trio
from attrs import define
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
)

from ...model.constants import MAX_SET_LIMIT
from ...model.errors import FullCode
from ...model.limits import DEFAULT_LIMITS
from ...protocol.close_codes import EXPIRED, REVOKED, UNAUTHORIZED, reconnects_after
from ...protocol.commands import Mode
from ...worker.publisher import Token, Unreachable
from ...worker.token import newest_token
from .connect import CONNECT_TIMEOUT, NoGateway, connected_to
from .frames import (
    Error,
    Frame,
    Gap,
    Goaway,
    JobSet,
    Ping,
    Progress,
    Subscriptions,
    Welcome,
    parse_frames,
)
from .job_states import JobStates

__all__ = ["Display", "Refused", "WatchClient"]

SEND_TIMEOUT = 10.0  # seconds
ENVELOPE = 100
"""More bytes than `hello` has without its positions and the token."""
PUNCTUATION = 4
"""Bytes of the quotes, the colon and the comma of a position."""
PONG_TIMEOUT = 10.0  # seconds within which something must be received after a ping

TOKEN_CODES = frozenset(ending.code for ending in (EXPIRED, UNAUTHORIZED, REVOKED))
"""Close codes after which a new token may be accepted, if the token comes from a file."""


class Refused(Exception):
    """The gateway has closed the connection with a code that forbids a reconnect. The text has the
    reason."""


class GatewayFull(Exception):
    """The client's quota has no place for a job or a set at the moment. The text names it."""


class Display(Protocol):
    """Shows the events of the client. Its methods are synchronous, and must not block for long."""

    def on_connected(self, node: str) -> None:
        """The connection to the gateway is open."""

    def on_disconnected(self, reason: str, seconds: float) -> None:
        """The connection is lost. The next attempt is in `seconds` seconds."""

    def on_progress(self, frame: str, job: str) -> None:
        """The state of `job` has changed; `frame` is its JSON text."""

    def on_job_set(self, frame: str) -> None:
        """The jobs of a set have changed; `frame` is its JSON text."""

    def on_gap(self, frame: str, job: str) -> None:
        """Events of `job` were missed; `frame` is its JSON text."""

    def on_warning(self, text: str) -> None:
        """Shows a warning."""


_FULL_CODES = frozenset(get_args(FullCode))
_CONNECTION_ERRORS = (
    GatewayFull,
    NoGateway,
    Unreachable,
    HandshakeError,
    ConnectionClosed,
    trio.TooSlowError,
    ValueError,
)


@define
class WatchClient:
    """One WebSocket connection, from connecting to its end."""

    job_states: JobStates
    mode: Mode
    token: Token
    """A token file is read for each connection. While the gateway refuses its token, the client
    tries again."""
    display: Display
    window: tuple[float, float] | None = None
    """The retry window of the gateway, in seconds."""
    gateway_drains: bool = False
    """Whether the gateway has sent `goaway`, so that the end of the connection is no failure."""
    ping_interval: float = 25.0
    max_message: int = DEFAULT_LIMITS.max_frame
    """Maximum bytes of a message to the gateway."""
    received_at: float = 0.0

    async def run(self, url: str) -> str:
        """Runs until the connection or all jobs have ended; returns the reason.

        Raises `Refused` if a reconnect is forbidden, and exceptions of the display.
        """
        reason: str | Refused = "all jobs have ended"
        try:
            token = newest_token(self.token)
            async with connected_to(url) as ws, trio.open_nursery() as nursery:
                with trio.fail_after(CONNECT_TIMEOUT):
                    welcome = await ws.get_message()
                self.received_at = trio.current_time()
                await self._handle_message(ws, welcome)
                await self._send_hello(ws, token)
                nursery.start_soon(self._keep_alive, ws)
                while not self.job_states.finished:
                    message = await ws.get_message()
                    self.received_at = trio.current_time()
                    await self._handle_message(ws, message)
                nursery.cancel_scope.cancel()
        except* (Refused, *_CONNECTION_ERRORS) as group:
            reason = _end_reason(group, token_is_renewable=isinstance(self.token, PathLike))
        if isinstance(reason, Refused):
            raise reason
        return reason

    async def _send_hello(self, ws: WebSocketConnection, token: str | None) -> None:
        hello: dict[str, Any] = {"type": "hello", "positions": {}}
        bytes_left = self.max_message - len(token or "") - ENVELOPE
        for job, position in self.job_states.positions().items():
            bytes_left -= len(job) + len(str(position)) + PUNCTUATION
            if bytes_left < 0:
                break  # the gateway sends a snapshot of the other jobs
            hello["positions"][job] = position
        if token:
            hello["token"] = token
        await self._send(ws, hello)
        jobs = list(self.job_states.named)
        await self._send(ws, {"type": "sync_subscriptions", "jobs": jobs, "mode": self.mode})
        for prefix in self.job_states.sets:
            await self._send(ws, {"type": "watch_set", "prefix": prefix, "limit": MAX_SET_LIMIT})

    async def _send(self, ws: WebSocketConnection, command: dict[str, Any]) -> None:
        with trio.fail_after(SEND_TIMEOUT):
            await ws.send_message(msgspec.json.encode(command).decode())

    async def _handle_message(self, ws: WebSocketConnection, message: str | bytes) -> None:
        if isinstance(message, bytes):
            raise ValueError("the gateway sent a binary message")  # noqa: TRY004 - not a caller's
        for text, frame in parse_frames(message):
            await self._handle_frame(ws, text, frame)
            if self.job_states.finished:
                return  # the rest of the message is not needed

    async def _handle_frame(self, ws: WebSocketConnection, text: str, frame: Frame) -> None:
        match frame:
            case Progress(job=job):
                if self.job_states.apply(frame):
                    self.display.on_progress(text, job)
                else:
                    self.display.on_warning(f"missed events of {job}, subscribing again")
                    await self._send(ws, {"type": "unsubscribe", "jobs": [job]})
                    await self._send(ws, {"type": "subscribe", "jobs": [job], "mode": self.mode})
            case JobSet():
                self.job_states.apply_set(frame)
                self.display.on_job_set(text)
            case Gap(job=job):
                self.display.on_gap(text, job)
            case Ping():
                await self._send(ws, {"type": "pong"})
            case Welcome(node=node, retry=window, ping_interval=seconds, limits=limits):
                self.window = window
                self.ping_interval = max(1.0, min(seconds, self.ping_interval))
                self.max_message = limits.message
                self.display.on_connected(node)
            case Subscriptions(denied=denied) if denied:
                # Check permanently denied jobs first: with one of them there is no retry.
                for job, code in sorted(denied.items(), key=lambda item: item[1] in _FULL_CODES):
                    reason = f"{job} cannot be watched: {code}"
                    if job in self.job_states.named:
                        raise GatewayFull(reason) if code in _FULL_CODES else Refused(reason)
                    # The gateway retries this job when the set that contains it changes.
                    self.display.on_warning(reason)
            case Goaway(retry=window):
                # The gateway still sends due frames, and then closes the connection.
                self.window, self.gateway_drains = window, True
            case Error(code=code, message=what) if code in _FULL_CODES:
                raise GatewayFull(f"a set cannot be watched: {code}: {what}")
            case Error(code=code, message=what):
                self.display.on_warning(f"{code}: {what}")

    async def _keep_alive(self, ws: WebSocketConnection) -> None:
        """Raises `TooSlowError` if nothing is received, even after a ping."""
        while True:
            received_at = self.received_at
            await trio.sleep_until(received_at + self.ping_interval)
            if self.received_at != received_at:
                continue
            await self._send(ws, {"type": "ping"})
            await trio.sleep(PONG_TIMEOUT)
            if self.received_at == received_at:
                raise trio.TooSlowError


def _end_reason(group: BaseExceptionGroup[Any], *, token_is_renewable: bool) -> str | Refused:
    """Returns why the connection ended, from the raised errors: `Refused` if a reconnect is
    forbidden.

    After an invalid token it is forbidden unless `token_is_renewable`.
    """
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ConnectionClosed):
        code = error.reason.code if error.reason else 1006
        reason = (error.reason.reason if error.reason else None) or "connection lost"
        is_final = not reconnects_after(code)
        if code in TOKEN_CODES:
            is_final = not token_is_renewable
        if is_final:
            return Refused(f"the gateway has closed the connection: {reason} ({code})")
        return f"{reason} ({code})"
    if isinstance(error, Refused):
        return error
    if isinstance(error, ConnectionRejected):
        return f"the server answered {error.status_code}; is it a gateway?"
    if isinstance(error, trio.TooSlowError):
        return "no answer"
    return str(error) or type(error).__name__
