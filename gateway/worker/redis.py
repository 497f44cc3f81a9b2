"""The publisher straight to a Redis: it calls the script that nodes call, with no node between.

The only module of the worker that knows Redis; `gateway.storage` has what it shares with
the broker. redis-py costs more to import than all the rest of the package, so it is
imported when a publisher is made, in the sender's thread.

The connections are its own, one for each server that has a part of the jobs, and not those
of a pool: a pool has locks, and in a forked child whoever holds one may not exist.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .publisher import Publisher, Receipt, Rejected, Token, Unreachable

if TYPE_CHECKING:
    from ..storage.layout import Shard
    from ..storage.servers import Servers

__all__ = ["check", "connect", "plain"]


def check(url: str, token: Token) -> None:
    """See `gateway.worker.publisher`. A token is for gateways: of a Redis, the URL has all."""
    # redis-py needs it, and once a script has come to its end it can no longer be imported:
    # the sender of a short script may be that late.
    import concurrent.futures.thread  # noqa: F401 - see above

    from ..storage.address import parse_address

    try:
        parse_address(url)
    except ValueError as error:
        raise ValueError(f"url is not the address of a Redis: {error}") from None


def connect(url: str, token: Token) -> Publisher:
    """See `gateway.worker.publisher`."""
    return RedisPublisher(url)


class RedisPublisher:
    """Publishes to one Redis: a server, the primary that Sentinels name, or a cluster."""

    def __init__(self, url: str) -> None:
        from redis import exceptions

        from ..storage.address import parse_address
        from ..storage.layout import FEED_LENGTH, HISTORY, RETENTION
        from ..storage.scripts import PUBLISH
        from ..storage.servers import FAILURES, explain, open_servers

        "localhost".encode("idna")  # its codec is imported here, and not inside a connect
        self._address = parse_address(url)
        self._script, self._common = PUBLISH, (HISTORY, FEED_LENGTH, RETENTION)
        self._broken, self._explain = FAILURES, explain
        self._lost = (exceptions.ConnectionError, exceptions.MovedError, OSError)
        self._forbidden = (
            exceptions.AuthenticationError,
            exceptions.AuthorizationError,
            exceptions.NoPermissionError,
        )
        self._open: Callable[[], Servers] = partial(open_servers, self._address, calls=1)
        self._servers: Servers | None = None
        self._connections: dict[str, Any] = {}
        self._process = os.getpid()
        self._of_parents: list[Servers] = []

    def publish(self, job: str, fields: dict[str, Any]) -> Receipt:
        """Call once; once more at once if a kept connection turns out to be dead, or to lead
        where the job no longer is."""
        shard = self._address.layout.shard(job)
        arguments = [*self._common, job, *plain(fields)]
        kept = self._server(shard) in self._connections
        try:
            try:
                return self._call(shard, job, arguments)
            except self._lost as error:
                if not kept or isinstance(error, self._forbidden):
                    raise
                return self._call(shard, job, arguments)
        except self._forbidden as error:
            raise Rejected(str(error)) from error
        except self._broken as error:
            raise Unreachable(self._explain(error)) from error

    def close(self) -> None:
        """See `Publisher`. In a child, redis-py closes a parent's socket without a word."""
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.disconnect()
        servers, self._servers = self._servers, None
        if servers is not None and os.getpid() == self._process:
            servers.close()
        elif servers is not None:
            # Neither called nor collected: its locks may be held by nobody.
            self._of_parents.append(servers)
        self._process = os.getpid()

    def _server(self, shard: Shard) -> str:
        """A name for the server that has this part of the jobs."""
        return shard.prefix if self._address.kind == "cluster" else ""

    def _call(self, shard: Shard, job: str, arguments: list[Any]) -> Receipt:
        """One call of the script. Afterwards there is an idle connection, or none."""
        server = self._server(shard)
        if server not in self._connections:
            if self._servers is None:
                self._servers = self._open()
            name = f"{shard.prefix}:worker"
            self._connections[server] = self._servers.connection(shard.feed, name=name)
        connection = self._connections[server]
        try:
            if not connection.is_connected:
                connection.connect()  # if left to `send_command`, no Sentinel would be asked
            answer = self._script(_Caller(connection), shard.keys(job), arguments)
        except BaseException:
            del self._connections[server]
            connection.disconnect()
            raise
        epoch, seq, attempt, reason = answer
        return Receipt(attempt, not reason, reason.decode() or None, epoch=epoch, seq=seq)


class _Caller:
    """A connection as the scripts want their client."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute_command(self, *words: Any) -> Any:
        self._connection.send_command(*words)
        return self._connection.read_response()


def plain(fields: dict[str, Any]) -> list[str]:
    """A picture as the script takes it: fields and values as plain text."""
    found: list[str] = []
    for name, value in fields.items():
        if name == "start":
            found += ("start", "1")
        elif value is None:
            found += ("clear", name)
        elif name == "data":
            found += (name, json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        else:
            found += (name, repr(value) if isinstance(value, float) else str(value))
    return found
