"""The Redis of a scenario: its faults, called in Trio, and the list of its connections. It may
have a replica, which replaces it after a failure: at the same address, or promoted by a Sentinel.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import redis
import trio

from tests.brokers.redis.server import Server, redis_server, wait_for
from tests.ports import free_port

__all__ = [
    "Store",
    "open_replicated_store",
    "open_store",
    "open_watched_store",
    "session_watched_store",
]

SEEN_DEAD_AFTER = 500
"""Milliseconds without an answer after which a Sentinel acts. (Its default is 30,000.)"""


class Store:
    """The server that nodes and workers reach by `url`, and its replica if it has one."""

    def __init__(
        self, server: Server, replica: Server | None = None, sentinel: Sentinel | None = None
    ) -> None:
        self.server = server
        self._replica = replica
        self._sentinel = sentinel
        self.url = sentinel.url if sentinel else server.url

    async def command(self, *words: str | int) -> Any:
        """Sends a command; returns the response."""
        return await trio.to_thread.run_sync(self.server.client.execute_command, *words)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.server.kill()

    async def start(self) -> None:
        """Starts the server again with the data on its disk. Returns when it answers."""
        await trio.to_thread.run_sync(self.server.start)

    def stop(self) -> None:
        """Sends SIGSTOP: connections stay open, and the kernel accepts data that is sent, but there
        is no response."""
        self.server.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.server.process.send_signal(signal.SIGCONT)

    async def trim_feed(self) -> None:
        """Drops all events of the feed, in all of its streams."""
        for key in await self.command("KEYS", "*:feed*"):
            await self.command("XTRIM", key, "MAXLEN", 0)

    async def cut_replica_off(self) -> None:
        """Makes the replica miss all writes from now on, like a network failure."""
        await self._ask_replica("CONFIG", "SET", "masterauth", "wrong")
        await self.command("CLIENT", "KILL", "TYPE", "replica")

    async def fail_over(self) -> None:
        """Kills the server; its replica replaces it."""
        assert self._replica is not None
        self.kill()
        if self._sentinel is None:
            await self._ask_replica("REPLICAOF", "NO", "ONE")
            os.replace(self._replica.socket, self.server.socket)
            self.server.process, self._replica.process = (
                self._replica.process,
                self.server.process,
            )
        else:
            self.server, self._replica = self._replica, self.server
            with trio.fail_after(20):
                while (await self.command("ROLE"))[0] != b"master":  # noqa: ASYNC110 - of another process
                    await trio.sleep(0.1)  # the Sentinel notifies only its subscribers

    async def hand_over(self) -> Server:
        """Orders the Sentinel to promote the replica, as an operator would. Returns the old
        primary, which still runs and accepts writes until the Sentinel has made it a replica."""
        assert self._sentinel is not None
        assert self._replica is not None
        command = ("SENTINEL", "FAILOVER", "primary")
        await trio.to_thread.run_sync(self._sentinel.client.execute_command, *command)
        self.server, self._replica = self._replica, self.server
        with trio.fail_after(20):
            while (await self.command("ROLE"))[0] != b"master":  # noqa: ASYNC110 - of another process
                await trio.sleep(0.02)
        return self._replica

    async def connections(self) -> list[str]:
        """Returns the names of the connections ("" for none), except the one that lists them and
        those of replicas. Connections to the Sentinel are included; a node has one for each
        concurrent call that asks it."""

        def names(client: Any) -> list[str]:
            own = client.client_id()
            found = client.client_list(_type="normal")
            return [connection["name"] for connection in found if int(connection["id"]) != own]

        def look() -> list[str]:
            named_by_sentinel = names(self._sentinel.client) if self._sentinel is not None else []
            return names(self.server.client) + named_by_sentinel

        return await trio.to_thread.run_sync(look)

    @property
    def living(self) -> bool:
        return self.server.process.poll() is None

    def close(self) -> None:
        if self._sentinel is not None:
            self._sentinel.close()
        for server in filter(None, (self.server, self._replica)):
            server.process.send_signal(signal.SIGCONT)
            server.close()

    async def in_step(self) -> None:
        """Returns when the replica has all of the server's data and can replace it."""
        if self._sentinel is not None:
            await self._sentinel.knows_replica()
        wanted = (await self.command("INFO", "replication"))["master_repl_offset"]
        with trio.fail_after(10):
            while True:
                info = await self._ask_replica("INFO", "replication")
                if info["master_link_status"] == "up" and info["slave_repl_offset"] >= wanted:
                    return
                await trio.sleep(0.05)  # a replica sends no event

    async def _ask_replica(self, *words: str) -> Any:
        assert self._replica is not None
        with self._replica.client as client:  # so that it does not stay connected
            return await trio.to_thread.run_sync(client.execute_command, *words)


class Sentinel:
    """One Redis Sentinel, which monitors the server at `port`, with a quorum of one."""

    def __init__(self, port: int) -> None:
        own = free_port()
        self.url = f"redis+sentinel://127.0.0.1:{own}/primary"
        self._folder = tempfile.TemporaryDirectory(prefix="sentinel-")
        config = Path(self._folder.name, "sentinel.conf")
        config.write_text(
            f"port {own}\n"
            f"sentinel monitor primary 127.0.0.1 {port} 1\n"
            f"sentinel down-after-milliseconds primary {SEEN_DEAD_AFTER}\n"
            f"sentinel failover-timeout primary 5000\n"
        )
        self._process = subprocess.Popen(
            [redis_server(), str(config), "--sentinel"], stdout=subprocess.DEVNULL
        )
        self.client: Any = redis.Redis(port=own)
        wait_for(self.client, self._process)

    async def knows_replica(self) -> None:
        """Returns when the Sentinel knows the replica to promote."""

        def replicas() -> Any:
            try:
                return self.client.execute_command("SENTINEL", "REPLICAS", "primary")
            except redis.ConnectionError:
                return []

        with trio.fail_after(15):
            while not await trio.to_thread.run_sync(replicas):  # noqa: ASYNC110 - of another process
                await trio.sleep(0.1)  # it polls the server at intervals

    def close(self) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


def open_store(*options: str) -> Store:
    """Yields an empty Redis. `options` are redis-server's own."""
    return Store(Server(redis_server(), *options))


def open_replicated_store() -> Store:
    """Returns an empty Redis and its replica, at one address."""
    return Store(*_primary_and_replica(free_port()))


def open_watched_store() -> Store:
    """Returns an empty Redis and its replica, behind a Sentinel."""
    port = free_port()
    return Store(*_primary_and_replica(port), Sentinel(port))


@cache
def session_watched_store() -> Store:
    """Returns a store without faults, for tests that only need a Sentinel."""
    store = open_watched_store()
    atexit.register(store.close)
    return store


def _primary_and_replica(port: int) -> tuple[Server, Server]:
    at_once = ("--repl-diskless-sync-delay", "0")
    primary = Server(redis_server(), "--port", str(port), *at_once)
    own = str(free_port())
    return primary, Server(redis_server(), "--port", own, "--replicaof", "127.0.0.1", str(port))
