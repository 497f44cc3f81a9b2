"""The publisher that writes directly to a Redis: it calls the same script as the nodes.

The only module of the worker that uses Redis; it shares code with the broker in
`gateway.brokers.redis`. Importing redis-py takes longer than importing the rest of the package, so
it is imported when a publisher is created, in the sender's thread.

It has its own connections, one per server, instead of a pool: a pool has locks, and in a forked
child the thread that holds one may not exist.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..model.statuses import HINTS
from .publisher import (
    NotConnected,
    Outcome,
    Publisher,
    PublishResult,
    Rejected,
    Token,
    Unreachable,
)

if TYPE_CHECKING:
    from ..brokers.redis.keys import Shard
    from ..brokers.redis.servers import Servers

__all__ = ["as_script_arguments", "canonical", "check", "connect"]

UNREADABLE = "UNREADABLE "
"""The first word of the error that a script returns if a key contains foreign data."""
FOLLOWS_NO_FEED = ""
"""Passed to the script instead of a node's generation (lua/record.lua)."""


def check(url: str, token: Token) -> None:
    """See `gateway.worker.publisher`. The token is ignored: the URL of a Redis has the password."""
    # redis-py needs this module, which cannot be imported any more after the main thread has ended.
    # The sender of a short script may be that late.
    import concurrent.futures.thread  # noqa: F401 - see above

    from ..brokers.redis.url import parse_address

    try:
        parse_address(url)
    except ValueError as error:
        raise ValueError(f"url is not the address of a Redis: {error}") from None


def canonical(url: str) -> str:
    """See `gateway.worker.publisher`."""
    from ..brokers.redis.url import parse_address

    address = parse_address(url)
    if address.kind != "server" or address.path is not None:
        return url
    start, separator, query = url.partition("?")
    scheme, _, rest = start.partition("://")
    user, at, location = rest.rpartition("@")
    host, _, database = location.partition("/")
    database = database.rstrip("/")
    port = "" if host.rpartition("]")[2].count(":") else ":6379"
    return f"{scheme}://{user}{at}{host.lower()}{port}/{database or 0}{separator}{query}"


def connect(url: str, token: Token) -> Publisher:
    """See `gateway.worker.publisher`."""
    return RedisPublisher(url)


_ScriptCall = tuple[Sequence[str], Sequence[Any]]
"""Keys and arguments of the script."""


class RedisPublisher:
    """Publishes to one Redis: a server, the primary that Sentinels name, or a cluster."""

    def __init__(self, url: str) -> None:
        from redis import exceptions

        from ..brokers.redis.scripts import PUBLISH
        from ..brokers.redis.servers import FAILURES, explain, open_servers
        from ..brokers.redis.url import parse_address

        "localhost".encode("idna")  # imports the codec now, and not inside `connect`
        self._address = parse_address(url)
        self._script = PUBLISH
        self._connection_errors, self._explain = FAILURES, explain
        self._connection_lost_errors = (exceptions.ConnectionError, exceptions.MovedError, OSError)
        self._moved_error = exceptions.MovedError
        self._unknown_script_error = exceptions.NoScriptError
        self._refusal_error = exceptions.ResponseError
        self._forbidden_errors = (
            exceptions.AuthenticationError,
            exceptions.AuthorizationError,
            exceptions.NoPermissionError,
        )
        self._open_servers: Callable[[], Servers] = partial(open_servers, self._address, calls=1)
        self._servers: Servers | None = None
        self._connections: dict[str, Any] = {}
        self._process_id = os.getpid()
        self._inherited_servers: list[Servers] = []

    def publish(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        """Sends the updates of each server in one pipeline."""
        outcomes: list[Outcome] = [Unreachable("not sent")] * len(updates)
        for shard, numbers in self._by_server(updates).items():
            calls = []
            for number in numbers:
                job, fields = updates[number]
                keys = self._address.layout.shard(job).keys(job)
                calls.append((keys, [FOLLOWS_NO_FEED, job, *as_script_arguments(fields)]))
            for number, outcome in zip(numbers, self._publish(shard, calls), strict=True):
                outcomes[number] = outcome
        return outcomes

    def _by_server(self, updates: Sequence[tuple[str, dict[str, Any]]]) -> dict[Shard, list[int]]:
        numbers_by_shard: dict[Shard, list[int]] = {}
        for number, (job, _) in enumerate(updates):
            shard = self._address.layout.shard(job)
            if self._address.kind != "cluster":
                shard = self._address.layout.shards[0]
            numbers_by_shard.setdefault(shard, []).append(number)
        return numbers_by_shard

    def _publish(self, shard: Shard, calls: Sequence[_ScriptCall]) -> list[Outcome]:
        """Calls the script. Repeats the call if a reused connection was lost, or if the jobs have
        moved to another server."""
        is_reused = self._server_name(shard) in self._connections
        try:
            try:
                results = self._call(shard, calls)
                if is_reused and any(isinstance(answer, self._moved_error) for answer in results):
                    self.close()
                    results = self._call(shard, calls)
            except self._connection_lost_errors as error:
                if not is_reused or isinstance(error, self._forbidden_errors):
                    raise
                results = self._call(shard, calls)
            return [self._outcome(answer) for answer in results]
        except Unreachable as error:
            return [error] * len(calls)
        except (*self._connection_errors, *self._forbidden_errors) as error:
            return [self._outcome(error)] * len(calls)

    def _outcome(self, result: Any) -> Outcome:
        if isinstance(result, self._forbidden_errors):
            return Rejected(str(result))
        if isinstance(result, self._refusal_error) and str(result).startswith(UNREADABLE):
            return Rejected(str(result).removeprefix(UNREADABLE), field="job")
        if isinstance(result, Exception):
            return Unreachable(self._explain(result))
        epoch, seq, attempt, reason, request = result
        if reason == b"unknown":
            return Rejected(HINTS["unknown"])
        return PublishResult(
            attempt,
            not reason,
            reason.decode() or None,
            epoch=epoch,
            seq=seq,
            request=json.loads(request) if request else None,
        )

    def close(self) -> None:
        """See `Publisher`. In a forked child, redis-py closes the parent's socket without
        sending."""
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.disconnect()
        servers, self._servers = self._servers, None
        if servers is not None and os.getpid() == self._process_id:
            servers.close()
        elif servers is not None:
            # Do not use or delete it: the thread that holds its locks may not exist here.
            self._inherited_servers.append(servers)
        self._process_id = os.getpid()

    def _server_name(self, shard: Shard) -> str:
        """Returns a name for the server that has this shard."""
        return shard.prefix if self._address.kind == "cluster" else ""

    def _call(self, shard: Shard, calls: Sequence[_ScriptCall]) -> list[Any]:
        """Runs the script for each call. Returns the results, or the server's errors in their
        place. Afterwards the connection is idle or closed."""
        server = self._server_name(shard)
        try:
            if server not in self._connections:
                if self._servers is None:
                    self._servers = self._open_servers()
                name = f"{shard.prefix}:worker"
                self._connections[server] = self._servers.connection(shard.feed, name=name)
            connection = self._connections[server]
            # Does nothing if it is connected. Without it no Sentinel would be queried.
            connection.connect()
        except self._connection_errors as error:
            self._disconnect(server)
            if isinstance(error, self._forbidden_errors):
                raise
            raise NotConnected(self._explain(error)) from error
        try:
            results = self._pipeline(connection, "EVALSHA", self._script.sha, calls)
            missing_script = [
                i for i, a in enumerate(results) if isinstance(a, self._unknown_script_error)
            ]
            if missing_script:  # the server was restarted: the first call sends it the script
                text = self._script.text
                repeated = self._pipeline(connection, "EVAL", text, [calls[missing_script[0]]])
                rest = [calls[i] for i in missing_script[1:]]
                repeated += self._pipeline(connection, "EVALSHA", self._script.sha, rest)
                for i, answer in zip(missing_script, repeated, strict=True):
                    results[i] = answer
        except BaseException:
            self._disconnect(server)
            raise
        return results

    def _pipeline(
        self, connection: Any, command: str, script: str, calls: Sequence[_ScriptCall]
    ) -> list[Any]:
        commands = [(command, script, len(keys), *keys, *args) for keys, args in calls]
        connection.send_packed_command(connection.pack_commands(commands))
        results: list[Any] = []
        for _ in calls:
            try:
                results.append(connection.read_response())
            except self._refusal_error as error:
                results.append(error)
        return results

    def _disconnect(self, server: str) -> None:
        connection = self._connections.pop(server, None)
        if connection is not None:
            connection.disconnect()


def as_script_arguments(fields: dict[str, Any]) -> list[str]:
    """Returns an update as arguments of the script: fields and values as text."""
    arguments: list[str] = []
    for name, value in fields.items():
        if name == "start":
            arguments += ("start", "1")
        elif value is None:
            arguments += ("clear", name)
        elif name == "data" or isinstance(value, list):
            arguments += (name, json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        else:
            arguments += (name, repr(value) if isinstance(value, float) else str(value))
    return arguments
