"""What the HTTP side answers when it does not answer what was asked for."""

from __future__ import annotations

from typing import Any, NoReturn

import httpx
import trio
from trio.testing import MockClock

from gateway import MemoryBroker, Node
from gateway.api import create_http_app


def client_of(node: Node) -> httpx.AsyncClient:
    app: Any = create_http_app(node)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


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
