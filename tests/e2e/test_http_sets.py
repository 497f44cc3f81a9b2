"""Sets over HTTP: the document of one, and a stream of several."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from gateway import Gateway
from gateway.model.state import Update
from gateway.transports.sse import NO_POSITIONS

from .client import PATIENCE, connect
from .test_http_client import event, open_stream


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE) as http:
        yield http


async def publish(gateway: Gateway, job: str, **fields: Any) -> None:
    await gateway.node.broker.publish(job, Update(**fields))


async def test_the_document_of_a_set_can_be_read(http: httpx.AsyncClient, gateway: Gateway) -> None:
    await publish(gateway, "a:1", status="running")
    await publish(gateway, "a:2", status="failed")
    await publish(gateway, "b:1", status="running")
    answer = await http.get("/api/sets", params={"prefix": "a:"})
    assert answer.status_code == 200
    document = answer.json()
    assert document == {
        "prefix": "a:",
        "epoch": document["epoch"],
        "seq": 1,
        "total": 2,
        "counts": {"queued": 0, "running": 1, "succeeded": 0, "failed": 1, "cancelled": 0},
        "jobs": ["a:1", "a:2"],
    }
    tag = {"if-none-match": answer.headers["etag"]}
    same = await http.get("/api/sets", params={"prefix": "a:"}, headers=tag)
    assert same.status_code == 304
    only = {"prefix": "a:", "statuses": "failed,cancelled", "limit": "1"}
    assert (await http.get("/api/sets", params=only)).json()["jobs"] == ["a:2"]


async def test_a_long_poll_of_a_set_waits_for_the_next_document(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    await publish(gateway, "a:1", percent=1)
    first_response = await http.get("/api/sets", params={"prefix": "a:"})
    tag = {"if-none-match": first_response.headers["etag"]}
    late: list[httpx.Response] = []

    async def wait() -> None:
        params = {"prefix": "a:", "wait": "30"}
        late.append(await http.get("/api/sets", params=params, headers=tag))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        # Progress is no change of the set, a job that begins is.
        await publish(gateway, "a:1", percent=2)
        await publish(gateway, "a:2", status="running")
    [answer] = late
    assert answer.status_code == 200
    assert answer.json()["total"] == 2
    assert answer.headers["etag"] != first_response.headers["etag"]
    tag = {"if-none-match": answer.headers["etag"]}
    params = {"prefix": "a:", "wait": "0.05"}
    assert (await http.get("/api/sets", params=params, headers=tag)).status_code == 304


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/sets", "prefix"),
        ("/api/sets?prefix=a&prefix=b", "prefix"),
        ("/api/sets?prefix=a%20b", "prefix"),
        ("/api/sets?prefix=a:*", "prefix"),
        ("/api/sets?prefix=a&statuses=done", "statuses"),
        ("/api/sets?prefix=a&limit=201", "limit"),
        ("/api/sets?prefix=a&status=failed", "status"),
        ("/api/events", "job"),
        ("/api/events?set=a%20b", "set"),
        ("/api/events?set=a&statuses=done", "statuses"),
        ("/api/events?" + "&".join(f"set={number}" for number in range(11)), "set"),
    ],
)
async def test_an_invalid_parameter_names_the_field(
    http: httpx.AsyncClient, path: str, field: str
) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_a_stream_can_have_a_set_and_a_job(gateway: Gateway, port: int) -> None:
    await publish(gateway, "a:1", percent=1)
    async with connect(port) as raw:
        await open_stream(raw, "/api/events?set=a:&set=b:&job=c&limit=5")
        frames: list[dict[str, Any]] = []
        ids: list[str] = []

        async def receive(*wanted: str) -> None:
            """Reads until all of these were received: a job at its position, or the ids of a
            set."""
            while not set(wanted) <= {describe(one) for one in frames}:
                id_, frame = await event(raw)
                ids.append(id_)
                frames.append(frame)

        await receive("a: a:1", "b:", "c 0", "a:1 1")
        await publish(gateway, "b:1", percent=1)
        await publish(gateway, "c", percent=1)
        await receive("b: b:1", "b:1 1", "c 1")
        await publish(gateway, "b:1", status="failed")
        await receive("b:1 2")
    assert any(ids)
    assert all("," not in id_ for id_ in ids), "jobs of sets are not in the id"
    assert [document["prev"] for document in frames if document.get("prefix") == "b:"][:2] == [
        None,
        1,
    ]


async def test_the_id_of_a_stream_of_sets_has_no_positions(gateway: Gateway, port: int) -> None:
    """It says only that the client has received states before."""
    await publish(gateway, "a:1", percent=1)
    async with connect(port) as raw:
        await open_stream(raw, "/api/events?set=a:")
        events = [await event(raw) for _ in range(3)]
        assert {id_ for id_, _ in events} <= {"", NO_POSITIONS}
        assert events[-1][0] == NO_POSITIONS
        assert [describe(frame) for _, frame in events] == ["welcome", "a: a:1", "a:1 1"]
    async with connect(port) as raw:
        await open_stream(raw, "/api/events?set=a:&job=a:1", last_event_id=NO_POSITIONS)
        events = [await event(raw) for _ in range(3)]
        assert sorted(describe(frame) for _, frame in events) == ["a: a:1", "a:1 1", "welcome"]


def describe(frame: dict[str, Any]) -> str:
    if frame["type"] == "set":
        return " ".join([frame["prefix"], *frame["jobs"]])
    return f"{frame['job']} {frame['seq']}" if frame["type"] == "progress" else frame["type"]
