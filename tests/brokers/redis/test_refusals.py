"""A Redis that answers with refusals: the reason is in the 503, in `/readyz`, in one line of the
log and in the output of `gateway check`. The documented ACL user of a node suffices."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
import pytest
import trio

from gateway import Node
from gateway.auth.factory import open_authenticator
from gateway.brokers.redis.broker import RedisBroker
from gateway.cli.finding import Finding
from gateway.cli.redis_checks import check
from gateway.http.api import create_http_app
from tests.auth.signing import SECRET, sign
from tests.brokers.redis.server import Server, redis_server, session_server
from tests.e2e.conftest import eventually
from tests.fakes import FakeSource, Sink

ROOT = Path(__file__).parents[3]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server of the session; for MISCONF one whose directory can be changed."""
    if "MISCONF" not in request.node.name:
        yield session_server()
        return
    with closing(Server(redis_server(), "--enable-protected-configs", "yes")) as server:
        yield server


@contextmanager
def configure(client: Any, before: str, **settings: Any) -> Iterator[None]:
    for name, value in settings.items():
        client.config_set(name.replace("_", "-"), value)
    try:
        yield
    finally:
        client.config_set(next(iter(settings)).replace("_", "-"), before)


@contextmanager
def misconf(client: Any) -> Iterator[None]:
    """Makes the server fail to save its data. The directory for it is a protected setting."""
    folder, before = mkdtemp(), client.config_get("dir")["dir"]
    client.config_set("dir", folder)
    shutil.rmtree(folder)
    with configure(client, "", save="3600 1000000"):
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield
    client.config_set("dir", before)
    client.bgsave()
    until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok")


def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@contextmanager
def without(client: Any, *rules: str) -> Iterator[None]:
    """Restricts the permissions of the server's user."""
    client.execute_command("ACL", "SETUSER", "default", *rules)
    try:
        yield
    finally:
        client.execute_command("ACL", "SETUSER", "default", "+@all", "allkeys")


@contextmanager
def replica(client: Any) -> Iterator[None]:
    client.replicaof("127.0.0.1", 9)
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


REFUSALS: dict[str, Callable[[Any], Any]] = {
    "MISCONF": misconf,
    "OOM": lambda client: configure(client, "0", maxmemory="1"),
    "NOREPLICAS": lambda client: configure(client, "0", min_replicas_to_write="1"),
    "READONLY": replica,
    "NOPERM of EVAL": lambda client: without(client, "-eval", "-evalsha"),
    "NOPERM of a key": lambda client: without(client, "resetkeys", "~other:*"),
    "NOPERM of XADD": lambda client: without(client, "-xadd"),
}


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[tuple[Node, httpx.AsyncClient]]:
    broker = RedisBroker(url)
    node = Node(broker)
    transport = httpx.ASGITransport(app=create_http_app(node))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(node.run, wait_for_broker=True))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield node, http
        nursery.cancel_scope.cancel()
    broker.close()


async def findings_of(url: str, *, tokens: bool = False) -> list[Finding]:
    return await trio.to_thread.run_sync(lambda: list(check(url, tokens=tokens)))


async def wait_for_ok(
    send_request: Callable[..., Awaitable[httpx.Response]], path: str, **more: Any
) -> None:
    """Returns when the node responds with 200. It checks the feed every 2 s, and sends a probe
    every 5 s."""
    with trio.fail_after(30):
        while (await send_request(path, **more)).status_code != 200:  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.05)


@pytest.mark.parametrize("name", REFUSALS)
async def test_the_reason_of_a_refusal_is_shown_everywhere(
    name: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    kind = name.split()[0]
    caplog.set_level(logging.INFO, "gateway.brokers.redis")
    async with serving(server.url) as (_, http):
        assert (await http.post("/api/jobs/a", json={"percent": 1})).status_code == 200
        lines: list[str] = []
        with REFUSALS[name](server.client):
            for number in range(3):
                answer = await http.post("/api/jobs/a", json={"percent": 2 + number})
                assert answer.status_code == 503
                if kind in answer.json()["detail"]:
                    break
            else:
                pytest.fail(f"the answer does not say why: {answer.text}")
            batch = await http.post("/api/jobs", json=[{"job": "a", "percent": 5}])
            assert batch.json()[0]["status"] == 503
            ready = await http.get("/readyz")
            assert ready.status_code == 503
            assert kind in ready.text
            said = [record.getMessage() for record in caplog.records]
            lines = [text for text in said if text.startswith("Redis refuses") and kind in text]
            findings = {finding.subject: finding for finding in await findings_of(server.url)}
        assert findings["trial"].grade == "FAIL"
        assert kind in findings["trial"].text
        assert len(lines) == 1
        await wait_for_ok(http.post, "/api/jobs/a", json={"percent": 6})
        await wait_for_ok(http.get, "/readyz")
    assert not server.client.keys("*check*")


@asynccontextmanager
async def refusing(error: str) -> AsyncIterator[str]:
    """Yields the URL of a server that answers each command with this error."""

    async def serve(stream: trio.SocketStream) -> None:
        async for data in stream:
            commands = len(re.findall(rb"^\*\d+\r$", data, re.MULTILINE))
            await stream.send_all(f"-{error}\r\n".encode() * commands)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        yield f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "error",
    [
        "LOADING Redis is loading the dataset in memory",
        "NOAUTH Authentication required.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "NOPERM this user has no permissions to run the 'info' command",
        "BUSY Redis is busy running a script.",
    ],
)
async def test_a_server_that_refuses_every_command_is_reported(
    error: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = error.split()[0]
    async with refusing(error) as url, serving(url) as (_, http):
        answer = await http.post("/api/jobs/a", json={"percent": 1})
        assert (answer.status_code, kind in answer.json()["detail"]) == (503, True)
        ready = await http.get("/readyz")
        assert (ready.status_code, kind in ready.json()["detail"]) == (503, True)
        (finding,) = await findings_of(url)
    assert (finding.grade, kind in finding.text) == ("FAIL", True)
    warnings = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert any(kind in text for text in warnings)


async def test_the_documented_acl_user_suffices_for_a_node(server: Server) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    (line,) = re.findall(r"^ACL SETUSER gateway .*$", page, re.MULTILINE)
    server.client.execute_command(*line.split())
    url = server.url.replace("//", "//gateway:password@")
    try:
        findings = await findings_of(url, tokens=True)
        assert {finding.subject for finding in findings if finding.grade != "OK"} <= {"latency"}
        async with _node_at_work(url, server):
            pass
        server.client.execute_command("ACL", "LOG", "RESET")
        scarce = ["-function|load", "-function|delete", "-config|get", "-scan"]
        server.client.execute_command("ACL", "SETUSER", "gateway", *scarce)
        async with _node_at_work(url, server):
            pass
        refused = {entry[b"object"] for entry in _acl_log(server)}
        assert refused <= {b"function|load", b"function|load|library"}
        finding_by_subject = {
            finding.subject: finding for finding in await findings_of(url, tokens=True)
        }
        assert finding_by_subject["trial"].grade == "OK"
        assert (finding_by_subject["functions"].grade, finding_by_subject["keys"].grade) == (
            "WARN",
            "OK",
        )
        assert "not examined" in finding_by_subject["keys"].text
    finally:
        server.client.acl_deluser("gateway")


def _acl_log(server: Server) -> list[dict[bytes, bytes]]:
    entries = server.client.execute_command("ACL", "LOG")
    return [
        entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
        for entry in entries
    ]


@asynccontextmanager
async def _node_at_work(url: str, server: Server) -> AsyncIterator[None]:
    """Yields a node that uses every command that a node ever uses, so that each one is tested."""
    server.client.flushall()
    broker = RedisBroker(url)
    node = Node(broker, authenticator=open_authenticator(secret=SECRET, broker_url=url))
    claims = {"sub": "all", "jti": "1", "watch": ["*"], "publish": ["*"], "control": ["*"]}
    token = sign({**claims, "revoke": True, "exp": time.time() + 600})
    transport = httpx.ASGITransport(app=create_http_app(node))
    headers = {"authorization": f"Bearer {token}"}
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as http:
            source, sink = FakeSource(), Sink()
            nursery.start_soon(node.serve, source, sink)
            await source.send(type="hello", token=token)
            await source.send(type="subscribe", jobs=["a", "b"], mode="every")
            await source.send(type="watch_set", prefix="a")
            for path, document in (
                ("jobs/a", {"start": True, "run": "r", "accepts": ["cancel"], "lease": 1}),
                ("jobs/a", {"percent": 10, "message": "m", "data": [1]}),
                ("jobs/a", {"data": None, "done": 1, "total": 9}),
                ("jobs/a/requests", {"verb": "cancel"}),
                ("jobs", [{"job": "b", "percent": 1}, {"job": "c", "status": "failed"}]),
                ("revocations", {"id": "other"}),
            ):
                answer = await http.post(f"/api/{path}", json=document)
                assert answer.is_success, answer.text
            for path in ("jobs", "jobs/a", "jobs/a/events", "jobs?prefix=b&status=running"):
                assert (await http.get(f"/api/{path}")).status_code == 200
            await eventually(lambda: len(sink.frames_of("progress")) >= 4)
            # Redis loses writes, including the event of a dropped job.
            server.client.delete("progress:last:a")
            server.client.hset("progress:counters", "server", "another")
            await eventually(lambda: sink.frames_of("progress")[-1]["epoch"] > 0)
            await wait_for_ok(http.get, "/api/jobs/a")
            server.client.hset("progress:counters", "checked_at", time.time() - 3_600)
            assert (await http.post("/api/jobs/a", json={"status": "failed"})).status_code == 200
            await broker.expire_leases()
            answer = await http.get("/readyz")
            assert (answer.status_code, broker.unavailable_reason) == (200, None), answer.text
            yield
        nursery.cancel_scope.cancel()
    broker.close()


async def test_check_reports_foreign_keys(server: Server) -> None:
    async with serving(server.url) as (_, http):
        for number in range(20):
            answer = await http.post(f"/api/jobs/ours:{number}", json={"percent": 1})
            assert answer.status_code == 200
        (keys,) = [
            finding for finding in await findings_of(server.url) if finding.subject == "keys"
        ]
        assert keys.grade == "OK"
        server.client.hset("progress:last:bad:1", mapping={"percent": "abc"})
        server.client.set("progress:last:text", "x")
        server.client.set("progress:something", "x")
        server.client.hset("progress:last:a//b", "v", "1")
        server.client.lpush("progress:log:list", "x")
        server.client.set("progressive", "another's")
        (keys,) = [
            finding for finding in await findings_of(server.url) if finding.subject == "keys"
        ]
        assert keys.grade == "WARN"
        assert ": 5 are not the gateway's" in keys.text
        assert server.client.get("progress:something") == b"x"
