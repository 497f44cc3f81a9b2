"""What the HTTP side answers when it does not answer what was asked for."""

from __future__ import annotations

import logging
import time
from typing import Any, NoReturn

import httpx
import pytest
import trio
from trio.testing import MockClock

from gateway import MemoryBroker, Node
from gateway.api import create_http_app
from gateway.auth.opening import open_gate
from gateway.metrics import Metrics
from tests.auth.signing import SECRET, sign


def client_of(node: Node) -> httpx.AsyncClient:
    app: Any = create_http_app(node)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_who_is_turned_away_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.api")
    node = Node(MemoryBroker(), gate=open_gate(secret=SECRET))
    rights = {"exp": time.time() + 60, "publish": ["mine:*"], "jti": "t1", "sub": "worker 7"}
    asked = [
        (f"Bearer {sign(rights)}", "/api/jobs/mine:1", 200),
        (f"Bearer {sign(rights)}", "/api/jobs/theirs:1", 403),
        ("Bearer nonsense", "/api/jobs/mine:1", 401),
        (f"Bearer {sign(rights)}", "/api/nothing", 405),
    ]
    async with client_of(node) as http:
        for shown, path, status in asked:
            answer = await http.post(path, headers={"authorization": shown}, content=b"{}")
            assert answer.status_code == status
    assert node.tally.problems == {401: 1, 403: 1, 405: 1}
    told = [vars(record) for record in caplog.records if record.name == "gateway.api"]
    forbidden, unknown = told
    assert forbidden["why"] == "The token does not allow to publish on this job."
    assert (forbidden["status"], forbidden["path"]) == (403, "/api/jobs/theirs:1")
    assert (forbidden["token"], forbidden["subject"]) == ("t1", "worker 7")
    assert (unknown["status"], unknown["path"]) == (401, "/api/jobs/mine:1")
    assert (unknown["token"], unknown["subject"]) == (None, None)
    written = Metrics(node).page().decode()
    assert 'gateway_problems_total{status="403"} 1.0' in written


async def test_those_an_alert_waits_for_are_there_from_the_start() -> None:
    written = Metrics(Node(MemoryBroker())).page().decode()
    for status in (401, 403):
        assert f'gateway_problems_total{{status="{status}"}} 0.0' in written


class EndlessLists(MemoryBroker):
    """A broker with so many lists to make that ours is never made."""

    async def recent(self, *args: Any, **query: Any) -> NoReturn:
        await trio.sleep_forever()


async def test_a_list_whose_turn_does_not_come_is_given_up(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with client_of(Node(EndlessLists())) as http:
        answer = await http.get("/api/jobs")
    assert trio.current_time() - began == 10
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["detail"] == "Too many lists are asked for."
