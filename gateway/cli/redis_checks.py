"""The checks of a Redis: its version, whether a node can use it, and whether it has foreign keys.

The trial runs a node's own code with temporary keys, which it deletes afterwards. So it fails for
every reason for which Redis would refuse a node: an ACL, a command that a managed Redis does not
have, a replica, too few replicas, a full disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import Any, Final

import redis
import trio

from ..auth.redis_revocations import RedisRevocations
from ..brokers.redis.broker import RedisBroker
from ..brokers.redis.codec import Unreadable, snapshot
from ..brokers.redis.keys import Layout
from ..brokers.redis.links import Command, Link, RedisConnector
from ..brokers.redis.servers import FAILURES, explain, open_servers
from ..brokers.redis.url import Address, parse_address
from ..model.errors import GatewayError
from ..model.ids import is_job_id
from ..model.patterns import EVERY_JOB
from ..model.state import UNSEEN, Update
from .finding import Finding

__all__ = ["check"]

OLDEST_REDIS: Final = (6, 2)
"""The first version with ZADD GT, XTRIM MINID and other commands that the scripts use."""
SKEW: Final = 1.0
"""Seconds by which this machine's clock may differ from Redis's: pages show ages with this
error."""
SLOW: Final = 0.01
"""Seconds that a response of Redis may take. A slower Redis is busy or far away."""
TRIAL_TIMEOUT: Final = 20.0
"""Maximum seconds for the trial, which needs some thirty round trips."""
TRIAL_PREFIX: Final = "check-"
"""The beginning of the names of the temporary keys, after the key prefix."""
MAX_SCANS: Final = 100
"""Maximum calls of SCAN per server, of `KEYS_PER_SCAN` keys each: some 50 ms of its time in all."""
KEYS_PER_SCAN: Final = 1_000
MAX_KEYS: Final = 1_000
"""Keys under the prefix that are examined."""
FUNCTIONS: Final = """#!lua name=progress_check
redis.register_function('progress_check', function() return 1 end)
"""
"""A library of functions for the check. Only nodes load the real one."""
KEY_TYPES: Final = {
    "feed": b"stream",
    "leases": b"zset",
    "recent": b"zset",
    "counters": b"hash",
    "revoked": b"zset",
    "revoked:version": b"string",
    "last": b"hash",
    "log": b"stream",
}
"""The type of each key, by the text that follows the prefix in its name."""


def check(url: str, *, tokens: bool) -> Iterator[Finding]:
    """Checks the Redis at `url`. `tokens` says whether the node will require tokens."""
    address = parse_address(url)
    servers = open_servers(address, calls=1)
    try:
        client = servers.client
        began_at = time.perf_counter()
        seconds, micros = _first_result(client.time())
        latency = time.perf_counter() - began_at
        skew = time.time() - (int(seconds) + int(micros) / 1e6)
        information = _first_result(client.info())
        with suppress(redis.ResponseError):  # a managed Redis may forbid CONFIG
            policy = _first_result(client.config_get("maxmemory-policy"))["maxmemory-policy"]
            information["maxmemory_policy"] = policy
        yield _version(str(information["redis_version"]))
        yield _trial(address, client, tokens=tokens)
        yield _functions(client)
        yield _foreign_keys(client, address.layout)
    except FAILURES as error:
        yield Finding("redis", f"{address!r}: {explain(error)}", "FAIL")
        return
    finally:
        servers.close()
    yield _memory(information)
    is_accurate = abs(skew) < SKEW
    yield Finding("clock", f"{skew:+.3f} s from Redis's", "OK" if is_accurate else "WARN")
    yield Finding(
        "shards", f"{len(address.layout.shards)}; every node and worker must have the same number"
    )
    yield Finding("latency", f"{latency * 1e3:.1f} ms", "OK" if latency < SLOW else "WARN")


def _version(version: str) -> Finding:
    new_enough = tuple(map(int, version.split(".")[:2])) >= OLDEST_REDIS
    needed = ".".join(map(str, OLDEST_REDIS))
    text = version if new_enough else f"{version}: {needed} or newer is required"
    return Finding("redis", text, "OK" if new_enough else "FAIL")


def _memory(information: dict[str, Any]) -> Finding:
    policy = str(information.get("maxmemory_policy", "unknown"))
    keeps_jobs = policy in ("noeviction", "unknown") or not information.get("maxmemory", 0)
    text = f"maxmemory-policy {policy}"
    if keeps_jobs:
        return Finding("memory", text)
    return Finding("memory", f"{text}: Redis may evict jobs, set noeviction", "WARN")


def _trial(address: Address, client: Any, *, tokens: bool) -> Finding:
    layout = address.layout.with_suffix(TRIAL_PREFIX + token_hex(4))
    trial_address = address._replace(layout=layout)
    try:
        try:
            trio.run(partial(_use_broker, trial_address, tokens=tokens))
        finally:
            for shard in layout.shards:
                names = ("revoked", "revoked:version")
                keys = [f"{shard.prefix}:{name}" for name in names] if tokens else []
                client.delete(*keys, *shard.keys(*_job_per_shard(layout)))
    except* GatewayError as group:
        reason = str(_first_leaf(group))
    except* FAILURES as group:
        reason = f"Redis: {explain(_first_leaf(group))}"
    except* trio.TooSlowError:
        reason = f"the trial took more than {TRIAL_TIMEOUT:g} s"
    else:
        reason = ""
    if reason:
        return Finding("trial", f"a node cannot use this Redis: {reason}", "FAIL")
    done = "published, followed and read a job" + (", revoked a token" if tokens else "")
    return Finding("trial", done)


def _first_leaf(error: Exception) -> Exception:
    """Returns the first error in a group, also if groups are nested."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _job_per_shard(layout: Layout) -> list[str]:
    """Returns the ids of jobs, one in each shard."""
    job_by_prefix: dict[str, str] = {}
    number = 0
    while len(job_by_prefix) < len(layout.shards):
        job_by_prefix.setdefault(layout.shard(f"check:{number}").prefix, f"check:{number}")
        number += 1
    return list(job_by_prefix.values())


async def _use_broker(address: Address, *, tokens: bool) -> None:
    """Uses the broker like a node. Raises `GatewayError` or `TooSlowError`."""
    jobs = _job_per_shard(address.layout)
    broker = RedisBroker(address, connector=_Connector(open_servers(address, calls=2)))
    try:
        with trio.fail_after(TRIAL_TIMEOUT):
            async with broker.feed() as feed:
                for job in jobs:
                    await broker.publish(job, Update(percent=1, message="gateway check"))
                    await broker.publish(job, Update(status="succeeded"))
                missing = set(jobs)
                async for events in feed:
                    missing -= {event.job for event in events}
                    if not missing:
                        break
                await broker.read(jobs)
                await broker.positions(jobs)
                await broker.history(jobs[0], after=UNSEEN)
                await broker.recent(EVERY_JOB, limit=1, after=None)
                await broker.expire_leases()
            if tokens:
                await _revoke(address)
    finally:
        broker.close()


async def _revoke(address: Address) -> None:
    revocations = RedisRevocations(address)
    try:
        await revocations.revoke({"check": time.time() + TRIAL_TIMEOUT})
        await revocations.read(known=None)
    finally:
        revocations.close()


class _Connector(RedisConnector):
    """A connector whose links do not load functions into the server."""

    async def connect(self, key: str, *, name: str, limiter: trio.CapacityLimiter) -> Link:
        return _Link(await super().connect(key, name=name, limiter=limiter))


class _Link:
    def __init__(self, link: Link) -> None:
        self._link = link
        self.close = link.close

    @property
    def server(self) -> bytes:
        return self._link.server

    @property
    def alive(self) -> bool:
        return self._link.alive

    async def is_current(self) -> bool:
        return await self._link.is_current()

    async def execute(
        self, commands: Sequence[Command], convert: Callable[[list[Any]], Any] = list
    ) -> Any:
        others = [("TIME",) if command[0] == "FUNCTION" else command for command in commands]
        return await self._link.execute(others, convert)


def _functions(client: Any) -> Finding:
    """Checks whether functions can be loaded. Nodes load them if they can, and work without
    them."""
    try:
        client.function_load(FUNCTIONS, replace=True)
        client.function_delete("progress_check")
    except redis.ResponseError as error:
        text = f"clients cannot publish with FCALL: Redis: {explain(error)}"
        return Finding("functions", text, "WARN")
    return Finding("functions", "clients can publish with FCALL")


def _foreign_keys(client: Any, layout: Layout) -> Finding:
    """Examines up to `MAX_KEYS` keys under the prefix, and reports those that are not the
    gateway's."""
    try:
        examined_keys, is_complete = _scan_keys(client, layout)
        foreign = list(_foreign(client, layout, examined_keys))
    except redis.ResponseError as error:  # a node needs no SCAN, so it may be forbidden
        return Finding("keys", f"not examined: Redis: {explain(error)}")
    examined = f"{len(examined_keys):,} examined" + ("" if is_complete else ", there are more")
    if not foreign:
        return Finding("keys", examined)
    first = "; ".join(f"{key}: {why}" for key, why in foreign[:3])
    text = f"{examined}: {len(foreign):,} are not the gateway's (it does not touch them): {first}"
    return Finding("keys", text, "WARN")


def _scan_keys(client: Any, layout: Layout) -> tuple[list[bytes], bool]:
    """Returns up to `MAX_KEYS` keys under the prefix, and whether these are all."""
    first, *others = layout.shards
    common_prefix = first.prefix.rpartition(":")[0] if others else first.prefix
    pattern = f"{common_prefix}:*"
    keys_found: dict[bytes, None] = {}
    for options in _each_server(client):
        cursor: Any = 0
        for _ in range(MAX_SCANS):
            cursor, keys = client.scan(cursor, match=pattern, count=KEYS_PER_SCAN, **options)
            if isinstance(cursor, dict):
                cursor = next(iter(cursor.values()))
            keys_found.update(dict.fromkeys(keys))
            if not cursor or len(keys_found) >= MAX_KEYS:
                break
        if cursor:
            return list(keys_found)[:MAX_KEYS], False
    return list(keys_found), True


def _each_server(client: Any) -> list[dict[str, Any]]:
    """Returns the options that direct a call to each server that has keys."""
    if not isinstance(client, redis.RedisCluster):
        return [{}]
    nodes: Any = client.get_primaries  # untyped
    return [{"target_nodes": node} for node in nodes()]


def _foreign(client: Any, layout: Layout, keys: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yields the keys that are not the gateway's, each with the reason."""
    for key in keys:
        text = key.decode("utf-8", "backslashreplace")
        prefix = next((s.prefix for s in layout.shards if text.startswith(f"{s.prefix}:")), None)
        if prefix is None:
            continue  # the key belongs to a longer prefix
        name, _, job = text.removeprefix(f"{prefix}:").partition(":")
        if name.startswith(TRIAL_PREFIX):
            continue
        if name not in ("last", "log"):
            name, job = text.removeprefix(f"{prefix}:"), ""
        reason = _foreign_reason(client, key, name, job)
        if reason is not None:
            yield text, reason


def _foreign_reason(client: Any, key: bytes, name: str, job: str) -> str | None:
    expected_type = KEY_TYPES.get(name)
    if expected_type is None:
        return "the gateway has no key with this name"
    if job and not is_job_id(job.removeprefix("!")):
        return "its name does not end with a job id"
    actual_type = client.type(key)
    if actual_type not in (expected_type, b"none"):
        return f"it is a {actual_type.decode()}, not a {expected_type.decode()}"
    if name == "last":
        try:
            snapshot(job, client.hgetall(key))
        except Unreadable as error:
            return str(error)
    return None


def _first_result(response: Any) -> Any:
    """Returns the response of the server, or of the first server of a cluster."""
    first = next(iter(response.values()), None) if isinstance(response, dict) else None
    return first if isinstance(first, dict | tuple) else response
