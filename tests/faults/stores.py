"""The Redis of a story: what is done to it, from inside Trio, and who is connected to it."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import trio

from tests.brokers.server import Server, redis_server

__all__ = ["Store", "open_replicated_store", "open_store"]


class Store:
    """One address, and the server that answers there."""

    def __init__(self, server: Server, replica: Server | None = None) -> None:
        self._server = server
        self._replica = replica
        self.url = server.url

    async def command(self, *words: str | int) -> Any:
        """What the server answers."""
        return await trio.to_thread.run_sync(self._server.client.execute_command, *words)

    def kill(self) -> None:
        """SIGKILL."""
        self._server.kill()

    async def start(self) -> None:
        """Start it again, on what it has written down; returns when it answers."""
        await trio.to_thread.run_sync(self._server.start)

    def stop(self) -> None:
        """SIGSTOP: it is connected, takes what is written to it, and says nothing."""
        self._server.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._server.process.send_signal(signal.SIGCONT)

    async def trim_feed(self) -> None:
        """Drop all events of the feed, in however many streams it is kept."""
        for key in await self.command("KEYS", "*:feed*"):
            await self.command("XTRIM", key, "MAXLEN", 0)

    async def cut_replica_off(self) -> None:
        """From now on the replica misses what the server is told, as on a lost network."""
        await self._ask_replica("REPLICAOF", "NO", "ONE")

    async def fail_over(self) -> None:
        """The server dies, and at its address answers what was its replica."""
        assert self._replica is not None
        self.kill()
        os.replace(self._replica.socket, self._server.socket)
        self._server.process, self._replica.process = self._replica.process, self._server.process

    async def connections(self) -> list[str]:
        """Their names ("" for none), but for the one that asks and those of replicas."""

        def look() -> list[str]:
            client = self._server.client
            own = client.client_id()
            found = client.client_list(_type="normal")
            return [connection["name"] for connection in found if int(connection["id"]) != own]

        return await trio.to_thread.run_sync(look)

    @property
    def living(self) -> bool:
        return self._server.process.poll() is None

    def close(self) -> None:
        for server in filter(None, (self._server, self._replica)):
            server.process.send_signal(signal.SIGCONT)
            server.close()

    async def in_step(self) -> None:
        """Return when the replica has all that the server has now."""
        wanted = (await self.command("INFO", "replication"))["master_repl_offset"]
        with trio.fail_after(10):
            while True:
                info = await self._ask_replica("INFO", "replication")
                if info["master_link_status"] == "up" and info["slave_repl_offset"] >= wanted:
                    return
                await trio.sleep(0.05)  # a replica tells nobody

    async def _ask_replica(self, *words: str) -> Any:
        assert self._replica is not None
        with self._replica.client as client:  # so that it does not stay connected
            return await trio.to_thread.run_sync(client.execute_command, *words)


def open_store(*options: str) -> Store:
    """An empty Redis. `options` are redis-server's own."""
    return Store(Server(redis_server(), *options))


def open_replicated_store() -> Store:
    """An empty Redis and its replica."""
    port = str(_free_port())
    primary = Server(redis_server(), "--port", port, "--repl-diskless-sync-delay", "0")
    replica = Server(redis_server(), "--replicaof", "127.0.0.1", port)
    return Store(primary, replica)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
