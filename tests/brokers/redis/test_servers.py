"""Each kind of URL leads to a real server of that kind: calls, and the feed.

The contract of the broker is in tests/contract; these tests are about reaching the server, and
about changes of its address.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trustme
from attrs import define, field
from redis.sentinel import MasterNotFoundError

from gateway.brokers.base import FEED_RESET
from gateway.brokers.redis.broker import RedisBroker
from gateway.brokers.redis.keys import Shard
from gateway.brokers.redis.servers import _Monitored
from gateway.brokers.redis.url import parse_address
from gateway.model.errors import BrokerUnavailable
from gateway.model.state import UNSEEN, Event, Update
from tests.brokers.redis.cluster import Cluster, session_cluster
from tests.brokers.redis.server import Server, redis_server
from tests.ports import free_port


async def works(broker: RedisBroker, job: str = "a") -> None:
    """Checks that an update appears in the feed and in the history."""
    with trio.fail_after(10):
        async with broker.feed() as feed:
            receipt = await broker.publish(job, Update(done=1))
            events = await feed.receive()
            assert [(event.job, event.position) for event in events] == [(job, receipt.position)]
        assert await broker.history(job, after=UNSEEN) == events
    broker.close()


@define
class ScriptedSentinels:
    """A pool of connections to the primary that the Sentinels name."""

    primary: tuple[str, int] | Exception
    connection_kwargs: dict[str, Any] = field(factory=dict)

    def get_master_address(self) -> tuple[str, int]:
        if isinstance(self.primary, Exception):
            raise self.primary
        return self.primary

    def get_encoder(self) -> None:
        pass


@pytest.mark.parametrize(
    ("primary", "current"),
    [
        (("10.0.0.1", 6379), True),
        (("10.0.0.2", 6379), False),
        (("10.0.0.1", 6380), False),
        (MasterNotFoundError(), True),  # they do not answer: nothing follows from that
    ],
)
def test_a_connection_is_current_if_it_is_to_the_primary_that_sentinels_name(
    primary: Any, current: bool
) -> None:
    sentinels: Any = ScriptedSentinels(primary)
    connection = SimpleNamespace(host="10.0.0.1", port=6379)
    assert _Monitored(sentinels).is_current(connection) is current


async def test_tcp_with_user_password_and_database_connects() -> None:
    port = free_port()
    server = Server(redis_server(), "--port", str(port))
    try:
        server.client.execute_command("ACL", "SETUSER", "node", "on", ">p:@ss", "~*", "+@all")
        await works(RedisBroker(f"redis://node:p%3A%40ss@127.0.0.1:{port}/3"))
        assert server.client.info("keyspace").keys() == {"db3"}
        with pytest.raises(BrokerUnavailable, match="invalid username"):
            await works(RedisBroker(f"redis://node:wrong@127.0.0.1:{port}"))
    finally:
        server.close()


async def test_tls_connects(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    files = {name: str(tmp_path / name) for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    port = free_port()
    server = Server(
        redis_server(), "--tls-port", str(port), "--tls-auth-clients", "no",
        "--tls-cert-file", files["cert"], "--tls-key-file", files["key"],
        "--tls-ca-cert-file", files["ca"],
    )  # fmt: skip
    try:
        await works(RedisBroker(f"rediss://localhost:{port}?ssl_ca_certs={files['ca']}"))
        with pytest.raises(BrokerUnavailable, match="certificate"):
            await works(RedisBroker(f"rediss://localhost:{port}"))  # signed by an unknown authority
    finally:
        server.close()


@pytest.fixture
def cluster() -> Cluster:
    return session_cluster()


def names(cluster: Cluster) -> list[list[str]]:
    """Returns the names of the pollers' connections at each primary."""
    return [
        sorted(c["name"] for c in server.client.client_list() if c["name"])
        for server in cluster.primaries
    ]


async def test_each_primary_has_one_poller(cluster: Cluster) -> None:
    broker = RedisBroker(f"{cluster.url}?shards=3&prefix=p")
    async with broker.feed():
        shards = parse_address(f"{cluster.url}?shards=3&prefix=p").layout.shards
        assert names(cluster) == [[shard.feed] for shard in shards]
    broker.close()


async def test_one_shard_works_in_a_cluster(cluster: Cluster) -> None:
    await works(RedisBroker(f"{cluster.url}?prefix=one"))


async def test_a_shard_that_moves_to_another_primary_is_still_read(cluster: Cluster) -> None:
    broker = RedisBroker(f"{cluster.url}?prefix=moving")
    async with broker.feed() as feed:
        before = await broker.publish("a", Update(done=1))
        with trio.fail_after(10):
            assert (await feed.receive())[0].position == before.position
        await trio.to_thread.run_sync(move, cluster, Shard("{moving}"))
        with trio.fail_after(10):
            while await feed.receive() != FEED_RESET:
                pass
            # Another server has it now, so its positions are of another generation.
            event = (await until_settled(broker))["a"]
            assert event.position.epoch > before.position.epoch
            assert event.state.done == 1
            await broker.publish("a", Update(done=2))
            while True:
                events = await feed.receive()
                if any(event.state.done == 2 for event in events):
                    break
        assert broker.unavailable_reason is None
    broker.close()


async def until_settled(broker: RedisBroker) -> dict[str, Event]:
    """Returns the state of `a` as soon as the feed follows the other server."""
    while True:
        try:
            return await broker.read(["a"])
        except BrokerUnavailable:
            await trio.sleep(0.01)


def move(cluster: Cluster, shard: Shard) -> None:
    """Moves the job's slot to the next primary, as `redis-cli --cluster reshard` does. The slot
    stays there; no other test has keys in it."""
    source = cluster.owner(shard.feed)
    slot = source.execute_command("CLUSTER", "KEYSLOT", shard.feed)
    clients: list[Any] = [server.client for server in cluster.primaries]
    index = next(i for i, client in enumerate(clients) if client is source)
    target = clients[(index + 1) % 3]
    ids = {id(c): c.execute_command("CLUSTER", "MYID") for c in clients}
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[id(source)])
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[id(target)])
    port = target.execute_command("CONFIG", "GET", "port")[b"port"]
    keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
    for client in (target, source, *clients):
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[id(target)])
