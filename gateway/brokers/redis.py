"""The broker for many nodes: states in a Redis, changed by scripts that Redis runs.

    {prefix}:last:<job>   hash     the snapshot: state in plain text, `epoch`, `seq`; and what
                                   the fold remembers: `run`, `pace`, `heard_at`
    {prefix}:log:<job>    stream   its recent events, with id `<seq>-0`
    {prefix}:feed         stream   all events: what nodes poll
    {prefix}:leases       zset     job → when silence next has a consequence: it lapses, or
                                   is forgotten
    {prefix}:recent       zset     job → the number in the feed of its last update's event
    {prefix}:counters     hash     `events`, counted, and the last `epoch`

In a Redis Cluster the prefix carries a hash tag (`{progress}`): a script's keys belong
together. `scripts/` has every change of these; this module only calls and reads.

Every call takes one worker thread and one pooled connection, under a limiter of its own,
so that a Redis that hangs takes no threads from others. A call that is cancelled is left
to its thread, which ends within `TIMEOUT`. redis-py's own retries are off: a caller that
wants to ask again does so knowingly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import redis
import trio
from attrs import frozen
from msgspec import UNSET, Raw
from redis.backoff import NoBackoff
from redis.retry import Retry
from trio.abc import ReceiveChannel

from ..broker import Page, Receipt
from ..errors import BrokerUnavailable, InvalidInput, InvalidSettings
from ..job import Event, Position, State, Status, Update
from ..limits import DEFAULT_LIMITS, Limits
from .poller import Poller, decode

__all__ = ["RedisBroker"]

T = TypeVar("T")

FEED_LENGTH = 100_000
"""Events the feed keeps, about: some 40 MiB, and 10 s of a storm in which a node may be away."""
CALLS = 16
"""Calls at a time. Redis runs one after the other; more only wait there instead of here."""
CONNECT_TIMEOUT = 2.0
"""Seconds for a connection: longer than a lost SYN packet, which is sent again after one."""
TIMEOUT = 5.0
"""Seconds for an answer. Redis's own slowest moments (a fork, a big key) take less."""
REAPED_AT_ONCE = 100
"""Jobs per call of `reap`: some milliseconds in which Redis serves nobody else."""
SCANNED_AT_ONCE = 200
"""Jobs that `recent` looks at in one go."""

_SCRIPTS = Path(__file__).parent / "scripts"


def script(name: str) -> str:
    """The text of a script as Redis gets it."""
    return "\n".join((_SCRIPTS / f"{part}.lua").read_text("utf-8") for part in ("record", name))


@frozen
class _Script:
    text: str
    sha: str

    @classmethod
    def load(cls, name: str) -> _Script:
        text = script(name)
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())

    def __call__(self, client: Any, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run it; the first time on a server, or after its restart, with the whole text."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return client.execute_command("EVAL", self.text, len(keys), *keys, *arguments)


class RedisBroker:
    """A broker at `url` (`redis://`, `rediss://`, `unix://`), shared by all who use `prefix`.

    It runs no task and connects when it is first used; `close` ends its idle connections.
    Raises `InvalidSettings` if the URL is none.
    """

    def __init__(
        self, url: str, limits: Limits = DEFAULT_LIMITS, *, prefix: str = "progress"
    ) -> None:
        try:
            self._pool = redis.ConnectionPool.from_url(
                url,
                protocol=2,
                max_connections=CALLS,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=CONNECT_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise InvalidSettings(str(error), field="redis") from None
        self._redis = redis.Redis(connection_pool=self._pool)
        self._limiter = trio.CapacityLimiter(CALLS)
        self._limits = limits
        self._prefix = prefix
        self._keys = [f"{prefix}:{name}" for name in ("feed", "leases", "recent", "counters")]
        self._common = (limits.history, FEED_LENGTH, limits.retention)
        self._pollers: set[Poller] = set()
        self._publish = _Script.load("publish")
        self._reap = _Script.load("reap")

    def __repr__(self) -> str:
        # Not the URL: it may hold a password.
        return f"<RedisBroker {self._prefix}, {self._limiter.borrowed_tokens} calls>"

    def close(self) -> None:
        """Close the connections that are idle. The broker may go on being used."""
        self._pool.disconnect(inuse_connections=False)

    @property
    def away(self) -> str | None:
        """What the pollers of its feeds say; they notice within the socket's time-out."""
        errors = (poller.statistics().error for poller in self._pollers)
        return next((f"Redis: {error}" for error in errors if error), None)

    async def publish(self, job: str, update: Update) -> Receipt:
        keys = [*self._keys, *self._job_keys(job)]
        arguments = [*self._common, job, *plain(update)]
        epoch, seq, attempt, reason = await self._call(self._publish, keys, arguments)
        return Receipt(Position(epoch, seq), attempt=attempt, reason=reason.decode() or None)

    async def read(self, jobs: Sequence[str]) -> dict[str, Event]:
        if not jobs:
            await trio.lowlevel.checkpoint()
            return {}
        return await self._call(self._snapshots, list(jobs))

    async def history(self, job: str, *, after: Position) -> list[Event]:
        key = self._job_keys(job)[1]
        # Newest first, because Redis trims the log only roughly: the rest is too old.
        entries: Any = await self._call(redis.Redis.xrevrange, key, "+", "-", self._limits.history)
        events = [decode(fields[b"event"])[1] for _, fields in reversed(entries)]
        return [event for event in events if event.position > after]

    async def recent(
        self, *, prefix: str = "", status: Status | None = None, limit: int, after: str | None
    ) -> Page:
        before = "+inf" if after is None else f"({_number(after)}"
        return await self._call(self._page, prefix, status, limit, before)

    async def reap(self) -> int:
        reaped = 0
        while True:
            arguments = [*self._common, REAPED_AT_ONCE]
            due = [job.decode() for job in await self._call(self._reap, self._keys, arguments)]
            if not due:
                return reaped
            keys = [key for job in due for key in self._job_keys(job)]
            reaped += await self._call(self._reap, [*self._keys, *keys], [*arguments, *due])

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[ReceiveChannel[Sequence[Event]]]:
        poller = Poller(self._connection, key=self._keys[0], counters=self._keys[3])
        with _translated():
            await poller.open()
        self._pollers.add(poller)
        try:
            async with poller.follow() as events:
                yield events
        finally:
            self._pollers.remove(poller)

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function` with the client in a thread: the one way from here to Redis."""
        with _translated():
            return await trio.to_thread.run_sync(
                function, self._redis, *args, abandon_on_cancel=True, limiter=self._limiter
            )

    def _connection(self) -> Any:
        """A connection outside the pool, by whose name operators know it (CLIENT LIST)."""
        options = self._pool.connection_kwargs | {"client_name": self._keys[0]}
        return self._pool.connection_class(**options)

    def _job_keys(self, job: str) -> tuple[str, str]:
        return f"{self._prefix}:last:{job}", f"{self._prefix}:log:{job}"

    # What runs in the threads.

    def _snapshots(self, client: redis.Redis, jobs: Sequence[str]) -> dict[str, Event]:
        pipeline = client.pipeline(transaction=False)
        for job in jobs:
            pipeline.hgetall(self._job_keys(job)[0])
        answers: list[dict[bytes, bytes]] = pipeline.execute()
        return {
            job: snapshot(job, fields) for job, fields in zip(jobs, answers, strict=True) if fields
        }

    def _page(
        self, client: redis.Redis, prefix: str, status: Status | None, limit: int, before: str
    ) -> Page:
        found: list[tuple[Event, int]] = []
        for chunk in self._recent(client, before):
            wanted = {job: number for job, number in chunk.items() if job.startswith(prefix)}
            for job, event in self._snapshots(client, list(wanted)).items():
                if status not in (None, event.state.status):
                    continue
                if len(found) == limit:
                    return Page([event for event, _ in found], next=str(found[-1][1]))
                found.append((event, wanted[job]))
        return Page([event for event, _ in found], None)

    def _recent(self, client: redis.Redis, before: str) -> Iterator[dict[str, int]]:
        """All jobs from `before` on, with their numbers, newest first, in chunks."""
        while True:
            found: Any = client.zrevrangebyscore(
                self._keys[2], before, "-inf", start=0, num=SCANNED_AT_ONCE, withscores=True
            )
            chunk = {job.decode(): int(number) for job, number in found}
            yield chunk
            if len(chunk) < SCANNED_AT_ONCE:
                return
            before = f"({min(chunk.values())}"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BrokerUnavailable(f"Redis: {error}") from error


def plain(update: Update) -> list[str | bytes]:
    """An update as the script takes it: fields and values as plain text."""
    found: list[str | bytes] = []
    for name in update.__struct_fields__:
        value = getattr(update, name)
        if name == "start":
            if value:
                found += ("start", "1")
        elif value is UNSET or (name == "run" and value is None):
            continue
        elif value is None or value == _NULL:
            found += ("clear", name)
        elif isinstance(value, float):
            found += (name, repr(value))
        else:
            found += (name, bytes(value) if isinstance(value, Raw) else str(value))
    return found


_NULL = Raw(b"null")


def snapshot(job: str, fields: Mapping[bytes, bytes]) -> Event:
    """The newest event of `job`, from its hash."""
    state: dict[str, Any] = {}
    for name in State.__struct_fields__:
        text = fields.get(name.encode())
        if text is not None:
            state[name] = _READ.get(name, bytes.decode)(text)
    return Event(job, Position(int(fields[b"epoch"]), int(fields[b"seq"])), State(**state))


_a_number = msgspec.json.Decoder(int | float).decode  # `3` is not `3.0`
_READ: dict[str, Callable[[bytes], Any]] = {
    "attempt": int,
    "percent": _a_number,
    "done": _a_number,
    "total": _a_number,
    "lease": _a_number,
    "eta": float,
    "created_at": float,
    "started_at": float,
    "updated_at": float,
    "finished_at": float,
    "data": Raw,
}


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    raise InvalidInput("after is not the next of a page", field="after")
