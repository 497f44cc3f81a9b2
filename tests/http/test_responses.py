"""HTTP error responses."""

from __future__ import annotations

import logging
import time
from typing import Any, NoReturn

import httpx
import pytest
import trio
from trio.testing import MockClock

from gateway import MemoryBroker, Node
from gateway.auth.factory import open_authenticator
from gateway.http.api import create_http_app
from gateway.http.metrics import Metrics
from tests.auth.signing import SECRET, sign


def client_of(node: Node) -> httpx.AsyncClient:
    app: Any = create_http_app(node)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_refused_clients_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.http")
    node = Node(MemoryBroker(), authenticator=open_authenticator(secret=SECRET))
    permissions = {"exp": time.time() + 60, "publish": ["mine:*"], "jti": "t1", "sub": "worker 7"}
    asked = [
        (f"Bearer {sign(permissions)}", "/api/jobs/mine:1", 200),
        (f"Bearer {sign(permissions)}", "/api/jobs/theirs:1", 403),
        ("Bearer nonsense", "/api/jobs/mine:1", 401),
        (f"Bearer {sign(permissions)}", "/api/nothing", 405),
    ]
    async with client_of(node) as http:
        for shown, path, status in asked:
            answer = await http.post(path, headers={"authorization": shown}, json={"percent": 1})
            assert answer.status_code == status
    assert node.counters.http_errors == {401: 1, 403: 1, 405: 1}
    received = [vars(record) for record in caplog.records if record.name == "gateway.http"]
    forbidden, unknown = received
    assert forbidden["reason"] == "The token does not allow its client to publish on this job."
    assert (forbidden["status"], forbidden["path"]) == (403, "/api/jobs/theirs:1")
    assert (forbidden["token_id"], forbidden["subject"]) == ("t1", "worker 7")
    assert (unknown["status"], unknown["path"]) == (401, "/api/jobs/mine:1")
    assert (unknown["token_id"], unknown["subject"]) == (None, None)
    written = Metrics(node).page().decode()
    assert 'progress_gateway_http_errors_total{status="403"} 1.0' in written


async def test_metrics_of_alerts_are_exported_from_the_start() -> None:
    written = Metrics(Node(MemoryBroker())).page().decode()
    for status in (401, 403):
        assert f'progress_gateway_http_errors_total{{status="{status}"}} 0.0' in written


class EndlessLists(MemoryBroker):
    """A broker that is so busy with lists that this one is never returned."""

    async def recent(self, *args: Any, **query: Any) -> NoReturn:
        await trio.sleep_forever()


async def test_a_list_that_waits_too_long_is_refused(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with client_of(Node(EndlessLists())) as http:
        answer = await http.get("/api/jobs")
    assert trio.current_time() - began == 10
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["detail"] == "Too many lists are being requested."


async def test_a_renewal_of_an_unknown_job_has_the_reason_unknown() -> None:
    node = Node(MemoryBroker())
    async with client_of(node) as http:
        for bare in ({}, {"run": "r"}, {"attempt": 2, "run": "r", "age": 9}):
            answer = await http.post("/api/jobs/a", json=bare)
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown")
            assert answer.headers["content-type"] == "application/problem+json"
        assert "`start: true`" in answer.json()["detail"]
        assert (await http.get("/api/jobs/a")).status_code == 404
        batch = [{"job": "a"}, {"job": "b", "percent": 1}, {"job": "b"}]
        unknown, applied, renewed = (await http.post("/api/jobs", json=batch)).json()
    assert (unknown["status"], unknown["code"]) == (404, "unknown")
    assert (applied["applied"], renewed["reason"]) == (True, "unchanged")
    assert node.counters.updates == {"unknown": 4, "applied": 1, "unchanged": 1}


async def test_an_update_of_another_run_has_an_explanation() -> None:
    async with client_of(Node(MemoryBroker())) as http:
        for run in ("r1", "r2"):
            await http.post("/api/jobs/a", json={"start": True, "run": run})
        answer = (await http.post("/api/jobs/a", json={"run": "r1", "percent": 5})).json()
    assert (answer["applied"], answer["reason"], answer["attempt"]) == (False, "other_run", 2)
    assert "`start: true` opens the next attempt" in answer["detail"]


async def test_an_update_after_the_end_explains_how_to_open_the_next_attempt() -> None:
    ended = {"attempt": 1, "status": "succeeded"}
    async with client_of(Node(MemoryBroker())) as http:
        assert "detail" not in (await http.post("/api/jobs/a", json=ended)).json()
        answer = (await http.post("/api/jobs/a", json={"percent": 1})).json()
        assert (answer["applied"], answer["reason"]) == (False, "final")
        assert "`start: true` opens its next attempt" in answer["detail"]
        [answer] = (await http.post("/api/jobs", json=[{"job": "a", "percent": 1}])).json()
        assert "`start: true`" in answer["detail"]
        assert (await http.post("/api/jobs/a", json={"start": True})).json()["attempt"] == 2
        answer = (await http.post("/api/jobs/a", json={"attempt": 1})).json()
        assert (answer["reason"], "later attempt" in answer["detail"]) == ("stale_attempt", True)
