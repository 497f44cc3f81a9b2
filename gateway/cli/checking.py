"""What `gateway check` looks at, one finding each.

What `gateway serve` would refuse is wrong. What it would serve with, though not as well as
it could, is only told: a Redis that is slow for a moment must not keep a gateway down that
is checked before it starts.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import redis
import trio
from attrs import frozen

from ..auth.opening import open_gate
from ..errors import InvalidSettings
from ..server import check_address
from ..settings import in_shards
from ..settings_file import limits_of
from ..storage.address import parse_address
from ..storage.servers import open_servers
from ..transports.sockets import open_listeners
from . import descriptors
from .supervising import check_workers, internal_binds

__all__ = ["Finding", "Grade", "look"]

OLDEST_REDIS = (6, 2)
"""The first with ZADD GT, XTRIM MINID and what else the scripts use."""
SKEW = 1.0
"""Seconds that this clock and Redis's may differ: ages that pages show would be wrong by it."""
SLOW = 0.01
"""Seconds for an answer of Redis: more, and it is far away or busy."""


Grade = Literal["ok", "but", "NO"]
"""As it should be; not so, though it would serve; it would not serve."""


@frozen
class Finding:
    """One thing that was looked at."""

    what: str
    said: str
    grade: Grade = "ok"

    def __str__(self) -> str:
        return f"{self.grade:<3} {self.what:<9} {self.said}"


def look(values: Mapping[str, Any], *, limits: Mapping[str, Any]) -> list[Finding]:
    """All findings. Never raises for what is wrong with the settings or the machine."""
    return [
        *_limits(limits, values["drain"]),
        *_gate(values),
        *_address("bind", values["bind"], values),
        *_internal(values),
        *_workers(values["workers"], values["redis"]),
        *_redis(values["redis"], values["shards"]),
    ]


def _limits(table: Mapping[str, Any], drain: float) -> Iterator[Finding]:
    try:
        limits = limits_of(table, drain=drain)
    except InvalidSettings as error:
        yield Finding("limits", str(error), "NO")
        return
    files = descriptors.allowed()
    enough = files > limits.max_connections
    yield Finding(
        "limits",
        f"{limits.max_connections:,} connections, {files:,} descriptors"
        + ("" if enough else ": raise `ulimit -Hn` (LimitNOFILE=), or lower max_connections"),
        "ok" if enough else "but",
    )


def _gate(values: Mapping[str, Any]) -> Iterator[Finding]:
    names = ("keys", "secret", "audience", "origins", "insecure")
    try:
        gate = open_gate(**{name: values[name] for name in names}, redis=None)
    except InvalidSettings as error:
        yield Finding("keys", str(error), "NO")
        return
    if gate.keys is None:
        yield Finding("keys", "none: whoever reaches the address may do everything")
    else:
        for source, keys in gate.keys.by_source():
            kinds = ", ".join(key.algorithm for key in keys)
            yield Finding("keys", f"{kinds} from {source}; every client needs a token")
    origins = gate.origins
    others = "every one" if origins.every else ", ".join(sorted(origins.listed)) or "none"
    yield Finding("origins", f"besides the gateway's own: {others}")


def _internal(values: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        binds = internal_binds(values["internal_bind"], values["workers"])
    except InvalidSettings as error:
        yield Finding("internal", str(error), "NO")
        return
    for bind in binds:
        yield from _address("internal", bind, values)


def _workers(workers: int, redis: str | None) -> Iterator[Finding]:
    try:
        check_workers(workers, redis)
    except InvalidSettings as error:
        yield Finding("workers", str(error), "NO")
    else:
        each = "with the limits above each, " if workers > 1 else ""
        yield Finding("workers", f"{workers}, {each}for {os.cpu_count()} cores")


def _address(what: str, bind: str, values: Mapping[str, Any]) -> Iterator[Finding]:
    has_keys = bool(values["keys"] or values["secret"])
    try:
        listeners = trio.run(partial(open_listeners, bind))
        try:
            if not has_keys and not values["insecure"]:
                check_address(listeners)
        finally:
            for listener in listeners:
                listener.close()
    except InvalidSettings as error:
        yield Finding(what, f"{error}{_if_in_use(error.__cause__)}", "NO")
    else:
        yield Finding(what, f"{bind} is free")


def _if_in_use(cause: BaseException | None) -> str:
    if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
        return ""
    return "; if by the gateway itself, which runs already, all is well"


def _redis(url: str | None, shards: int | None) -> Iterator[Finding]:
    try:
        url = in_shards(url, shards)
    except InvalidSettings as error:
        yield Finding("redis", str(error), "NO")
        return
    if url is None:
        yield Finding("jobs", "in memory: one node, and a restart forgets them")
        return
    address = parse_address(url)
    servers = open_servers(address, calls=1)
    try:
        client = servers.client
        began = time.perf_counter()
        seconds, micros = _one(client.time())
        took = time.perf_counter() - began
        information = _one(client.info())
        with suppress(redis.ResponseError):  # managed ones may not let us ask
            policy = _one(client.config_get("maxmemory-policy"))["maxmemory-policy"]
            information["maxmemory_policy"] = policy
    except (redis.RedisError, OSError) as error:
        yield Finding("redis", f"{address!r}: {error}", "NO")
        return
    finally:
        servers.close()
    version = str(information["redis_version"])
    new_enough = tuple(map(int, version.split(".")[:2])) >= OLDEST_REDIS
    needed = ".".join(map(str, OLDEST_REDIS))
    yield Finding(
        "redis",
        version + ("" if new_enough else f": {needed} is needed"),
        "ok" if new_enough else "NO",
    )
    policy = str(information.get("maxmemory_policy", "unknown"))
    keeps = policy in ("noeviction", "unknown") or not information.get("maxmemory", 0)
    yield Finding(
        "memory",
        f"maxmemory-policy {policy}" + ("" if keeps else ": it may drop jobs; set noeviction"),
        "ok" if keeps else "but",
    )
    skew = time.time() - (int(seconds) + int(micros) / 1e6)
    right = abs(skew) < SKEW
    yield Finding("clock", f"{skew:+.3f} s from Redis's", "ok" if right else "but")
    yield Finding("shards", f"{len(address.layout.shards)}; every node and worker must say so")
    yield Finding("latency", f"{took * 1e3:.1f} ms", "ok" if took < SLOW else "but")


def _one(answer: Any) -> Any:
    """The answer of one server, or of the first of a cluster."""
    first = next(iter(answer.values()), None) if isinstance(answer, dict) else None
    return first if isinstance(first, dict | tuple) else answer
