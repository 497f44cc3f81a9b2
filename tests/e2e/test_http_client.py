"""The HTTP API over a real socket: valid and invalid requests, slow clients, and clients that
disconnect."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from gateway import Gateway, Limits, serve_gateway
from gateway.delivery.repairs import Repairs
from gateway.model.state import Event
from tests.traceparents import MALFORMED, OTHER, SPAN, UNSAMPLED

from .client import PATIENCE, Json, Raw, connect
from .conftest import eventually

JOB = "video:42"


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with httpx.AsyncClient(base_url=gateway.url, timeout=PATIENCE) as http:
        yield http
    await eventually(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)


def get(path: str, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *lines, "", ""]).encode()


def post(job: str, body: bytes, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    head = [
        f"POST /api/jobs/{job} HTTP/1.1",
        "host: localhost",
        f"content-length: {len(body)}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


# Errors


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/api/jobs/a", "{", 400, None),
        ("POST", "/api/jobs/a", "[]", 400, None),
        ("POST", "/api/jobs/a", "", 400, None),
        ("POST", "/api/jobs/a", "\xff", 400, None),
        ("POST", "/api/jobs/a", '{"percent":101}', 400, "percent"),
        ("POST", "/api/jobs/a", '{"percent":"1"}', 400, "percent"),
        ("POST", "/api/jobs/a", '{"percnt":1}', 400, "percnt"),
        ("POST", "/api/jobs/a", '{"status":"done"}', 400, "status"),
        ("POST", "/api/jobs/a", '{"weight":0}', 400, "weight"),
        ("POST", "/api/jobs/a", '{"traceparent":"00-1-2-01"}', 400, "traceparent"),
        ("POST", "/api/jobs/a%20b", "{}", 400, "job"),
        ("GET", "/api/jobs/never", "", 404, "job"),
        ("GET", "/api/jobs/a%20b", "", 400, "job"),
        ("GET", "/api/jobs/a?wait=-1", "", 400, "wait"),
        ("GET", "/api/jobs/a?wait=nan", "", 400, "wait"),
        ("GET", "/api/jobs?limit=0", "", 400, "limit"),
        ("GET", "/api/jobs?limit=x", "", 400, "limit"),
        ("GET", "/api/jobs?status=done", "", 400, "status"),
        ("GET", "/api/jobs?after=x", "", 400, "after"),
        ("GET", "/api/events", "", 400, "job"),
        ("GET", "/api/events?job=a%20b", "", 400, "job"),
        ("GET", "/api/events?job=a&mode=some", "", 400, "mode"),
        ("PUT", "/api/jobs/a", "{}", 405, None),
        ("DELETE", "/api/jobs/a", "", 405, None),
        ("POST", "/healthz", "", 405, None),
        ("BREW", "/api/jobs", "", 405, None),
        ("GET", "/api/nothing", "", 404, None),
        ("GET", "/../../etc/passwd", "", 404, None),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", "", 404, None),
        ("GET", "/%00", "", 404, None),
    ],
)
async def test_an_error_is_a_problem_document_with_the_field(
    http: httpx.AsyncClient, method: str, path: str, body: str, status: int, field: str | None
) -> None:
    answer = await http.request(method, path, content=body.encode("latin-1"))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"]
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("field") == field


async def test_an_oversized_body_is_413(http: httpx.AsyncClient, port: int, limits: Limits) -> None:
    answer = await http.post(f"/api/jobs/{JOB}", content=b" " * (limits.max_body + 1))
    assert answer.status_code == 413
    async with connect(port) as raw:  # a body that is shorter than announced
        await raw.send(post(JOB, b"")[:-4].replace(b"length: 0", b"length: 1000000000000"))
        await raw.send(b"\r\n\r\n" + b" " * (limits.max_body + 1))
        assert (await raw.receive_response())[0] == 413
        assert await raw.receive_rest() == b""
    async with connect(port) as raw:  # in chunks, without end
        await raw.send(post(JOB, b"").replace(b"content-length: 0", b"transfer-encoding: chunked"))
        await raw.send(b"1000\r\n" + b" " * 4096 + b"\r\n")
        for _ in range(limits.max_body // 4096):
            await raw.send(b"1000\r\n" + b" " * 4096 + b"\r\n")
        assert (await raw.receive_response())[0] == 413


async def test_a_slow_body_is_408(http: httpx.AsyncClient, port: int) -> None:
    async with connect(port) as raw:
        await raw.send(post(JOB, b"{}")[:-1])
        status, headers, body = await raw.receive_response()
        assert (status, headers["content-type"]) == (408, "application/problem+json")
        assert json.loads(body)["status"] == 408
        assert await raw.receive_rest() == b""


# Requests in a row


async def test_pipelined_requests_are_answered_in_order(http: httpx.AsyncClient, port: int) -> None:
    async with connect(port) as raw:
        requests = [post(JOB, b'{"percent":%d}' % percent) for percent in (1, 2, 3)]
        await raw.send(b"".join([*requests, get(f"/api/jobs/{JOB}"), get("/healthz")]))
        for seq in (1, 2, 3):
            status, _, body = await raw.receive_response()
            assert (status, json.loads(body)["seq"]) == (200, seq)
        assert json.loads((await raw.receive_response())[2])["state"]["percent"] == 3
        assert json.loads((await raw.receive_response())[2])["status"] == "ok"


async def test_a_client_that_leaves_before_the_response_leaves_no_task(
    http: httpx.AsyncClient, port: int
) -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    for _ in range(20):
        async with connect(port) as raw:
            await raw.send(get("/healthz"))
            assert (await raw.receive_response())[0] == 200
    await eventually(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)


async def test_connection_close_is_respected(http: httpx.AsyncClient, port: int) -> None:
    async with connect(port) as raw:
        await raw.send(get("/healthz", connection="close"))
        assert (await raw.receive_response())[0] == 200
        assert await raw.receive_rest() == b""


# Long polls


@pytest.mark.parametrize(
    ("headers", "body", "named"),
    [
        ({}, SPAN, SPAN),
        ({"traceparent": SPAN}, None, SPAN),
        ({"traceparent": SPAN}, OTHER, OTHER),
        ({"traceparent": SPAN}, UNSAMPLED, UNSAMPLED),
        ({"traceparent": UNSAMPLED}, None, None),
        *(({"traceparent": text}, None, None) for text in MALFORMED if text.isprintable()),
    ],
)
async def test_the_traceparent_of_a_request_is_in_the_feed(
    http: httpx.AsyncClient,
    gateway: Gateway,
    headers: dict[str, str],
    body: str | None,
    named: str | None,
) -> None:
    async with gateway.node.broker.feed() as feed:
        update = {"percent": 5, "traceparent": body}
        answer = await http.post(f"/api/jobs/{JOB}", json=update, headers=headers)
        assert answer.status_code == 200
        events: list[Event] = []
        while not events:  # the node's probe is in the feed, too
            events = [event for event in await feed.receive() if event.job == JOB]
        assert [event.traceparent for event in events] == [named]
    for path in (f"/api/jobs/{JOB}", f"/api/jobs/{JOB}/events", "/api/jobs"):
        assert "traceparent" not in (await http.get(path)).text


async def test_the_history_of_a_job_can_be_read(http: httpx.AsyncClient, gateway: Gateway) -> None:
    job = "a/events"  # of all names
    for percent in (1, 2, 3):
        receipt = await gateway.publish(job, percent=percent)
    epoch = receipt.position.epoch

    async def history(**query: int) -> dict[int, int]:
        answer = await http.get(f"/api/jobs/{job}/events", params=query)
        assert answer.status_code == 200
        document: Json = answer.json()
        assert (document["job"], document["epoch"], "gap" in document) == (job, epoch, False)
        return {event["seq"]: event["state"]["percent"] for event in document["events"]}

    assert await history() == {1: 1, 2: 2, 3: 3}
    assert await history(after=2) == await history(after=2, epoch=epoch) == {3: 3}
    assert await history(after=2, epoch=epoch - 1) == {1: 1, 2: 2, 3: 3}
    assert await history(after=3) == await history(after=9) == {}
    assert (await http.get("/api/jobs/a%2Fevents")).json()["state"]["percent"] == 3
    assert (await http.get("/api/jobs/a/events")).status_code == 404
    for wrong in ("after=-1", "after=1.5", "after=x", "epoch=²"):
        problem = (await http.get(f"/api/jobs/{job}/events?{wrong}")).json()
        assert (problem["status"], problem["field"]) == (400, wrong.partition("=")[0])


async def test_a_long_poll_waits_for_the_next_event(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    await gateway.publish(JOB, percent=1)
    first_response = await http.get(f"/api/jobs/{JOB}")
    tag = first_response.headers["etag"]
    position = first_response.json()
    assert tag == f'"{position["epoch"]}-{position["seq"]}"'
    assert (await http.get(f"/api/jobs/{JOB}", headers={"if-none-match": tag})).status_code == 304
    answer = await http.get(f"/api/jobs/{JOB}?wait=0.05", headers={"if-none-match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == tag

    answers: list[httpx.Response] = []

    async def poll(path: str) -> None:
        answers.append(await http.get(path, headers={"if-none-match": tag}))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(poll, f"/api/jobs/{JOB}?wait=30")
        hub = gateway.node.hub
        await eventually(lambda: hub.statistics().subscriptions == 5)
        await gateway.publish(JOB, percent=2)
    assert [answer.json()["state"]["percent"] for answer in answers] == [2] * 5
    assert hub.statistics().subscriptions == 0
    stale = await http.get(f"/api/jobs/{JOB}?wait=30", headers={"if-none-match": tag})
    assert stale.json()["seq"] == 2  # at once


async def test_a_long_poll_of_a_job_that_is_dropped_is_404(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    await gateway.publish(JOB, percent=1)
    tag = (await http.get(f"/api/jobs/{JOB}")).headers["etag"]
    hub = gateway.node.hub

    async def drop() -> None:
        await eventually(lambda: hub.statistics().subscriptions == 1)
        topic = hub.topics[JOB]
        await eventually(lambda: not topic.loading)
        Repairs(hub).apply_loads({JOB: topic.position}, {})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drop)
        answer = await http.get(f"/api/jobs/{JOB}?wait=30", headers={"if-none-match": tag})
    assert answer.status_code == 404


@pytest.mark.parametrize("limits", [Limits(max_topics=1)])  # the probe's
async def test_a_long_poll_at_a_full_node_is_503(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/jobs/new?wait=30")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["detail"] == "Quota used up: this node watches 1 jobs already."
    assert answer.json()["code"] == "node_full"
    ready = await http.get("/readyz")
    assert ready.status_code == 200
    assert (ready.json()["status"], ready.json()["topics_free"]) == ("full", 0)


async def test_a_long_poll_of_an_unknown_job_waits(
    http: httpx.AsyncClient, gateway: Gateway
) -> None:
    answer = await http.get("/api/jobs/new?wait=0.05")
    assert answer.status_code == 404

    async def publish() -> None:
        await eventually(lambda: gateway.node.statistics().hub.subscriptions == 1)
        await gateway.publish("new", percent=1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        assert (await http.get("/api/jobs/new?wait=30")).json()["seq"] == 1


async def test_a_long_poll_ends_when_its_client_disconnects(
    http: httpx.AsyncClient, gateway: Gateway, port: int
) -> None:
    async with connect(port) as raw:
        await raw.send(get(f"/api/jobs/{JOB}?wait=30"))
        await eventually(lambda: gateway.node.statistics().hub.subscriptions == 1)
    await eventually(lambda: gateway.node.statistics().hub.subscriptions == 0)


# Server-sent events


async def open_stream(raw: Raw, path: str, **headers: str) -> None:
    await raw.send(get(path, **headers))
    status, received_headers = await raw.receive_head()
    assert (status, received_headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert received_headers["transfer-encoding"] == "chunked"


async def event(raw: Raw) -> tuple[str, Json]:
    """Returns the next event's id ("" if it has none) and object; skips comments and pings."""
    while True:
        text = (await raw.receive_until(b"\n\n")).decode()
        assert text, "the stream has ended"
        lines = [line for line in text.split("\n") if line.startswith(("id: ", "data: "))]
        *ids, data = lines
        object_ = json.loads(data.removeprefix("data: "))
        if object_["type"] != "ping":
            return "".join(ids).removeprefix("id: "), object_


async def test_a_stream_can_be_resumed(
    http: httpx.AsyncClient, gateway: Gateway, port: int
) -> None:
    await gateway.publish("a", percent=1)
    async with connect(port) as raw:
        await open_stream(raw, "/api/events?job=a&job=b")
        assert (await event(raw))[1]["type"] == "welcome"
        snapshots = {
            received_event[1]["job"]: received_event
            for received_event in (await event(raw), await event(raw))
        }
        assert snapshots["a"][1]["snapshot"] is True
        assert snapshots["b"][1]["state"] is None
        await gateway.publish("b", percent=5)
        last_id, first_of_b = await event(raw)
        assert (first_of_b["prev"], first_of_b["seq"]) == (None, 1)

    for percent in range(2, 6):
        await gateway.publish("a", percent=percent)
    async with connect(port) as raw:
        await open_stream(raw, "/api/events?job=a&job=b", last_event_id=last_id)
        assert (await event(raw))[1]["type"] == "welcome"
        _, of_a = await event(raw)
        assert (of_a["job"], of_a["prev"], of_a["seq"]) == ("a", 1, 5)
        await gateway.publish("b", percent=6)
        _, of_b = await event(raw)  # and nothing for b before: it was up to date
        assert (of_b["job"], of_b["prev"], of_b["seq"]) == ("b", 1, 2)

    async with connect(port) as raw:  # each event once more, in mode `every`
        await open_stream(raw, "/api/events?job=a&job=b&mode=every", last_event_id=last_id)
        await event(raw)
        frames = [(await event(raw))[1] for _ in range(5)]
        assert [(frame["prev"], frame["seq"]) for frame in frames if frame["job"] == "a"] == [
            (1, 2),
            (2, 3),
            (3, 4),
            (4, 5),
        ]
        assert [(frame["prev"], frame["seq"]) for frame in frames if frame["job"] == "b"] == [
            (1, 2)
        ]

    async with connect(port) as raw:  # an id of another stream: snapshots
        await open_stream(raw, "/api/events?job=a", last_event_id=last_id)
        await event(raw)
        assert (await event(raw))[1]["snapshot"] is True


async def test_catching_up_on_many_jobs_sends_only_their_events(
    http: httpx.AsyncClient, gateway: Gateway, port: int
) -> None:
    """The stream has 100 jobs with 100 events each. An id beside each event made it 20 times as
    large."""
    jobs = [f"a/long/name/of/a/job:{number}" for number in range(100)]
    for job in jobs:
        for done in range(100):
            await gateway.publish(job, done=done)
    query = "&".join(f"job={job}" for job in jobs)
    zero = ",".join(["1-1"] * 100)
    async with connect(port) as raw:
        await open_stream(raw, f"/api/events?mode=every&{query}", last_event_id=zero)
        byte_count = ids = 0
        newest_seq: dict[str, int] = {}
        while sum(newest_seq.values()) < 100 * 100:
            text = (await raw.receive_until(b"\n\n")).decode()
            byte_count += len(text)
            ids += text.startswith("id: ") or "\nid: " in text
            data = text[text.index("data: ") + 6 :]
            document = json.loads(data)
            if document["type"] == "progress":
                newest_seq[document["job"]] = document["seq"]
                if document["seq"] == 100 and document.get("snapshot"):
                    pass
            if len(newest_seq) == 100 and set(newest_seq.values()) == {100}:
                break
        assert ids < 200
        assert byte_count < 100 * 100 * 400


@pytest.mark.parametrize("name", ["Last-Event-ID", "lastEventId"])
async def test_a_stream_continues_from_an_id_in_header_or_query(
    http: httpx.AsyncClient, gateway: Gateway, port: int, name: str
) -> None:
    """Polyfills of EventSource use the query."""
    receipt = await gateway.publish("a", percent=1)
    await gateway.publish("a", percent=2)
    last_id = f"{receipt.position.epoch}-1"
    async with connect(port) as raw:
        if name == "lastEventId":
            await open_stream(raw, f"/api/events?job=a&lastEventId={last_id}")
        else:
            await open_stream(raw, "/api/events?job=a", last_event_id=last_id)
        assert (await event(raw))[1]["type"] == "welcome"
        document = (await event(raw))[1]
        assert (document["prev"], document["seq"]) == (1, 2)


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs?limt=3",
        "/api/jobs?status=running&after_=1",
        "/api/jobs/a?wiat=1",
        "/api/jobs/a?job=a",
        "/api/jobs/a/events?from=1",
        "/api/events?job=a&last_event_id=1-1",
        "/api/events?job=a&jobs=b",
    ],
)
async def test_an_unknown_parameter_is_an_error(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["field"] in path) == (400, True)
    post = await http.post("/api/jobs/a?dry_run=1", json={})
    assert (post.status_code, post.json()["field"]) == (400, "dry_run")


async def test_a_stream_ends_when_its_client_disconnects(
    http: httpx.AsyncClient, gateway: Gateway, port: int
) -> None:
    for leave in ("close", "reset", "send_eof"):
        async with connect(port) as raw:
            await open_stream(raw, f"/api/events?job={JOB}")
            await event(raw)
            assert gateway.node.statistics().connections == 1
            getattr(raw, leave)()
            await eventually(lambda: gateway.node.statistics().connections == 0)
        assert gateway.node.statistics().hub.subscriptions == 0


# Leaving


async def test_a_running_request_is_answered_during_the_drain(limits: Limits) -> None:
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:0", None, limits)
        port = gateway.addresses[0][1]
        request = post(JOB, b'{"percent":1}', expect="100-continue")
        async with connect(port) as raw, connect(port) as poll, connect(port) as idle:
            await idle.send(get("/healthz"))
            assert (await idle.receive_response())[0] == 200
            head, _, body = request.partition(b"\r\n\r\n")
            await raw.send(head + b"\r\n\r\n")
            assert (await raw.receive_head())[0] == 100
            await raw.send(body[:-1])
            await poll.send(get(f"/api/jobs/{JOB}?wait=30"))
            await eventually(lambda: gateway.node.statistics().hub.subscriptions == 1)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await idle.receive_rest() == b""
                assert (await poll.receive_response())[0] == 404
                assert await poll.receive_rest() == b""
                await raw.send(body[-1:])
                status, _, answer = await raw.receive_response()
                assert (status, json.loads(answer)["applied"]) == (200, True)
                assert await raw.receive_rest() == b""


async def test_a_stream_gets_goaway_during_the_drain(limits: Limits) -> None:
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:0", None, limits)
        async with connect(gateway.addresses[0][1]) as raw:
            await open_stream(raw, f"/api/events?job={JOB}")
            await event(raw)
            await event(raw)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert (await event(raw))[1]["type"] == "goaway"
                assert (await raw.receive_rest()).endswith(b"\r\n0\r\n\r\n")  # a whole response


async def test_many_files_are_loaded_over_one_connection(port: int) -> None:
    async with connect(port) as raw:
        for path in (
            "/page/page.js",
            "/client.js",
            "/src/core.js",
            "/page/page.css",
            "/src/jobs.js",
        ) * 4:
            await raw.send(get(path))
            head = await raw.receive_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            assert len(await raw.receive_exactly(int(length[1]))) == int(length[1])


# Requests.


async def test_a_request_reaches_the_worker_in_the_answer_to_its_next_update(
    http: httpx.AsyncClient,
) -> None:
    assert (
        await http.post(f"/api/jobs/{JOB}/requests", json={"verb": "cancel"})
    ).status_code == 404
    await http.post(f"/api/jobs/{JOB}", json={"accepts": ["cancel"], "percent": 1})
    cancel_request = {"verb": "cancel", "id": "r1", "args": {"why": "a mistake"}}
    response = await http.post(f"/api/jobs/{JOB}/requests", json=cancel_request)
    assert (response.status_code, response.json()["applied"]) == (202, True)
    second_response = await http.post(f"/api/jobs/{JOB}/requests", json=cancel_request)
    assert (second_response.status_code, second_response.json()["applied"]) == (200, False)
    response = (await http.post(f"/api/jobs/{JOB}", json={"percent": 2})).json()["request"]
    assert (response["id"], response["verb"], response["args"]) == (
        "r1",
        "cancel",
        {"why": "a mistake"},
    )
    answers = await http.post("/api/jobs", json=[{"job": JOB, "ack": "r1"}, {"job": JOB}])
    assert [answer.get("request") for answer in answers.json()] == [None, None]
    state = (await http.get(f"/api/jobs/{JOB}")).json()["state"]
    assert state["accepts"] == ["cancel"]
    assert state["request"]["seen_at"] >= state["request"]["at"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ("{}", 400, "verb"),
        ('{"verb":"Cancel"}', 400, "verb"),
        ('{"verb":"cancel","how":1}', 400, "how"),
        ('{"verb":"cancel","args":"' + "x" * 2000 + '"}', 400, "args"),
        ('{"verb":"cancel","args":' + "[" * 65 + "]" * 65 + "}", 400, "args"),
        ('{"verb":"pause"}', 409, None),
        ('{"verb":"cancel","attempt":2}', 409, None),
    ],
)
async def test_an_invalid_request_names_the_field(
    http: httpx.AsyncClient, body: str, status: int, field: str | None
) -> None:
    await http.post(f"/api/jobs/{JOB}", json={"accepts": ["cancel"]})
    answer = await http.post(f"/api/jobs/{JOB}/requests", content=body)
    assert (answer.status_code, answer.json().get("field")) == (status, field)


async def test_another_origin_or_an_update_cannot_make_a_request(
    http: httpx.AsyncClient,
) -> None:
    await http.post(f"/api/jobs/{JOB}", json={"accepts": ["cancel"]})
    headers = {"origin": "https://evil.example", "content-type": "text/plain"}
    foreign = await http.post(
        f"/api/jobs/{JOB}/requests", content='{"verb":"cancel"}', headers=headers
    )
    assert foreign.status_code == 403
    for forged in ({"ask": {"id": "1", "verb": "cancel"}}, {"request": {"id": "1"}}):
        assert (await http.post(f"/api/jobs/{JOB}", json=forged)).status_code == 400
    assert "request" not in (await http.get(f"/api/jobs/{JOB}")).json()["state"]


async def test_a_job_id_may_end_in_requests(http: httpx.AsyncClient) -> None:
    await http.post("/api/jobs/a%2Frequests", json={"percent": 3})
    assert (await http.get("/api/jobs/a/requests")).json()["state"]["percent"] == 3


async def test_a_request_to_a_group_goes_to_its_running_children_and_theirs(
    http: httpx.AsyncClient,
) -> None:
    can: dict[str, Any] = {"accepts": ["cancel"]}
    updates: list[dict[str, Any]] = [
        {"job": "g", "children": 5} | can,
        {"job": "g/runs"} | can,
        {"job": "g/deaf", "done": 1},
        {"job": "g/ended", "status": "succeeded"},
        {"job": "g/waits", "status": "queued"} | can,
        {"job": "g/s", "children": 1},
        {"job": "g/s/runs"} | can,
    ]
    await http.post("/api/jobs", json=updates)
    response = await http.post("/api/jobs/g/requests", json={"verb": "cancel", "id": "r1"})
    assert response.status_code == 202
    jobs = [update["job"] for update in updates]
    states = [(await http.get(f"/api/jobs/{job}")).json()["state"] for job in jobs]
    found = [job for job, state in zip(jobs, states, strict=True) if "request" in state]
    assert found == ["g", "g/runs", "g/s/runs"]
    # A child that begins now receives it in the answer to its first update.
    begun = await http.post("/api/jobs", json=[{"job": "g/waits", "percent": 1}])
    assert begun.json()[0]["request"]["id"] == "r1"
    # It ends with its children, as they end.
    for job in ("g/runs", "g/deaf", "g/waits", "g/s/runs"):
        await http.post(f"/api/jobs/{job}", json={"status": "cancelled"})
    assert (await http.get("/api/jobs/g")).json()["state"]["status"] == "cancelled"


async def test_a_replaced_request_that_is_sent_again_goes_to_no_child(
    http: httpx.AsyncClient,
) -> None:
    can = {"accepts": ["pause", "resume"]}
    await http.post("/api/jobs", json=[{"job": "g", "children": 2} | can])
    for id_, verb in (("r1", "pause"), ("r2", "resume")):
        response = await http.post("/api/jobs/g/requests", json={"verb": verb, "id": id_})
        assert response.status_code == 202
    await http.post("/api/jobs", json=[{"job": "g/a"} | can])  # knows neither
    again = await http.post("/api/jobs/g/requests", json={"verb": "pause", "id": "r1"})
    assert again.status_code == 200
    for job, expected in (("g", "r2"), ("g/a", None)):
        state = (await http.get(f"/api/jobs/{job}")).json()["state"]
        assert state.get("request", {}).get("id") == expected
