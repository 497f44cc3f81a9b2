"""What any list of revoked tokens must do. One joins by a row in `LISTS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf

import pytest
import trio
from attrs import define

from gateway.auth.gate import Gate
from gateway.auth.keyring import Keyring
from gateway.auth.redis import RedisRevocations
from gateway.auth.revocations import MemoryRevocations, Revocations
from gateway.errors import BrokerUnavailable, Unauthorized
from tests.auth.signing import NOW, SECRET, sign
from tests.brokers.server import Server, redis_server, session_server


@define
class Bench:
    """A list, seen by two nodes, and a hand on its clock."""

    here: Revocations
    there: Revocations
    now: float = 1_000_000.0

    def clock(self) -> float:
        return self.now


@asynccontextmanager
async def memory() -> AsyncIterator[Bench]:
    bench: Bench
    revocations = MemoryRevocations(lambda: bench.now)
    bench = Bench(revocations, revocations)
    yield bench


@asynccontextmanager
async def redis() -> AsyncIterator[Bench]:
    url = session_server().url
    bench: Bench
    here, there = (RedisRevocations(url, clock=lambda: bench.now) for _ in range(2))
    bench = Bench(here, there)
    yield bench
    here.close()
    there.close()


LISTS: dict[str, Callable[[], AbstractAsyncContextManager[Bench]]] = {
    "memory": memory,
    "redis": redis,
}


@pytest.fixture(params=sorted(LISTS))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with LISTS[request.param]() as bench:
        yield bench


async def ids(revocations: Revocations) -> set[str]:
    revoked = await revocations.read(known=None)
    assert revoked is not None
    return set(revoked.until)


async def test_it_begins_empty(bench: Bench) -> None:
    assert await ids(bench.here) == set()


async def test_what_one_revokes_all_see(bench: Bench) -> None:
    await bench.here.revoke({"a": bench.now + 10})
    await bench.there.revoke({"b: ü": bench.now + 10})
    assert await ids(bench.here) == await ids(bench.there) == {"a", "b: ü"}


async def test_a_version_that_is_known_is_not_read_again(bench: Bench) -> None:
    first = await bench.here.read(known=None)
    assert first is not None
    assert await bench.here.read(known=first.version) is None
    await bench.there.revoke({"a": bench.now + 10})
    second = await bench.here.read(known=first.version)
    assert second is not None
    assert second.version != first.version
    assert await bench.here.read(known=second.version) is None


async def test_it_forgets_what_has_expired_and_nothing_else(bench: Bench) -> None:
    await bench.here.revoke({"short": bench.now + 10})
    await bench.here.revoke({"long": bench.now + 100})
    bench.now += 50
    await bench.here.revoke({"other": bench.now + 10})
    assert await ids(bench.there) == {"long", "other"}


async def test_for_ever_is_for_ever(bench: Bench) -> None:
    await bench.here.revoke({"a": inf})
    await bench.here.revoke({"a": bench.now + 10})
    bench.now += 1e10
    await bench.here.revoke({"b": bench.now + 10})
    assert await ids(bench.there) == {"a", "b"}
    revoked = await bench.there.read(known=None)
    assert revoked is not None
    assert revoked.until["a"] == inf


async def test_revoking_again_never_shortens_it(bench: Bench) -> None:
    await bench.here.revoke({"a": bench.now + 100})
    await bench.here.revoke({"a": bench.now + 10})
    bench.now += 50
    await bench.here.revoke({"b": bench.now + 10})
    assert await ids(bench.there) == {"a", "b"}


async def test_an_emptied_redis_is_noticed() -> None:
    server = session_server()
    revocations = RedisRevocations(server.url)
    await revocations.revoke({"a": 2e9})
    known = await revocations.read(known=None)
    assert known is not None
    server.client.flushall()
    await revocations.revoke({"b": 2e9})
    again = await revocations.read(known=known.version)
    assert again is not None
    assert set(again.until) == {"b"}
    revocations.close()


async def test_a_redis_that_is_away_says_so_and_comes_back() -> None:
    server = Server(redis_server())
    revocations = RedisRevocations(server.url)
    try:
        await revocations.revoke({"a": 2e9})
        server.kill()
        with pytest.raises(BrokerUnavailable):
            await revocations.read(known=None)
        server.start()
        assert await ids(revocations) == set()
    finally:
        revocations.close()
        server.close()


async def test_a_gate_writes_again_what_an_emptied_redis_has_lost() -> None:
    """Each start of a gate is a look at the list."""
    server = session_server()
    revocations = RedisRevocations(server.url)
    gate = Gate(Keyring((), secret=SECRET), revocations=revocations, clock=lambda: NOW)
    stolen = sign({"exp": NOW + 60, "jti": "stolen"})
    async with trio.open_nursery() as nursery:
        await nursery.start(gate.run)
        await revocations.revoke({"gone": NOW - 60})
        await gate.revoke("stolen", until=NOW + 60)
        server.client.flushall()
        await nursery.start(gate.run)
        assert await ids(revocations) == {"stolen"}

        server.client.flushall()
        await gate.revoke("other", until=NOW + 60)  # as another node might
        assert await ids(revocations) == {"stolen", "other"}
        with pytest.raises(Unauthorized, match="revoked"):
            await gate.rights(stolen)
        nursery.cancel_scope.cancel()
    revocations.close()


async def test_what_was_lost_is_heeded_while_it_cannot_be_written_again() -> None:
    class Emptied(MemoryRevocations):
        """Has lost everything, and takes nothing."""

        async def revoke(self, until: Mapping[str, float]) -> None:
            await trio.lowlevel.checkpoint()
            raise BrokerUnavailable("read only")

    kept = MemoryRevocations(lambda: NOW)
    gate = Gate(Keyring((), secret=SECRET), revocations=kept, clock=lambda: NOW)
    async with trio.open_nursery() as nursery:
        await nursery.start(gate.run)
        await gate.revoke("stolen", until=NOW + 60)
        gate.revocations = Emptied()
        await nursery.start(gate.run)
        with pytest.raises(Unauthorized, match="revoked"):
            await gate.rights(sign({"exp": NOW + 60, "jti": "stolen"}))
        gate.revocations = empty = MemoryRevocations(lambda: NOW)
        await nursery.start(gate.run)
        assert await ids(empty) == {"stolen"}
        nursery.cancel_scope.cancel()
