"""One connection to Redis (`Link`), used from Trio: it sends commands, and knows its server.

All I/O of the broker and of its poller uses `Connector` and `Link`. `RedisConnector` implements
them with the connections of redis-py, which does not support Trio, so each call takes a thread.
The simulation has an implementation with an in-process Redis on a virtual clock.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import trio
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError

from .cursor import server_identity
from .scripts import Script
from .servers import FAILURES, Servers

__all__ = [
    "Command",
    "Connector",
    "Link",
    "RedisConnector",
    "raise_errors",
    "run_script",
    "run_scripts",
]

SENTINEL_TIMEOUT = 0.25
"""Seconds to wait for the Sentinels: the feed is not read meanwhile."""

Command = Sequence[Any]
"""A command and its arguments."""


class Link(Protocol):
    """One connection to one server. Used by one task at a time."""

    @property
    def server(self) -> bytes:
        """The identity that the server had when the connection was made."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as is known. Never blocks."""
        ...

    async def is_current(self) -> bool:
        """Returns whether its server still is the primary that Sentinels name: a primary that was
        replaced as planned accepts writes for some seconds. True if there are no Sentinels, or none
        answers.

        Cancellation loses nothing.
        """
        ...

    async def execute(
        self, commands: Sequence[Command], convert: Callable[[list[Any]], Any] = ...
    ) -> Any:
        """Sends all commands in one write, and returns `convert` of their answers.

        An answer that is an error is a `ResponseError` in its place. `convert` may run in a
        thread, so it must not touch shared state.

        Raises:
            RedisError, OSError: The connection broke, or the server was silent for too long.

        Cancellation: the commands may or may not have been executed; the link is closed.
        """
        ...

    def close(self) -> None:
        """Closes the connection. A running `execute` fails. Any task may call it; never blocks."""
        ...


class Connector(Protocol):
    """Makes links to the primary that has a key now, as Sentinels or the cluster say."""

    async def connect(self, key: str, *, name: str, limiter: trio.CapacityLimiter) -> Link:
        """Connects, and reads the server's identity. `name` is for operators (CLIENT LIST).

        The link and this call use `limiter` for their threads: a thread that is still running
        after a cancellation keeps its token until it ends.

        Raises:
            RedisError, RedisClusterException, OSError: No server can be reached now.
        """
        ...

    def close_idle_connections(self) -> None:
        """Closes connections that no link uses. The connector stays usable."""
        ...


async def run_script(link: Link, script: Script, keys: Sequence[str], arguments: Command) -> Any:
    """Runs a script by its hash. If the server does not have the script, send its text."""
    (answer,) = await link.execute([("EVALSHA", script.sha, len(keys), *keys, *arguments)])
    if isinstance(answer, NoScriptError):
        (answer,) = await link.execute([("EVAL", script.text, len(keys), *keys, *arguments)])
    if isinstance(answer, ResponseError):
        raise answer
    return answer


async def run_scripts(
    link: Link, script: Script, calls: Sequence[tuple[Sequence[str], Command]]
) -> list[Any]:
    """Returns the answers of several calls of a script. The answer of a call that failed is its
    error."""

    def commands(name: str, text: str, indexes: Iterable[int]) -> list[Command]:
        return [(name, text, len(calls[i][0]), *calls[i][0], *calls[i][1]) for i in indexes]

    answers: list[Any] = await link.execute(commands("EVALSHA", script.sha, range(len(calls))))
    unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:  # the server was just started: the first call sends it the script
        retries = commands("EVAL", script.text, unknown[:1])
        retries += commands("EVALSHA", script.sha, unknown[1:])
        for i, answer in zip(unknown, await link.execute(retries), strict=True):
            answers[i] = answer
    return answers


def raise_errors(answers: list[Any]) -> list[Any]:
    """Returns the answers, if none of them is an error; otherwise raises the first error."""
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise answer
    return answers


class RedisConnector:
    """Connections of redis-py to `servers`, each used in a thread."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def connect(self, key: str, *, name: str, limiter: trio.CapacityLimiter) -> Link:
        return await trio.to_thread.run_sync(
            self._connect, key, name, limiter, abandon_on_cancel=True, limiter=limiter
        )

    def close_idle_connections(self) -> None:
        self._servers.close()

    def _connect(self, key: str, name: str, limiter: trio.CapacityLimiter) -> Link:
        connection = self._servers.connection(key, name=name)
        try:
            connection.connect()
            answers = _execute(connection, [("INFO", "server"), ("INFO", "replication")])
            server = server_identity(*raise_errors(answers))
            return _ThreadLink(connection, server, limiter, self._servers.is_current)
        except BaseException:  # also cancellation: nothing else has a reference to the connection
            connection.disconnect()
            raise


class _ThreadLink:
    def __init__(
        self,
        connection: Any,
        server: bytes,
        limiter: trio.CapacityLimiter,
        is_current: Callable[[Any], bool],
    ) -> None:
        self.server = server
        self._is_current = is_current
        self._sentinel_limiter = trio.CapacityLimiter(1)
        """Separate, so that Sentinels that do not answer cannot keep commands waiting."""
        self._connection = connection
        self._limiter = limiter
        self._lock = threading.Lock()
        self._busy = False
        self._closed = False

    @property
    def alive(self) -> bool:
        if self._closed or self._connection._sock is None:
            return False
        try:
            # No command is pending, so the socket is readable only if the connection has ended.
            return not self._connection.can_read(timeout=0)
        except FAILURES:
            return False

    async def is_current(self) -> bool:
        if not self._sentinel_limiter.available_tokens:
            return True  # the Sentinels have not answered the last call yet
        with trio.move_on_after(SENTINEL_TIMEOUT):
            return await trio.to_thread.run_sync(
                self._is_current,
                self._connection,
                abandon_on_cancel=True,
                limiter=self._sentinel_limiter,
            )
        return True

    async def execute(
        self, commands: Sequence[Command], convert: Callable[[list[Any]], Any] = list
    ) -> Any:
        try:
            answers = await trio.to_thread.run_sync(
                self._call, commands, convert, abandon_on_cancel=True, limiter=self._limiter
            )
        except BaseException:  # also a cancelled call: an answer may still be on its way
            self.close()
            raise
        return answers

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if not self._busy:
                self._connection.disconnect()
            elif self._connection._sock is not None:
                with suppress(OSError):  # the connection was already lost
                    # This wakes the thread that reads, which then disconnects. TLS's `shutdown`
                    # would first send a close notification, so call the plain socket's method.
                    socket.socket.shutdown(self._connection._sock, socket.SHUT_RDWR)

    def _call(self, commands: Sequence[Command], convert: Callable[[list[Any]], Any]) -> Any:
        with self._lock:
            if self._closed:
                raise ConnectionAbortedError("the connection was closed")
            self._busy = True
        try:
            return convert(_execute(self._connection, commands))
        except BaseException:  # the next call would read the answers of this one
            self._closed = True
            raise
        finally:
            with self._lock:
                self._busy = False
                if self._closed:
                    self._connection.disconnect()


def _execute(connection: Any, commands: Sequence[Command]) -> list[Any]:
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(connection.read_response())
        except ResponseError as error:  # read all answers, or later calls would get them
            answers.append(error)
    for answer in answers:
        if isinstance(answer, MovedError | AskError):
            raise answer
    return answers
