"""The ASGI application under other servers: it runs, or explains in one line why it does not."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config

from gateway import Limits, MemoryBroker
from gateway.asgi_app import NEEDS_LIFESPAN, NEEDS_TRIO, create_app
from gateway.transports import hypercorn_guard
from gateway.transports.asgi_types import ASGIApp, Message
from tests.brokers.redis.server import Server, redis_server
from tests.e2e.client import PATIENCE, open_client
from tests.e2e.hosts import ROOT, in_process, printed


@asynccontextmanager
async def hosted(app: Any) -> AsyncIterator[int]:
    """Yields the port of an application under hypercorn."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("hypercorn.error")
    config.graceful_timeout = 1.0
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        serve = partial(hypercorn.trio.serve, app, config, shutdown_trigger=stop.wait)
        (url,) = await nursery.start(serve)
        yield int(url.rpartition(":")[2])
        stop.set()


def recipe() -> str:
    """Returns the example of docs/embedding.md, unchanged."""
    text = Path(ROOT, "docs/embedding.md").read_text()
    section = text[text.index("## Mounting in another application") :]
    return section.split("```python\n")[1].split("```")[0]


def mounted() -> tuple[Any, Any]:
    """Returns the application of the recipe, and the gateway in it."""
    names: dict[str, Any] = {}
    exec(recipe(), names)  # noqa: S102 - of our own documentation
    return names["app"], names["gateway"]


# Mounted


async def test_the_documented_mount_works() -> None:
    app, gateway = mounted()
    async with hosted(app) as port:
        url = f"http://127.0.0.1:{port}"
        async with (
            open_client(port, path="/progress/ws") as client,
            httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http,
        ):
            await client.receive_type("welcome")
            await client.request("subscribe", jobs=["video:42"])
            assert (await client.receive())["state"] is None
            answer = await http.post("/progress/api/jobs/video:42", json={"percent": 1})
            assert answer.json()["seq"] == 1
            assert (await client.receive())["state"]["percent"] == 1
            await gateway.publish("video:42", percent=2)
            assert (await client.receive())["state"]["percent"] == 2
            got = await http.get("/progress/api/jobs/video:42")
            assert got.json()["state"]["percent"] == 2
            listed = await http.get("/progress/api/jobs")
            assert [job["job"] for job in listed.json()["jobs"]] == ["video:42"]
            assert (await http.get("/progress/")).status_code == 200
            assert (await http.get("/progress/readyz")).status_code == 200


async def test_a_mount_without_lifespan_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async with hosted(Starlette(routes=[Mount("/progress", create_app())])) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            for path in ("/progress/api/jobs/a", "/progress/readyz", "/progress/"):
                answer = await http.get(path)
                assert (answer.status_code, answer.json()["detail"]) == (503, NEEDS_LIFESPAN)
            assert (await http.post("/progress/api/jobs/a", json={})).status_code == 503
        async with open_client(port, path="/progress/ws") as client:
            assert await client.close_code() == 1001
    records = [record for record in caplog.records if record.getMessage() == NEEDS_LIFESPAN]
    assert len(records) == 1


# Servers without Trio


async def document(app: ASGIApp, scope: dict[str, Any], *received: Message) -> list[Message]:
    """Returns what an application sends to a server."""
    sent_messages: list[Message] = []
    messages = iter(received)

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent_messages.append(message)

    await app(scope, receive, send)
    return sent_messages


def test_asyncio_is_refused_with_an_explanation(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    app = create_app()
    (failed,) = asyncio.run(document(app, {"type": "lifespan"}, {"type": "lifespan.startup"}))
    assert failed == {"type": "lifespan.startup.failed", "message": NEEDS_TRIO}
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [],
        "client": None,
    }
    start, body = asyncio.run(document(app, scope))
    assert start["status"] == 503
    assert NEEDS_TRIO.encode() in body["body"]
    accept, close = asyncio.run(document(app, {"type": "websocket"}, {"type": "websocket.connect"}))
    assert (accept["type"], close["code"]) == ("websocket.accept", 1001)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["hypercorn", "gateway.asgi:app", "--bind=127.0.0.1:0", "--error-logfile=/dev/stdout"],
        ["uvicorn", "gateway.asgi:app", "--port=0"],
    ],
    ids=["hypercorn", "uvicorn"],
)
async def test_a_server_on_asyncio_refuses_in_one_line_and_exits(arguments: list[str]) -> None:
    async with in_process("-m", *arguments) as process:
        assert NEEDS_TRIO.encode() in await printed(process, b"the gateway needs Trio")
        with trio.fail_after(20):
            await process.wait()  # hypercorn's exit code does not show it


@pytest.mark.slow
async def test_an_unavailable_redis_at_the_start_is_waited_for() -> None:
    redis = Server(redis_server())
    redis.kill()
    arguments = ["-m", "hypercorn", "-k", "trio", "gateway.asgi:app", "--bind=127.0.0.1:0"]
    environment = {"PROGRESS_GATEWAY_REDIS": redis.url}
    async with (
        in_process(*arguments, "--error-logfile=/dev/stdout", env=environment) as process,
        httpx.AsyncClient() as http,
    ):
        line = (await printed(process, b"Running on")).decode()
        url = re.findall(r"Running on (http://[\d.:]+)", line)[0]

        async def until_ready(status: int) -> httpx.Response:
            with trio.fail_after(PATIENCE):
                # There is no notification, so poll.
                while (answer := await http.get(f"{url}/readyz")).status_code != status:  # noqa: ASYNC110 - of another process
                    await trio.sleep(0.05)
            return answer

        assert "waiting for its broker" in (await until_ready(503)).text
        assert (await http.get(f"{url}/healthz")).status_code == 200
        redis.start()
        await until_ready(200)
        assert (await http.post(f"{url}/api/jobs/a", json={"percent": 1})).status_code == 200
    redis.close()


@pytest.mark.slow
async def test_with_exit_if_unavailable_the_server_ends() -> None:
    arguments = ["-m", "hypercorn", "-k", "trio", "gateway.asgi:app", "--bind=127.0.0.1:0"]
    environment = {
        "PROGRESS_GATEWAY_REDIS": "unix:///nowhere.sock",
        "PROGRESS_GATEWAY_EXIT_IF_UNAVAILABLE": "yes",
    }
    async with in_process(*arguments, env=environment) as process:
        assert b"nowhere.sock" in await printed(process, b"Lifespan failure in startup")
        with trio.fail_after(PATIENCE):
            await process.wait()


# Failures of the node


async def test_a_failed_start_is_reported_to_the_server() -> None:
    class Broken(MemoryBroker):
        def feed(self, **_: object) -> Any:
            raise OSError("no feed today")

    sent = await document(create_app(Broken()), {"type": "lifespan"}, {"type": "lifespan.startup"})
    assert sent == [{"type": "lifespan.startup.failed", "message": "no feed today"}]


async def test_a_failure_while_running_is_reported_to_the_server() -> None:
    app = create_app()
    messages: list[Message] = []

    async def receive() -> Message:
        if messages:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
        return {"type": "lifespan.startup"}

    async def fail() -> None:
        raise OSError("out of order")

    async def send(message: Message) -> None:
        messages.append(message)

    await app({"type": "lifespan"}, receive, send)
    assert [message["type"] for message in messages] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.failed",
    ]
    assert messages[1]["message"] == "out of order"


# Several processes


@pytest.mark.slow
async def test_several_processes_need_a_redis() -> None:
    arguments = ["-m", "hypercorn", "-k", "trio", "-w", "2", "gateway.asgi:app"]
    async with in_process(*arguments, "-b", "127.0.0.1:0", "-b", "127.0.0.1:0") as process:
        output = await printed(process, b"several server processes without a Redis")
        assert b"--redis" in output
        with trio.fail_after(30):
            await process.wait()  # hypercorn's exit code does not show it


@pytest.mark.slow
def test_the_single_process_lock_is_released_with_its_process(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import multiprocessing, sys, time
        from gateway.config.single_process import claim_single_process
        from gateway.model.errors import InvalidSettings

        def claim(shared, seconds, results):
            try:
                with claim_single_process(shared=shared):
                    results.put("claimed")
                    time.sleep(seconds)
            except InvalidSettings:
                results.put("refused")

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            results = context.Queue()
            first = context.Process(target=claim, args=(False, 60, results), daemon=True)
            first.start()
            print(results.get(timeout=20))
            for shared in (False, True):
                context.Process(target=claim, args=(shared, 0, results)).start()
                print(results.get(timeout=20))
            first.kill()
            first.join()
            context.Process(target=claim, args=(False, 0, results)).start()
            print(results.get(timeout=20))
    """)
    Path(tmp_path, "claims.py").write_text(program)
    result = subprocess.run(
        [sys.executable, tmp_path / "claims.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout.split() == ["claimed", "refused", "claimed", "claimed"], result.stderr


# The guard


async def test_another_version_of_hypercorn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(self: object) -> None:
        pass

    monkeypatch.setattr("hypercorn.trio.tcp_server.TCPServer.run", run)
    monkeypatch.setattr(hypercorn_guard, "version", lambda name: "0.19.0")
    (failed,) = await document(create_app(), {"type": "lifespan"}, {"type": "lifespan.startup"})
    assert failed["type"] == "lifespan.startup.failed"
    assert "hypercorn 0.19.0" in failed["message"]
    app = create_app(hypercorn_guard=False, limits=Limits(shutdown_timeout=0.1))
    sent = await document(
        app, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
    )
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
