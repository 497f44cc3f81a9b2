"""The contract of all lists of revoked tokens. A new implementation needs a row in `LISTS`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf

import pytest
import trio
from attrs import define

from gateway.auth.authenticator import Authenticator
from gateway.auth.key_sources import KeySources
from gateway.auth.redis_revocations import RedisRevocations
from gateway.auth.revocations import MemoryRevocations, Revocations
from gateway.model.errors import BrokerUnavailable, Unauthorized
from tests.auth.signing import NOW, SECRET, sign
from tests.brokers.redis.server import Server, redis_server, session_server


@define
class RevocationsOfTwoNodes:
    """A list that two nodes use, and its clock, which a test can set."""

    here: Revocations
    there: Revocations
    now: float = 1_000_000.0

    def clock(self) -> float:
        return self.now


@asynccontextmanager
async def memory() -> AsyncIterator[RevocationsOfTwoNodes]:
    bench: RevocationsOfTwoNodes
    revocations = MemoryRevocations(lambda: bench.now)
    bench = RevocationsOfTwoNodes(revocations, revocations)
    yield bench


@asynccontextmanager
async def redis() -> AsyncIterator[RevocationsOfTwoNodes]:
    url = session_server().url
    bench: RevocationsOfTwoNodes
    here, there = (RedisRevocations(url, clock=lambda: bench.now) for _ in range(2))
    bench = RevocationsOfTwoNodes(here, there)
    yield bench
    here.close()
    there.close()


LISTS: dict[str, Callable[[], AbstractAsyncContextManager[RevocationsOfTwoNodes]]] = {
    "memory": memory,
    "redis": redis,
}


@pytest.fixture(params=sorted(LISTS))
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[RevocationsOfTwoNodes]:
    async with LISTS[request.param]() as bench:
        yield bench


async def ids(revocations: Revocations) -> set[str]:
    revoked = await revocations.read(known=None)
    assert revoked is not None
    return set(revoked.until)


async def test_the_list_of_revocations_starts_empty(bench: RevocationsOfTwoNodes) -> None:
    assert await ids(bench.here) == set()


async def test_a_revocation_is_visible_to_all_nodes(bench: RevocationsOfTwoNodes) -> None:
    await bench.here.revoke({"a": bench.now + 10})
    await bench.there.revoke({"b: ü": bench.now + 10})
    assert await ids(bench.here) == await ids(bench.there) == {"a", "b: ü"}


async def test_an_unchanged_version_is_not_read_again(bench: RevocationsOfTwoNodes) -> None:
    first_read = await bench.here.read(known=None)
    assert first_read is not None
    assert await bench.here.read(known=first_read.version) is None
    await bench.there.revoke({"a": bench.now + 10})
    second_read = await bench.here.read(known=first_read.version)
    assert second_read is not None
    assert second_read.version != first_read.version
    assert await bench.here.read(known=second_read.version) is None


async def test_only_expired_revocations_are_dropped(bench: RevocationsOfTwoNodes) -> None:
    await bench.here.revoke({"short": bench.now + 10})
    await bench.here.revoke({"long": bench.now + 100})
    bench.now += 50
    await bench.here.revoke({"other": bench.now + 10})
    assert await ids(bench.there) == {"long", "other"}


async def test_a_revocation_without_expiry_is_kept(bench: RevocationsOfTwoNodes) -> None:
    await bench.here.revoke({"a": inf})
    await bench.here.revoke({"a": bench.now + 10})
    bench.now += 1e10
    await bench.here.revoke({"b": bench.now + 10})
    assert await ids(bench.there) == {"a", "b"}
    revoked = await bench.there.read(known=None)
    assert revoked is not None
    assert revoked.until["a"] == inf


async def test_revoking_again_never_shortens_it(bench: RevocationsOfTwoNodes) -> None:
    await bench.here.revoke({"a": bench.now + 100})
    await bench.here.revoke({"a": bench.now + 10})
    bench.now += 50
    await bench.here.revoke({"b": bench.now + 10})
    assert await ids(bench.there) == {"a", "b"}


async def test_a_flushed_redis_is_detected() -> None:
    server = session_server()
    revocations = RedisRevocations(server.url)
    await revocations.revoke({"a": 2e9})
    revoked = await revocations.read(known=None)
    assert revoked is not None
    server.client.flushall()
    await revocations.revoke({"b": 2e9})
    second_read = await revocations.read(known=revoked.version)
    assert second_read is not None
    assert set(second_read.until) == {"b"}
    revocations.close()


async def test_an_unavailable_redis_is_reported_and_recovers() -> None:
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


async def test_revocations_are_restored_to_a_flushed_redis() -> None:
    """Each start of an authenticator reads the list of revocations, and writes what is missing."""
    server = session_server()
    revocations = RedisRevocations(server.url)
    authenticator = Authenticator(
        KeySources((), secret=SECRET), revocations=revocations, clock=lambda: NOW
    )
    stolen = sign({"exp": NOW + 60, "watch": ["*"], "jti": "stolen"})
    async with trio.open_nursery() as nursery:
        await nursery.start(authenticator.run)
        await revocations.revoke({"gone": NOW - 60})
        await authenticator.revoke("stolen", until=NOW + 60)
        server.client.flushall()
        await nursery.start(authenticator.run)
        assert await ids(revocations) == {"stolen"}

        server.client.flushall()
        await authenticator.revoke("other", until=NOW + 60)  # as another node could
        assert await ids(revocations) == {"stolen", "other"}
        with pytest.raises(Unauthorized, match="revoked"):
            await authenticator.permissions(stolen)
        nursery.cancel_scope.cancel()
    revocations.close()


async def test_lost_revocations_still_apply_while_redis_is_read_only() -> None:
    class Emptied(MemoryRevocations):
        """A store that has lost all entries and accepts no writes."""

        async def revoke(self, until: Mapping[str, float]) -> None:
            await trio.lowlevel.checkpoint()
            raise BrokerUnavailable("read only")

    kept = MemoryRevocations(lambda: NOW)
    authenticator = Authenticator(
        KeySources((), secret=SECRET), revocations=kept, clock=lambda: NOW
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(authenticator.run)
        await authenticator.revoke("stolen", until=NOW + 60)
        authenticator.revocations = Emptied()
        await nursery.start(authenticator.run)
        with pytest.raises(Unauthorized, match="revoked"):
            await authenticator.permissions(
                sign({"exp": NOW + 60, "watch": ["*"], "jti": "stolen"})
            )
        authenticator.revocations = empty = MemoryRevocations(lambda: NOW)
        await nursery.start(authenticator.run)
        assert await ids(empty) == {"stolen"}
        nursery.cancel_scope.cancel()
