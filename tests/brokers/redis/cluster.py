"""A real Redis Cluster with three primaries for tests: one per session, on free ports."""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from functools import cache
from time import monotonic, sleep
from typing import Any

from gateway.brokers.redis.keys import SLOTS
from tests.ports import free_port

from .server import Server, redis_server

__all__ = ["BUS", "Cluster", "session_cluster"]

FORMS_WITHIN = 20.0  # seconds; it takes about two
BUS = 10_000
"""What a primary adds to its port for the port on which it talks to the others."""


class Cluster:
    """Three primaries that divide the slots evenly, as `redis-cli --cluster create` does."""

    def __init__(self) -> None:
        self._servers = ExitStack()
        self.primaries: list[Server] = []
        ports = [free_port(BUS) for _ in range(3)]
        for port in ports:
            options = ("--port", str(port), "--cluster-enabled", "yes")
            server = Server(redis_server(), *options)
            self._servers.callback(server.close)
            self.primaries.append(server)
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        for index, server in enumerate(self.primaries):
            first, end = index * SLOTS // 3, (index + 1) * SLOTS // 3
            server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            server.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for port in ports[1:]:
            self.primaries[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", port)
        give_up_at = monotonic() + FORMS_WITHIN
        while not all(map(self._formed, self.primaries)):
            assert monotonic() < give_up_at, "the cluster does not form"
            sleep(0.05)  # there is no notification when its members agree

    def flush(self) -> None:
        for server in self.primaries:
            server.client.flushall()

    def owner(self, key: str) -> Any:
        """Returns a client of the primary that has `key`."""
        slot = self.primaries[0].client.execute_command("CLUSTER", "KEYSLOT", key)
        return self.primaries[slot * 3 // SLOTS].client

    def close(self) -> None:
        self._servers.close()

    def _formed(self, server: Server) -> bool:
        info = server.client.execute_command("CLUSTER", "INFO")
        known = len(server.client.execute_command("CLUSTER", "SLOTS"))
        return b"cluster_state:ok" in info and known == 3


@cache
def _session_cluster() -> Cluster:
    cluster = Cluster()
    atexit.register(cluster.close)
    return cluster


def session_cluster() -> Cluster:
    """Empties the cluster of the session, and returns it."""
    cluster = _session_cluster()
    cluster.flush()
    return cluster
