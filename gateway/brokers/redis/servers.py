"""Makes the connections of redis-py, which block: to one server, the primary that Sentinels name,
or a cluster.

This is the only file that uses the clients of redis-py. No function here connects. Connecting and
calling block, so callers do them in a thread.

redis-py's retries are switched off, because a silent reconnection could hide a loss. (A cluster's
client still repeats a call when a slot has moved. That is harmless, because an update can be
applied twice without another effect.)
"""

from __future__ import annotations

import re
import threading
from typing import Any, Final, Protocol

from redis import Connection, ConnectionPool, Redis, RedisCluster, SSLConnection
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from .url import Address

__all__ = [
    "CONNECT_TIMEOUT",
    "FAILURES",
    "REPLICA",
    "TIMEOUT",
    "Servers",
    "explain",
    "open_servers",
    "refusal_in",
]

CONNECT_TIMEOUT = 2.0
"""Seconds to connect: a lost SYN packet is sent again after one second."""
TIMEOUT = 5.0
"""Seconds to wait for an answer. Redis's slowest operations (a fork, a big key) take less."""
FAILURES: Final = (RedisError, RedisClusterException, OSError)
"""The exceptions that are raised if a Redis does not answer, or refuses. (`RedisClusterException`,
which a cluster's client raises if it finds no node, is not a `RedisError`.)"""


class Servers(Protocol):
    """The servers of an address. The types are `Any`, because redis-py's are incomplete."""

    @property
    def client(self) -> Any:
        """redis-py's client for commands, usable in any thread.

        Raises one of `FAILURES` if a cluster cannot be reached when the client is made.
        """
        ...

    def connection(self, key: str, *, name: str) -> Any:
        """Returns a new connection, not yet connected, to the server that has `key` now.

        This closes the idle connections, because the caller has lost a connection, so they are
        probably lost too. `name` is for operators (CLIENT LIST). Raises like `client`.
        """
        ...

    def is_current(self, connection: Any) -> bool:
        """Returns whether the Sentinels still name the server of this connection; always, without
        Sentinels or if none answers. Blocks."""
        ...

    def close(self) -> None:
        """Closes the idle connections. The servers can still be used."""
        ...


def open_servers(address: Address, *, calls: int) -> Servers:
    """Returns the servers at `address`, with at most `calls` concurrent calls to each."""
    options: dict[str, Any] = {
        **address.options,
        "protocol": 2,
        "max_connections": calls,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.kind == "cluster":
        return _Cluster(address, options)
    if address.kind == "sentinel":
        return _Monitored(_sentinel_pool(address, options))
    if address.path is not None:
        options |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        (options["host"], options["port"]) = address.hosts[0]
        options["connection_class"] = SSLConnection if address.tls else Connection
    return _Pooled(ConnectionPool(**options))


KINDS: Final = {
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",  # which is a ClusterDownError
    ClusterDownError: "CLUSTERDOWN",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
}
"""The first word of Redis's errors, which redis-py removes when it raises these types."""


NOT_IN_A_SCRIPT: Final = "executing the script can't"
"""Part of the error for a command in a script that the user may not run. It has no first word."""


REPLICA: Final = "READONLY the server is a replica, which accepts no updates"
"""The error for a server that has become a replica."""


def explain(error: Exception) -> str:
    """Returns the text of an error of redis-py, for people, without the options of a Sentinel's
    connection, which redis-py appends."""
    text = str(error).partition(" : <")[0] or type(error).__name__
    if text.startswith("UNBLOCKED"):  # the answer to an XREAD that waits when a primary is demoted
        return REPLICA
    kind = next((kind for type_, kind in KINDS.items() if isinstance(error, type_)), None)
    if NOT_IN_A_SCRIPT in text:
        kind = "NOPERM"
    return text if kind is None or refusal_in(text) else f"{kind} {text}"


def refusal_in(text: str) -> str | None:
    """Returns the kind of refusal in a text of `explain`, such as MISCONF; None if there is
    none."""
    match = _KIND.match(text)
    return match[0] if match else None


_KIND = re.compile(r"[A-Z]{3,}(?= )")
"""The first word of an error of Redis, such as MISCONF."""


def _sentinel_pool(address: Address, options: dict[str, Any]) -> SentinelConnectionPool:
    """Returns a pool whose connections ask the Sentinels for the primary when they connect."""
    sentinel_options: dict[str, Any] = {
        **address.sentinel_options,
        "ssl": address.tls,
        "socket_timeout": CONNECT_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": options["retry"],
    }
    sentinel_type: Any = Sentinel  # untyped, like much of redis-py
    sentinel = sentinel_type(
        address.hosts, sentinel_kwargs=sentinel_options, ssl=address.tls, **options
    )
    pool: SentinelConnectionPool = sentinel.master_for(address.service).connection_pool
    return pool


class _Pooled:
    """One server."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self.client = Redis(connection_pool=pool)

    def connection(self, key: str, *, name: str) -> Any:
        self.close()
        return _connection_outside_pool(self._pool, name)

    def is_current(self, connection: Any) -> bool:
        return True

    def close(self) -> None:
        self._pool.disconnect(inuse_connections=False)


class _Monitored(_Pooled):
    """The primary of a service that Sentinels monitor."""

    def __init__(self, pool: SentinelConnectionPool) -> None:
        super().__init__(pool)
        self._sentinels: Any = pool  # its methods are untyped

    def is_current(self, connection: Any) -> bool:
        try:
            address = self._sentinels.get_master_address()
        except FAILURES:
            return True
        return bool(address == (connection.host, connection.port))


class _Cluster:
    """A cluster. The client loads the map of slots at its first use, and when a slot moves."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self._address = address
        self._options = options | {"ssl": address.tls}
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def client(self) -> Any:
        with self._lock:
            if self._client is None:
                node_type: Any = ClusterNode
                nodes = [node_type(host, port) for host, port in self._address.hosts]
                self._client = RedisCluster(startup_nodes=nodes, **self._options)
            return self._client

    def connection(self, key: str, *, name: str) -> Any:
        client = self.client
        self.close()
        client.nodes_manager.initialize()  # the slot may have moved
        node = client.get_node_from_key(key)
        return _connection_outside_pool(client.get_redis_connection(node).connection_pool, name)

    def is_current(self, connection: Any) -> bool:
        return True  # commands for slots that have moved fail

    def close(self) -> None:
        for node in self._client.get_nodes() if self._client is not None else ():
            if node.redis_connection is not None:
                node.redis_connection.connection_pool.disconnect(inuse_connections=False)


def _connection_outside_pool(pool: ConnectionPool, client_name: str) -> Any:
    """Returns a new connection with the pool's options, which is not part of the pool."""
    return pool.connection_class(**pool.connection_kwargs | {"client_name": client_name})
