"""A gateway for tests: a true HTTP server that records what it gets and answers as told.

It keeps the attempts of a job as the protocol says (`start`, `run`, `attempt`), and
nothing else of the fold. `plan` scripts the next answers; `away` closes the door.
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
from urllib.parse import unquote

DEADLINE = 20.0


class Got(NamedTuple):
    """One request as it came in."""

    job: str
    fields: dict[str, Any]
    path: str
    headers: dict[str, str]
    connection: int
    at: float


Answer = Callable[[Got], "tuple[int, dict[str, str], bytes] | None"]


def problem(status: int, detail: str, *, field: str | None = None) -> Answer:
    """An answer that is a problem; without a field if None."""
    body = {"status": status, "detail": detail} | ({"field": field} if field else {})
    headers = {"Content-Type": "application/problem+json"}
    return lambda _: (status, headers, json.dumps(body).encode())


def receipt(attempt: int, reason: str | None = None) -> Answer:
    """An answer to an update."""
    body = {"epoch": 1, "seq": 1, "attempt": attempt, "applied": reason is None, "reason": reason}
    return lambda _: (200, {}, json.dumps(body).encode())


def hang_up(_: Got) -> None:
    """An answer that never comes: the connection is closed instead."""


class Peer:
    """The server. `url` is where it is, `got` what came in."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.got: list[Got] = []
        self.plan: deque[Answer] = deque()
        self.always: Answer | None = None
        self.attempts: dict[str, tuple[int, str | None]] = {}
        self.connections: dict[int, socket.socket] = {}
        self._server = self._listen(0)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_for(self, condition: Callable[[list[Got]], Any]) -> Any:
        """Wait until `condition(got)` is true and return it."""
        with self.changed:
            result = self.changed.wait_for(lambda: condition(self.got), DEADLINE)
        assert result, [(g.job, g.fields) for g in self.got]
        return result

    def ends(self, job: str) -> list[Got]:
        """The requests that carried an end of `job`."""
        return [g for g in self.got if g.job == job and g.fields["status"] != "running"]

    def of(self, job: str) -> list[Got]:
        """The requests for `job`."""
        return [g for g in self.got if g.job == job]

    def go_away(self) -> None:
        """Stop listening, and reset all connections."""
        self._server.shutdown()
        self._server.server_close()
        self.kill_connections()

    def come_back(self) -> None:
        """Listen at the same port again."""
        self._server = self._listen(self.port)

    def kill_connections(self) -> None:
        """End every open connection, as a proxy does to idle ones."""
        with self.changed:
            for sock in self.connections.values():
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
            self.connections.clear()

    def _listen(self, port: int) -> ThreadingHTTPServer:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                peer.handle(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
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
        body = request.rfile.read(int(request.headers["Content-Length"]))
        job = unquote(request.path.removeprefix("/prefix").removeprefix("/api/jobs/"))
        got = Got(
            job,
            json.loads(body),
            request.path,
            dict(request.headers),
            id(request.connection),
            monotonic(),
        )
        with self.changed:
            self.connections[id(request.connection)] = request.connection
            self.got.append(got)
            answer = self.plan.popleft() if self.plan else self.always
            self.changed.notify_all()
        reply = answer(got) if answer else self._usual(got)
        if reply is None:
            request.close_connection = True
            return
        status, headers, content = reply
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _usual(self, got: Got) -> tuple[int, dict[str, str], bytes]:
        with self.changed:
            attempt, run = self.attempts.get(got.job, (0, None))
            if got.fields.get("start") and (run is None or got.fields["run"] != run):
                attempt, run = attempt + 1, got.fields["run"]
            attempt = max(attempt, got.fields.get("attempt", 1))
            self.attempts[got.job] = attempt, run
            stale = got.fields.get("attempt", attempt) < attempt
        reply = receipt(attempt, "stale_attempt" if stale else None)(got)
        assert reply is not None
        return reply
