"""How to reach a Redis: one server, the primary that Sentinels name, or a cluster.

The seam to redis-py, and the one file that knows its kinds of clients. Nothing here
connects before it must, so all of it may be called from anywhere; what connects or calls
blocks, and belongs in a thread.

redis-py's own retries are off: they hide a reconnection, and with it a loss. (A cluster's
client still asks again when a slot has moved; updates are absolute, so that is harmless.)
"""

from __future__ import annotations

import threading
from typing import Any, Final, Protocol

from redis import Connection, ConnectionPool, Redis, RedisCluster, SSLConnection
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import UnixDomainSocketConnection
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from .address import Address

__all__ = ["CONNECT_TIMEOUT", "FAILURES", "TIMEOUT", "Servers", "explain", "open_servers"]

CONNECT_TIMEOUT = 2.0
"""Seconds for a connection: longer than a lost SYN packet, which is sent again after one."""
TIMEOUT = 5.0
"""Seconds for an answer. Redis's own slowest moments (a fork, a big key) take less."""
FAILURES: Final = (RedisError, RedisClusterException, OSError)
"""What all of it raises if a Redis does not answer, or refuses. The second is none of the first:
a cluster's client raises it when it finds no node."""


class Servers(Protocol):
    """What an address leads to. redis-py's clients are untyped where it matters."""

    @property
    def client(self) -> Any:
        """For commands, from any thread. Raises one of `FAILURES` if making it needs a
        server and there is none."""
        ...

    def connection(self, key: str, *, name: str) -> Any:
        """A new connection, not connected yet, to the server that has `key` now.

        Whoever asks for one has lost one, so the idle ones are closed: they are as dead.
        Operators know it by its `name` (CLIENT LIST). Raises like `client`.
        """
        ...

    def close(self) -> None:
        """Close the connections that are idle. All may go on being used."""
        ...


def open_servers(address: Address, *, calls: int) -> Servers:
    """The servers at `address`, for at most `calls` calls at a time to each."""
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
        return _Pooled(_sentinel_pool(address, options))
    if address.path is not None:
        options |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        (options["host"], options["port"]) = address.hosts[0]
        options["connection_class"] = SSLConnection if address.tls else Connection
    return _Pooled(ConnectionPool(**options))


def explain(error: Exception) -> str:
    """What an error of redis-py says, for people. (Of a Sentinel that cannot be asked it
    tells every option of the connection.)"""
    return str(error).partition(" : <")[0] or type(error).__name__


def _sentinel_pool(address: Address, options: dict[str, Any]) -> ConnectionPool:
    """Each of its connections asks the Sentinels for the primary when it connects."""
    asking: dict[str, Any] = {
        **address.sentinel_options,
        "ssl": address.tls,
        "socket_timeout": CONNECT_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": options["retry"],
    }
    make: Any = Sentinel  # untyped, like much of redis-py
    sentinel = make(address.hosts, sentinel_kwargs=asking, ssl=address.tls, **options)
    pool: ConnectionPool = sentinel.master_for(address.service).connection_pool
    return pool


class _Pooled:
    """One server, or the primary of one service."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self.client = Redis(connection_pool=pool)

    def connection(self, key: str, *, name: str) -> Any:
        self.close()
        return _like(self._pool, name)

    def close(self) -> None:
        self._pool.disconnect(inuse_connections=False)


class _Cluster:
    """A cluster. Which slot is where is asked when it is first used, and when one moves."""

    def __init__(self, address: Address, options: dict[str, Any]) -> None:
        self._address = address
        self._options = options | {"ssl": address.tls}
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def client(self) -> Any:
        with self._lock:
            if self._client is None:
                make: Any = ClusterNode
                nodes = [make(host, port) for host, port in self._address.hosts]
                self._client = RedisCluster(startup_nodes=nodes, **self._options)
            return self._client

    def connection(self, key: str, *, name: str) -> Any:
        client = self.client
        self.close()
        client.nodes_manager.initialize()  # the slot may have moved
        node = client.get_node_from_key(key)
        return _like(client.get_redis_connection(node).connection_pool, name)

    def close(self) -> None:
        for node in self._client.get_nodes() if self._client is not None else ():
            if node.redis_connection is not None:
                node.redis_connection.connection_pool.disconnect(inuse_connections=False)


def _like(pool: ConnectionPool, name: str) -> Any:
    """A connection like the pool's own, but outside of it."""
    return pool.connection_class(**pool.connection_kwargs | {"client_name": name})
