"""A Redis in this process: the commands that the gateway uses, and the real Lua (lupa, 5.1).

Its time is an argument. Its data can be copied and restored, so that it can lose its last writes
like a restarted or promoted server. `test_redis.py` compares it with a real server. It is not one
of the existing fakes, because a publish takes a tenth of their time.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from hashlib import sha1
from math import inf
from typing import Any

import lupa.lua51 as lupa
from attrs import define, field

__all__ = ["Blocked", "Redis", "Refused", "Status", "Store"]

NODE = 100
"""Entries in one node of a stream: `MAXLEN ~` removes only whole nodes."""
WRITES = frozenset(
    b"HSET HSETNX HDEL HINCRBY ZADD ZREM XADD XTRIM DEL UNLINK PEXPIRE EXPIRE SET INCR INCRBY "
    b"FLUSHALL FLUSHDB PERSIST XDEL ZREMRANGEBYSCORE ZUNIONSTORE SADD SREM".split()
)


class Refused(Exception):
    """The server answers with an error; the text begins with its code."""


class Status(bytes):
    """A simple status, such as OK."""


@define
class Blocked:
    """The command waits for entries in one of these streams."""

    keys: list[bytes]
    seconds: float
    command: list[bytes]


@define
class Stream:
    entries: list[tuple[tuple[int, int], list[bytes]]] = field(factory=list)
    last: tuple[int, int] = (0, 0)
    added: int = 0


class Sorted(dict[bytes, float]):
    """A sorted set: member → score."""

    def rows(self) -> list[tuple[bytes, float]]:
        return sorted(self.items(), key=lambda row: (row[1], row[0]))


@define
class Store:
    """All data of a server."""

    values: dict[bytes, Any] = field(factory=dict)
    expires: dict[bytes, float] = field(factory=dict)

    def copy(self) -> Store:
        return deepcopy(self)


class Redis:
    """One server. `clock` gives Unix seconds; `run_id` is its name until it is restarted."""

    def __init__(self, clock: Callable[[], float], *, run_id: str, store: Store | None = None):
        self._clock = clock
        self.run_id = run_id
        self.replid = run_id[::-1]
        self.store = store or Store()
        self.role = "master"
        self.refusal: str | None = None
        """The error with which the server answers writes."""
        self.refuses: dict[bytes, str] = {}
        """The error with which the server answers each command."""
        self.changed: Callable[[bytes], None] = lambda key: None
        """Told of each stream that has a new entry."""
        self.written: Callable[[list[bytes]], None] = lambda command: None
        """Told after each command that may have written."""
        self._scripts: dict[bytes, bytes] = {}
        self._functions: dict[bytes, Any] = {}

    # -- the server ----------------------------------------------------------

    def execute(self, *words: bytes | str | float) -> Any:
        """Executes a command. Returns bytes, an int, None, a list, a `Status` or `Blocked`. Raises
        `Refused`."""
        command = [_text(word) for word in words]
        answer = self._run(command)
        self.written(command)
        return answer

    def _run(self, command: list[bytes]) -> Any:
        name = command[0].upper()
        if name in self.refuses:
            raise Refused(self.refuses[name])
        if name in WRITES:
            if self.role != "master":
                raise Refused("READONLY You can't write against a read only replica.")
            if self.refusal is not None:
                raise Refused(self.refusal)
        handler = getattr(self, "do_" + name.decode().lower(), None)
        if handler is None:
            raise Refused(f"ERR unknown command '{name.decode()}'")
        return handler(*command[1:])

    def _get(self, key: bytes, kind: type) -> Any:
        expires = self.store.expires.get(key)
        if expires is not None and expires <= self._clock():
            self._drop(key)
        value = self.store.values.get(key)
        if value is not None and type(value) is not kind:
            raise Refused("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    def _make(self, key: bytes, kind: type) -> Any:
        value = self._get(key, kind)
        if value is None:
            value = self.store.values[key] = kind()
        return value

    def _drop(self, key: bytes) -> int:
        self.store.expires.pop(key, None)
        return self.store.values.pop(key, None) is not None

    # -- strings and keys ----------------------------------------------------

    def do_ping(self) -> Any:
        return Status(b"PONG")

    def do_echo(self, text: bytes) -> bytes:
        return text

    def do_select(self, number: bytes) -> Any:
        return Status(b"OK")

    def do_client(self, *args: bytes) -> Any:
        return Status(b"OK")

    def do_hello(self, *args: bytes) -> Any:
        raise Refused("ERR unknown command 'HELLO'")

    def do_time(self) -> list[bytes]:
        micros = round(self._clock() * 1_000_000)
        return [b"%d" % (micros // 1_000_000), b"%d" % (micros % 1_000_000)]

    def do_get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._get(key, bytes)
        return value

    def do_set(self, key: bytes, value: bytes, *options: bytes) -> Any:
        flags = [option.upper() for option in options]
        if b"NX" in flags and key in self.store.values:
            return None
        self.store.values[key] = value
        self.store.expires.pop(key, None)
        for flag, scale in ((b"EX", 1), (b"PX", 1000)):
            if flag in flags:
                seconds = int(flags[flags.index(flag) + 1]) / scale
                self.store.expires[key] = self._clock() + seconds
        return Status(b"OK")

    def do_incr(self, key: bytes) -> int:
        value = int(self._get(key, bytes) or 0) + 1
        self.store.values[key] = b"%d" % value
        return value

    def do_exists(self, *keys: bytes) -> int:
        return sum(self.do_type(key) != b"none" for key in keys)

    def do_type(self, key: bytes) -> Any:
        value = self.store.values.get(key)
        expires = self.store.expires.get(key, inf)
        if value is None or expires <= self._clock():
            return Status(b"none")
        names: dict[type, bytes] = {
            dict: b"hash", Stream: b"stream", Sorted: b"zset", bytes: b"string", set: b"set",
        }  # fmt: skip
        return Status(names[type(value)])

    def do_del(self, *keys: bytes) -> int:
        return sum(self._drop(key) for key in keys)

    do_unlink = do_del

    def do_pexpire(self, key: bytes, milliseconds: bytes) -> int:
        if key not in self.store.values:
            return 0
        self.store.expires[key] = self._clock() + int(milliseconds) / 1000
        return 1

    def do_pttl(self, key: bytes) -> int:
        if key not in self.store.values:
            return -2
        at = self.store.expires.get(key)
        return -1 if at is None else round((at - self._clock()) * 1000)

    def do_flushall(self, *args: bytes) -> Any:
        self.store = Store()
        return Status(b"OK")

    # -- hashes --------------------------------------------------------------

    def do_hget(self, key: bytes, name: bytes) -> bytes | None:
        found: bytes | None = (self._get(key, dict) or {}).get(name)
        return found

    def do_hmget(self, key: bytes, *names: bytes) -> list[bytes | None]:
        found = self._get(key, dict) or {}
        return [found.get(name) for name in names]

    def do_hgetall(self, key: bytes) -> list[bytes]:
        found = self._get(key, dict) or {}
        return [text for row in found.items() for text in row]

    def do_hlen(self, key: bytes) -> int:
        return len(self._get(key, dict) or {})

    def do_hexists(self, key: bytes, name: bytes) -> int:
        return int(name in (self._get(key, dict) or {}))

    def do_hset(self, key: bytes, *pairs: bytes) -> int:
        entries = self._make(key, dict)
        before = len(entries)
        entries.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(entries) - before

    def do_hsetnx(self, key: bytes, name: bytes, value: bytes) -> int:
        entries = self._make(key, dict)
        if name in entries:
            return 0
        entries[name] = value
        return 1

    def do_hdel(self, key: bytes, *names: bytes) -> int:
        entries = self._get(key, dict) or {}
        gone = sum(entries.pop(name, None) is not None for name in names)
        if not entries:
            self._drop(key)
        return gone

    def do_hincrby(self, key: bytes, name: bytes, by: bytes) -> int:
        entries = self._make(key, dict)
        value = int(entries.get(name, b"0")) + int(by)
        entries[name] = b"%d" % value
        return value

    # -- sorted sets ---------------------------------------------------------

    def do_zadd(self, key: bytes, *rest: bytes) -> int:
        options = [text for text in rest if text.upper() in (b"NX", b"XX", b"GT", b"LT", b"CH")]
        pairs = rest[len(options) :]
        entries = self._make(key, Sorted)
        before = len(entries)
        for score, member in zip(pairs[::2], pairs[1::2], strict=True):
            if b"NX" not in options or member not in entries:
                entries[member] = float(score)
        return len(entries) - before

    def do_zrem(self, key: bytes, *members: bytes) -> int:
        entries = self._get(key, Sorted) or {}
        gone = sum(entries.pop(member, None) is not None for member in members)
        if not entries:
            self._drop(key)
        return gone

    def do_zunionstore(self, key: bytes, count: bytes, *rest: bytes) -> int:
        keys, options = rest[: int(count)], [text.upper() for text in rest[int(count) :]]
        weights = [1.0] * len(keys)
        if b"WEIGHTS" in options:
            at = options.index(b"WEIGHTS") + 1
            weights = [float(text) for text in options[at : at + len(keys)]]
        merge = max if b"MAX" in options else sum
        scores: dict[bytes, list[float]] = {}
        for source_key, weight in zip(keys, weights, strict=True):
            for member, score in (self._get(source_key, Sorted) or {}).items():
                weighted = 0.0 if weight == 0 else score * weight  # also of an infinite score
                scores.setdefault(member, []).append(weighted)
        self._drop(key)
        if scores:
            self._make(key, Sorted).update(
                {m: float(merge(source_key)) for m, source_key in scores.items()}
            )
        return len(scores)

    def do_zscore(self, key: bytes, member: bytes) -> bytes | None:
        score = (self._get(key, Sorted) or {}).get(member)
        return None if score is None else _number(score)

    def do_zcard(self, key: bytes) -> int:
        return len(self._get(key, Sorted) or {})

    def do_zrangebyscore(self, key: bytes, low: bytes, high: bytes, *rest: bytes) -> list[bytes]:
        return self._by_score(key, low, high, rest, reverse=False)

    def do_zrevrangebyscore(self, key: bytes, high: bytes, low: bytes, *rest: bytes) -> list[bytes]:
        return self._by_score(key, low, high, rest, reverse=True)

    def _by_score(
        self, key: bytes, low: bytes, high: bytes, rest: tuple[bytes, ...], *, reverse: bool
    ) -> list[bytes]:
        rows = [
            row
            for row in (self._get(key, Sorted) or Sorted()).rows()
            if _above(row[1], low) and _below(row[1], high)
        ]
        if reverse:
            rows.reverse()
        options = [text.upper() for text in rest]
        if b"LIMIT" in options:
            at = options.index(b"LIMIT")
            offset, count = int(options[at + 1]), int(options[at + 2])
            rows = rows[offset:] if count < 0 else rows[offset : offset + count]
        if b"WITHSCORES" in options:
            return [text for member, score in rows for text in (member, _number(score))]
        return [member for member, _ in rows]

    # -- streams -------------------------------------------------------------

    def do_xadd(self, key: bytes, *rest: bytes) -> bytes:
        words = list(rest)
        most: int | None = None
        if words[0].upper() == b"MAXLEN":
            exact = words[1] not in (b"~",)
            most = int(words[1] if words[1] not in (b"~", b"=") else words[2])
            del words[: 2 if words[1] not in (b"~", b"=") else 3]
        id_, *fields = words
        stream = self._make(key, Stream)
        if id_ == b"*":
            place = (int(self._clock() * 1000), 0)
            if place <= stream.last:
                place = (stream.last[0], stream.last[1] + 1)
        else:
            place = _place(id_)
        if place <= stream.last:
            raise Refused(
                "ERR The ID specified in XADD is equal or smaller than the target stream top item"
            )
        stream.entries.append((place, fields))
        stream.last = place
        stream.added += 1
        if most is not None:
            self._trim(stream, most, exact=exact)
        self.changed(key)
        return b"%d-%d" % place

    def do_xtrim(self, key: bytes, how: bytes, *rest: bytes) -> int:
        stream = self._get(key, Stream)
        if stream is None:
            return 0
        before = len(stream.entries)
        self._trim(stream, int(rest[-1]), exact=rest[0] != b"~")
        return before - len(stream.entries)

    def _trim(self, stream: Stream, most: int, *, exact: bool) -> None:
        if exact and len(stream.entries) > most:
            del stream.entries[: len(stream.entries) - most]
        while len(stream.entries) >= most + NODE:
            del stream.entries[:NODE]

    def do_xlen(self, key: bytes) -> int:
        stream = self._get(key, Stream)
        return len(stream.entries) if stream else 0

    def do_xrange(self, key: bytes, low: bytes, high: bytes, *rest: bytes) -> list[Any]:
        return self._range(key, low, high, rest)

    def do_xrevrange(self, key: bytes, high: bytes, low: bytes, *rest: bytes) -> list[Any]:
        return self._range(key, low, high, rest, reverse=True)

    def _range(
        self, key: bytes, low: bytes, high: bytes, rest: tuple[bytes, ...], *, reverse: bool = False
    ) -> list[Any]:
        stream = self._get(key, Stream)
        if stream is None:
            return []
        first = (0, 0) if low == b"-" else _place(low)
        last = (1 << 62, 0) if high == b"+" else _place(high)
        rows = [entry for entry in stream.entries if first <= entry[0] <= last]
        if reverse:
            rows.reverse()
        if rest:
            rows = rows[: int(rest[1])]
        return [_entry(entry) for entry in rows]

    def do_xread(self, *words: bytes) -> Any:
        upper = [word.upper() for word in words]
        at = upper.index(b"STREAMS") + 1
        count = int(words[upper.index(b"COUNT") + 1]) if b"COUNT" in upper[:at] else 1 << 30
        stream_count = (len(words) - at) // 2
        keys, ids = list(words[at : at + stream_count]), words[at + stream_count :]
        answer = []
        for key, id_ in zip(keys, ids, strict=True):
            stream = self._get(key, Stream)
            if stream is None:
                continue
            start = bisect_right(stream.entries, _place(id_), key=lambda entry: entry[0])
            rows = stream.entries[start : start + count]
            if rows:
                answer.append([key, [_entry(entry) for entry in rows]])
        if not answer and b"BLOCK" in upper[:at]:
            seconds = int(words[upper.index(b"BLOCK") + 1]) / 1000
            return Blocked(keys, seconds or inf, [b"XREAD", *words])
        return answer or None

    def do_xinfo(self, what: bytes, key: bytes) -> list[Any]:
        stream = self._get(key, Stream)
        if stream is None:
            raise Refused("ERR no such key")
        return [
            b"length", len(stream.entries),
            b"last-generated-id", b"%d-%d" % stream.last,
            b"entries-added", stream.added,
        ]  # fmt: skip

    # -- server --------------------------------------------------------------

    def do_info(self, *sections: bytes) -> bytes:
        role = "master" if self.role == "master" else "slave"
        return (
            f"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:{self.run_id}\r\n"
            f"# Replication\r\nrole:{role}\r\nmaster_replid:{self.replid}\r\n"
            f"master_repl_offset:0\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n"
        ).encode()

    def do_config(self, *args: bytes) -> list[bytes]:
        return []

    def do_wait(self, *args: bytes) -> int:
        return 0

    # -- scripts -------------------------------------------------------------

    def do_script(self, what: bytes, *args: bytes) -> Any:
        if what.upper() != b"LOAD":
            return Status(b"OK")
        return self._remember(args[0])

    def do_eval(self, text: bytes, number: bytes, *rest: bytes) -> Any:
        return self._evaluate(self._remember(text), int(number), rest)

    def do_evalsha(self, sha: bytes, number: bytes, *rest: bytes) -> Any:
        if sha not in self._scripts:
            raise Refused("NOSCRIPT No matching script. Please use EVAL.")
        return self._evaluate(sha, int(number), rest)

    def do_function(self, what: bytes, *rest: bytes) -> Any:
        if what.upper() != b"LOAD":
            return []
        self._functions = _lua().library(rest[-1])
        return b"progress"

    def do_fcall(self, name: bytes, number: bytes, *rest: bytes) -> Any:
        function = self._functions.get(name)
        if function is None:
            raise Refused("ERR Function not found")
        return _lua().call(self, function, int(number), rest)

    def _remember(self, text: bytes) -> bytes:
        sha = sha1(text, usedforsecurity=False).hexdigest().encode()
        self._scripts.setdefault(sha, text)
        return sha

    def _evaluate(self, sha: bytes, number: int, rest: tuple[bytes, ...]) -> Any:
        lua = _lua()
        return lua.call(self, lua.script(self._scripts[sha]), number, rest)


class _Lua:
    """The interpreter of all servers, which keeps compiled scripts."""

    def __init__(self) -> None:
        self._lua: Any = lupa.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._server: Redis | None = None
        self._scripts: dict[bytes, Any] = {}
        self._libraries: dict[bytes, dict[bytes, Any]] = {}
        self._registering: dict[bytes, Any] = {}
        names = self._lua.globals()
        names[b"__call"] = self._from_lua
        names[b"__encode"] = _cjson
        names[b"__register"] = lambda name, function: self._registering.update({name: function})
        names[b"__decode"] = self._decode
        self._lua.execute(_PRELUDE)
        self._table = self._lua.table

    def script(self, text: bytes) -> Any:
        function = self._scripts.get(text)
        if function is None:
            whole = b"return function(KEYS, ARGV) " + text + b"\nend"
            function = self._scripts[text] = self._lua.execute(whole)
        return function

    def library(self, text: bytes) -> dict[bytes, Any]:
        if text not in self._libraries:
            self._registering = {}
            body = text.partition(b"\n")[2]
            self._lua.execute(b"return function() " + body + b"\nend")()
            self._libraries[text] = self._registering
        return self._libraries[text]

    def call(self, server: Redis, function: Any, number: int, rest: tuple[bytes, ...]) -> Any:
        self._server = server
        try:
            answer = function(self._table(*rest[:number]), self._table(*rest[number:]))
        except lupa.LuaError as error:
            raise Refused(str(error).partition("\n")[0]) from None
        finally:
            self._server = None
        return self._to_python(answer)

    def _to_python(self, value: Any) -> Any:
        if lupa.lua_type(value) == "table":
            if value[b"err"] is not None:
                raise Refused(value[b"err"].decode())
            if value[b"ok"] is not None:
                return Status(value[b"ok"])
            return [self._to_python(value[index]) for index in range(1, len(value) + 1)]
        if value is True:
            return 1
        if value is False or value is None:
            return None
        return value if isinstance(value, bytes) else int(value)

    def _from_lua(self, *words: Any) -> Any:
        assert self._server is not None
        try:
            answer = self._server._run([_text(word) for word in words])
        except Refused as refused:
            return self._lua.table_from({b"__error": str(refused).encode()})
        return self._to_lua(answer)

    def _to_lua(self, value: Any) -> Any:
        if value is None:
            return False
        if isinstance(value, Status):
            return self._lua.table_from({b"ok": bytes(value)})
        if isinstance(value, list):
            return self._table(*[self._to_lua(item) for item in value])
        return value

    def _decode(self, text: bytes) -> Any:
        def convert(value: Any) -> Any:
            if isinstance(value, str):
                return value.encode()
            if isinstance(value, list):
                return self._table(*[convert(item) for item in value])
            if isinstance(value, dict):
                return self._lua.table_from({k.encode(): convert(v) for k, v in value.items()})
            return value

        return convert(json.loads(text))


@cache
def _lua() -> _Lua:
    return _Lua()


_PRELUDE = b"""
redis = {}
function redis.call(...)
  local answer = __call(...)
  if type(answer) == 'table' and answer.__error then error(answer.__error, 0) end
  return answer
end
function redis.pcall(...)
  local answer = __call(...)
  if type(answer) == 'table' and answer.__error then return {err = answer.__error} end
  return answer
end
function redis.error_reply(text) return {err = text} end
function redis.status_reply(text) return {ok = text} end
function redis.register_function(name, callback)
  if type(name) == 'table' then __register(name.function_name, name.callback)
  else __register(name, callback) end
end
function redis.log() end
redis.LOG_WARNING, redis.LOG_NOTICE = 3, 2
cjson = {encode = function(value) return __encode(value) end,
         decode = function(text) return __decode(text) end}
"""


def _cjson(value: Any) -> bytes:
    """Encodes a text or a number like Redis's cjson."""
    if isinstance(value, bytes):
        text = json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)
        text = text.replace("/", "\\/").replace("\x7f", "\\u007f")
        return text.encode("utf-8", "surrogateescape")
    return json.dumps(value).encode()


def _text(word: Any) -> bytes:
    if isinstance(word, bytes):
        return word
    if isinstance(word, float):
        return b"%d" % word if word == int(word) and abs(word) < 1e17 else b"%.17g" % word
    return str(word).encode()


def _number(score: float) -> bytes:
    return b"%d" % score if score.is_integer() else repr(score).encode()


def _place(id_: bytes) -> tuple[int, int]:
    time, _, number = id_.partition(b"-")
    return int(time), int(number or 0)


def _entry(entry: tuple[tuple[int, int], list[bytes]]) -> list[Any]:
    return [b"%d-%d" % entry[0], list(entry[1])]


def _above(score: float, low: bytes) -> bool:
    return score > float(low[1:]) if low[:1] == b"(" else score >= float(low)


def _below(score: float, high: bytes) -> bool:
    return score < float(high[1:]) if high[:1] == b"(" else score <= float(high)


def encode(answer: Any) -> Iterator[bytes]:
    """Encodes a response in RESP2."""
    if isinstance(answer, Status):
        yield b"+%b\r\n" % bytes(answer)
    elif isinstance(answer, bytes):
        yield b"$%d\r\n%b\r\n" % (len(answer), answer)
    elif isinstance(answer, int):
        yield b":%d\r\n" % answer
    elif answer is None:
        yield b"$-1\r\n"
    elif isinstance(answer, Refused):
        yield b"-%b\r\n" % str(answer).encode()
    else:
        yield b"*%d\r\n" % len(answer)
        for item in answer:
            yield from encode(item)
