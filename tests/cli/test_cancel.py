"""`gateway cancel`, against a real gateway and a real `gateway run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import httpx
import pytest

from tests.brokers.redis.server import Server, redis_server

from .conftest import address
from .processes import GATEWAY, Running

STUBBORN = """
import signal, time
signal.signal(15, signal.SIG_IGN)
print("x", flush=True)
time.sleep(60)
"""


def finish(*command: str) -> tuple[int, str]:
    with Running(*GATEWAY, *command) as running:
        return running.end(), running.output.decode() + running.errors


def publish(url: str, *fields: str) -> None:
    assert finish("publish", "a:1", "--url", url, *fields)[0] == 0


def test_a_job_that_cannot_be_cancelled_is_reported(url: str) -> None:
    code, text = finish("cancel", "a:1", "--url", url)
    assert (code, "No worker has reported this job" in text) == (1, True)
    publish(url, "--percent", "1")
    code, text = finish("cancel", "a:1", "--url", url)
    assert (code, "does not accept" in text) == (1, True)
    assert finish("cancel", "a:1", "--url", url, "--verb", "No!")[0] == 2
    assert finish("cancel", "a:1", "--url", "http://127.0.0.1:9")[0] == 3


def test_a_command_is_stopped_and_the_job_is_cancelled(url: str) -> None:
    with Running(*GATEWAY, "run", "a:1", "--url", url, "--", "sleep", "60") as running:
        while finish("cancel", "a:1", "--url", url)[0] != 0:  # until the gateway has the job
            assert running.process.poll() is None
        assert running.end() == 128 + 15
    code, text = finish("watch", "a:1", "--url", url)
    assert (code, "cancelled" in text.lower(), "SIGTERM" in text) == (1, True, True)


def test_a_command_that_ignores_sigterm_is_killed(url: str) -> None:
    command = ("run", "a:1", "--url", url, "--grace", "0.2", "--", sys.executable, "-c", STUBBORN)
    with Running(*GATEWAY, *command) as running:
        running.until("x")
        code, text = finish("cancel", "a:1", "--url", url, "--wait")
        assert (code, "cancelled" in text) == (0, True)
        assert running.end() == 128 + 9


ACCEPTING = {"percent": 1, "accepts": ["cancel", "pause"], "lease": 600}


def report(url: str, **fields: Any) -> None:
    httpx.post(f"{url}/api/jobs/a:1", json=fields, trust_env=False).raise_for_status()


def state_when(url: str, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Returns the job's state as soon as it fulfils the condition."""
    tag = ""
    while True:
        answer = httpx.get(
            f"{url}/api/jobs/a:1?wait=10", headers={"if-none-match": tag}, trust_env=False
        )
        if answer.status_code != 304:
            tag = answer.headers["etag"]
            state: dict[str, Any] = answer.json()["state"]
            if condition(state):
                return state


def request_when_sent(url: str) -> str:
    request: str = state_when(url, lambda state: "request" in state)["request"]["id"]
    return request


def test_a_second_cancel_that_waits_is_told_the_refusal_of_the_first(url: str) -> None:
    report(url, **ACCEPTING)
    assert finish("cancel", "a:1", "--url", url)[0] == 0
    first = request_when_sent(url)
    with Running(*GATEWAY, "cancel", "a:1", "--url", url, "--wait") as second_command:
        while 'result="unchanged"} 1' not in httpx.get(f"{url}/metrics", trust_env=False).text:
            assert second_command.process.poll() is None
        report(url, ack=first, refused="it is uploading")
        assert (second_command.end(), second_command.errors) == (
            1,
            "a:1: refused: it is uploading\n",
        )


def test_another_verb_is_waited_for_until_the_worker_has_received_it(url: str) -> None:
    report(url, **ACCEPTING)
    command = ("cancel", "a:1", "--url", url, "--verb", "pause", "--wait")
    with Running(*GATEWAY, *command) as running:
        report(url, ack=request_when_sent(url))
        assert (running.end(), running.output) == (0, b"a:1: pause received\n")


def test_the_next_attempt_ends_the_wait(url: str) -> None:
    report(url, **ACCEPTING)
    with Running(*GATEWAY, "cancel", "a:1", "--url", url, "--wait") as running:
        request_when_sent(url)
        report(url, start=True, run="next")
        assert (running.end(), running.errors) == (1, "a:1: another attempt has begun\n")


def test_a_silent_worker_is_named_when_the_time_is_up(url: str) -> None:
    report(url, **ACCEPTING | {"lease": 1})
    state_when(url, lambda state: state["health"] == "stalled")
    code, text = finish("cancel", "a:1", "--url", url, "--wait", "--timeout", "1")
    assert (code, text) == (1, "a:1: still running, and stalled\n")


def test_waiting_continues_after_an_outage_of_the_gateway() -> None:
    redis = Server(redis_server())
    serve = (*GATEWAY, "serve", "--redis", redis.url, "--bind")
    with Running(*serve, "127.0.0.1:0") as node:
        url = address(node)
        report(url, **ACCEPTING)
        with Running(*GATEWAY, "cancel", "a:1", "--url", url, "--wait") as waiting:
            request_when_sent(url)
            node.process.kill()
            node.process.wait()
            with Running(*serve, url.removeprefix("http://")) as successor:
                address(successor)
                report(url, status="cancelled")
                assert (waiting.end(), waiting.output) == (0, b"a:1: cancelled\n")
    redis.close()


class LosesFirstAnswer(BaseHTTPRequestHandler):
    """Passes requests on, and closes the connection of the first POST without its answer."""

    gateway = ""
    posts: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self._pass_on("POST", body, lost=not self.posts)

    def do_GET(self) -> None:
        self._pass_on("GET")

    def _pass_on(self, method: str, body: bytes = b"", *, lost: bool = False) -> None:
        if method == "POST":
            self.posts.append(body)
        answer = httpx.request(
            method, self.gateway + self.path, content=body, timeout=40, trust_env=False
        )
        if lost:
            return
        self.send_response(answer.status_code)
        for name in ("content-type", "content-length", "etag"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *args: object) -> None:
        """Logs nothing, to keep the output of the tests readable."""


@pytest.mark.parametrize("ends", ["before the second", "after the second"])
def test_a_request_whose_answer_was_lost_is_sent_again_with_its_id(url: str, ends: str) -> None:
    report(url, **ACCEPTING)
    handler: Any = type("Handler", (LosesFirstAnswer,), {"gateway": url, "posts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        proxy = f"http://127.0.0.1:{server.server_port}"
        with Running(*GATEWAY, "cancel", "a:1", "--url", proxy, "--wait") as waiting:
            request_when_sent(url)
            while ends == "after the second" and len(handler.posts) < 2:
                assert waiting.process.poll() is None
            report(url, status="cancelled")
            assert (waiting.end(), waiting.output) == (0, b"a:1: cancelled\n")
        server.shutdown()
    first, second = (json.loads(body) for body in handler.posts)
    assert first == second
