"""A gateway for tests: a real HTTP server that records requests and sends scripted answers.

It keeps only the attempts of a job, like the protocol (`start`, `run`, `attempt`). `answers` has
the next answers; `stop` closes the port.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any, NamedTuple

DEADLINE = 20.0


class ReceivedRequest(NamedTuple):
    """One received update."""

    job: str
    fields: dict[str, Any]
    path: str
    headers: dict[str, str]
    connection: int
    at: float


Answer = Callable[[ReceivedRequest], "tuple[int, dict[str, str], bytes] | None"]


def problem(status: int, detail: str, *, field: str | None = None) -> Answer:
    """Returns an error as an answer, with the invalid field if there is one."""
    body = {"status": status, "detail": detail} | ({"field": field} if field else {})
    headers = {"Content-Type": "application/problem+json"}
    return lambda _: (status, headers, json.dumps(body).encode())


def acceptance(attempt: int, reason: str | None = None) -> Answer:
    """Returns an answer to an accepted update."""
    body = {"epoch": 1, "seq": 1, "attempt": attempt, "applied": reason is None, "reason": reason}
    return lambda _: (200, {}, json.dumps(body).encode())


def drop_connection(_: ReceivedRequest) -> None:
    """Closes the connection instead of answering."""


class FakeGateway:
    """The server. `url` is its address, `received` has the received updates."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.received: list[ReceivedRequest] = []
        self.answers: deque[Answer] = deque()
        self.default_answer: Answer | None = None
        self.attempts: dict[str, tuple[int, str | None]] = {}
        self.connections: dict[int, socket.socket] = {}
        self._server = self._listen(0)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_for(self, condition: Callable[[list[ReceivedRequest]], Any]) -> Any:
        """Waits until `condition(received)` is true, and returns its result."""
        with self.changed:
            result = self.changed.wait_for(lambda: condition(self.received), DEADLINE)
        assert result, [(g.job, g.fields) for g in self.received]
        return result

    def ends(self, job: str) -> list[ReceivedRequest]:
        """Returns the requests that carried an end of `job`."""
        return [g for g in self.received if g.job == job and g.fields["status"] != "running"]

    def requests_of(self, job: str) -> list[ReceivedRequest]:
        """Returns the requests for `job`."""
        return [g for g in self.received if g.job == job]

    def stop(self) -> None:
        """Stops listening, and resets all connections."""
        self._server.shutdown()
        self._server.server_close()
        self.drop_connections()

    def restart(self) -> None:
        """Listens at the same port again."""
        self._server = self._listen(self.port)

    def drop_connections(self) -> None:
        """Closes all open connections, like a proxy that closes idle ones."""
        with self.changed:
            for sock in self.connections.values():
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
            self.connections.clear()

    def _listen(self, port: int) -> ThreadingHTTPServer:
        fake_gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                fake_gateway.handle(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        server = Server(("127.0.0.1", port), Handler)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return server

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answers each update of a batch separately. If an answer has a status that a gateway does
        not use for a single update, it answers the whole request."""
        updates = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        answers: list[tuple[int, dict[str, str], bytes] | None] = []
        with self.changed:
            self.connections[id(request.connection)] = request.connection
        for fields in updates:
            received_request = ReceivedRequest(
                fields.pop("job"),
                fields,
                request.path,
                dict(request.headers),
                id(request.connection),
                monotonic(),
            )
            with self.changed:
                self.received.append(received_request)
                answer = self.answers.popleft() if self.answers else self.default_answer
                self.changed.notify_all()
            answers.append(answer(received_request) if answer else self._usual(received_request))
        if any(answer is None for answer in answers):
            request.close_connection = True
            return
        answers_to_all = [answer for answer in answers if answer is not None]
        odd = [answer for answer in answers_to_all if answer[0] != 200 and not _about_one(answer)]
        plain = [
            answer for answer in answers_to_all if answer[0] == 200 and not _is_object(answer[2])
        ]
        headers: dict[str, str] = {}
        if odd or plain:
            status, headers, content = (odd or plain)[0]
        else:
            status, content = 200, b"[%b]" % b",".join(answer[2] for answer in answers_to_all)
            for one in answers_to_all:
                headers |= {k: v for k, v in one[1].items() if k == "Connection"}
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _usual(self, got: ReceivedRequest) -> tuple[int, dict[str, str], bytes]:
        with self.changed:
            attempt, run = self.attempts.get(got.job, (0, None))
            if got.fields.get("start") and (run is None or got.fields["run"] != run):
                attempt, run = attempt + 1, got.fields["run"]
            attempt = max(attempt, got.fields.get("attempt", 1))
            self.attempts[got.job] = attempt, run
            stale = got.fields.get("attempt", attempt) < attempt
        reply = acceptance(attempt, "stale_attempt" if stale else None)(got)
        assert reply is not None
        return reply


def _about_one(answer: tuple[int, dict[str, str], bytes]) -> bool:
    """Returns whether this can be the answer to one update of a batch."""
    status, headers, content = answer
    return (
        headers.get("Content-Type") == "application/problem+json"
        and status < 500
        and status not in (401, 429)
        and bool(json.loads(content).get("status") == status)
    )


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False
