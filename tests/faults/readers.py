"""Clients that read jobs by different means, over all nodes in turn, and keep what they received.

All that one reader received forms one history, whichever nodes answered. `taken_back` checks it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import count

import trio
from attrs import define, field, frozen

from tests.e2e.client import Closed, Raw, Reset, WebSocketClient, connect, upgrade

from .client_logs import Json

__all__ = ["READERS", "Reader", "Reading", "taken_back"]

FINAL = ("succeeded", "failed", "cancelled")
PAUSE = 0.02
"""Seconds between two polls: far more frequent than a page's."""


@frozen
class Reading:
    """What a reader received about a job at one moment."""

    at: float
    job: str
    epoch: int
    seq: int
    state: Json | None

    def __str__(self) -> str:
        state = self.state or {}
        message = [state.get(name) for name in ("status", "attempt", "percent", "health")]
        return f"{self.at:7.3f} {self.job} {self.epoch}-{self.seq} {message}"


@define(eq=False)
class Reader:
    """One reader, until it is cancelled."""

    kind: str
    name: str
    jobs: Sequence[str]
    ports: Sequence[int]
    readings: list[Reading] = field(factory=list)
    refused: Counter[str] = field(factory=Counter)
    """Error responses, and the reasons why its connections ended."""

    async def run(self) -> None:
        read = READERS[self.kind]
        for turn in count(hash(self.name)):
            port = self.ports[turn % len(self.ports)]
            try:
                with trio.fail_after(10):
                    async with connect(port, patience=8) as raw:
                        await read(self, raw)
            except* (Closed, Reset, OSError, trio.TooSlowError, ValueError) as group:
                self.refused.update(repr(error) for error in group.exceptions)
            await trio.sleep(PAUSE)

    def see(self, document: Json) -> None:
        epoch, seq = document["epoch"], document["seq"]
        reading = Reading(trio.current_time(), document["job"], epoch or 0, seq, document["state"])
        self.readings.append(reading)


async def get(raw: Raw, path: str, **headers: str) -> tuple[int, Json]:
    """Sends a request on a kept connection; returns the status and the JSON of the response."""
    lines = [f"GET {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    await raw.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    status, _, body = await raw.receive_response()
    if status not in (200, 304):
        raise Closed(None, f"{status} {body.decode()}")
    return status, json.loads(body) if body else {}


async def by_get(reader: Reader, raw: Raw) -> None:
    """Reads one job after the other; each call may go to another node."""
    for job in reader.jobs:
        status, document = await get(raw, f"/api/jobs/{job}")
        if status == 200:
            reader.see(document)


async def by_list(reader: Reader, raw: Raw) -> None:
    status, document = await get(raw, "/api/jobs?limit=200")
    for job in document["jobs"] if status == 200 else ():
        if job["job"] in reader.jobs:
            reader.see(job)


async def by_long_poll(reader: Reader, raw: Raw) -> None:
    """Long-polls for the next state of one of its jobs, as its ETag says."""
    job = reader.jobs[len(reader.readings) % len(reader.jobs)]
    tag = next((f'"{s.epoch}-{s.seq}"' for s in reversed(reader.readings) if s.job == job), '"0-0"')
    status, document = await get(raw, f"/api/jobs/{job}?wait=0.3", if_none_match=tag)
    if status == 200:
        reader.see(document)


async def by_subscription(reader: Reader, raw: Raw) -> None:
    """Stays subscribed for about a second. Returns with its positions, mostly at another node."""
    await raw.send(upgrade(subprotocol="progress.v1"))
    status, _ = await raw.receive_head()
    if status != 101:
        return
    client = WebSocketClient(raw, "progress.v1")
    held = {s.job: (s.epoch or None, s.seq) for s in reader.readings}
    await client.send("hello", positions=held)
    mode = "every" if hash(reader.name) % 2 else "latest"
    await client.send("sync_subscriptions", jobs=reader.jobs, mode=mode)
    with trio.move_on_after(1 + hash(reader.name) % 7):
        while True:
            message = await client.receive()
            client.frames.clear()
            if message["type"] == "progress" and "states" not in message:
                reader.see(message)


READERS: dict[str, Callable[[Reader, Raw], Awaitable[None]]] = {
    "get": by_get,
    "list": by_list,
    "long poll": by_long_poll,
    "subscribe": by_subscription,
}


def taken_back(readers: Iterable[Reader]) -> Iterator[str]:
    """Yields a description of each contradiction.

    Across readers: two states at one position. Within what one reader received about a job: a lower
    position in the same epoch, a smaller epoch, a final state replaced by anything but a later
    attempt, a percentage that fell within an attempt, or a known job that became unknown.
    """
    states: dict[tuple[str, int, int], Json | None] = {}
    for reader in readers:
        last_readings: dict[str, Reading] = {}
        for reading in reader.readings:
            at = reading.job, reading.epoch, reading.seq
            if states.setdefault(at, reading.state) != reading.state:
                yield f"{reader.name}: two states at one position: {reading}: {states[at]}"
            before = last_readings.get(reading.job)
            last_readings[reading.job] = reading
            if before is None or before.state is None:
                continue
            if (reading.epoch, reading.seq) < (before.epoch, before.seq):
                yield f"{reader.name}: a lower position: {before} -> {reading}"
            if reading.state is None:
                yield f"{reader.name}: unknown: {before} -> {reading}"
                last_readings[reading.job] = before
                continue
            old, new = before.state, reading.state
            if new["attempt"] > old["attempt"]:
                continue
            if new["attempt"] < old["attempt"]:
                yield f"{reader.name}: an earlier attempt: {before} -> {reading}"
            elif old["status"] in FINAL and new["status"] != old["status"]:
                yield f"{reader.name}: an end taken back: {before} -> {reading}"
            elif (new.get("percent") or 0) < (old.get("percent") or 0):
                yield f"{reader.name}: percent fell: {before} -> {reading}"
