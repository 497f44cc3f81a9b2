"""The clients that watch: over WebSocket, SSE, GET, lists and long polls. Each is connected to the
ASGI application of a node. Everything that it receives is checked.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import trio
from attrs import define, field

from gateway.cli.watch.frames import parse_frames
from gateway.cli.watch.job_states import JobStates
from gateway.model.errors import TransportClosed
from gateway.protocol.close_codes import CloseCode
from gateway.protocol.messages import Message
from gateway.transports.admission import admit
from gateway.transports.asgi_websocket import serve_asgi_websocket
from gateway.transports.sse import NO_POSITIONS

from .checks import Observer, Violated
from .reference import ReferenceClient, returns_after

if TYPE_CHECKING:
    from .hosts import Host
    from .world import World

__all__ = ["Line", "Watcher", "request"]

PACE = 3.0
"""Seconds within which every stream has received a write, while there is no fault."""
BUFFER = 64
"""Messages between a node and a client that does not read."""
ANSWER_WITHIN = 40.0
"""Virtual seconds after which a request without a response counts as hung: longer than everything
it may wait for (a long poll of 20 s, a call of 7 s, a turn among lists of 10 s)."""
HEADERS = [(b"host", b"localhost"), (b"origin", b"http://localhost")]


class Gone(Exception):
    """The connection has ended, with this close code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Line:
    """One ASGI connection between a client and a host; each side may disconnect."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._to_host, self._at_host = trio.open_memory_channel[dict[str, Any]](1_000)
        self._to_client, self._at_client = trio.open_memory_channel[dict[str, Any]](BUFFER)
        self.deserted = False

    async def receive(self) -> dict[str, Any]:
        try:
            return await self._at_host.receive()
        except trio.EndOfChannel:
            await trio.lowlevel.checkpoint()
            return {"type": self._gone}

    _gone = "websocket.disconnect"

    async def send(self, event: Any) -> None:
        try:
            await self._to_client.send(dict(event))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.deserted = True
            await trio.lowlevel.checkpoint()  # like hypercorn, without an error

    def client_send(self, event: dict[str, Any]) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.WouldBlock):
            self._to_host.send_nowait(event)

    def offer(self, event: dict[str, Any]) -> bool:
        """Send without waiting; False if the buffer is full."""
        try:
            self._to_client.send_nowait(event)
        except trio.WouldBlock:
            return False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.deserted = True
            raise TransportClosed("the client is gone") from None
        return True

    async def client_receive(self) -> dict[str, Any]:
        """The next event. Raises `Gone` if the other side has disconnected."""
        try:
            event = await self._at_client.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise Gone(1006) from None
        return event

    def hang_up(self) -> None:
        """Disconnect the client: its process or the network has failed."""
        self._to_host.close()
        self._at_client.close()

    def host_is_gone(self) -> None:
        self._to_client.close()
        self._at_host.close()


class HttpLine(Line):
    _gone = "http.disconnect"


def http_scope(method: str, path: str, query: str, headers: list[tuple[bytes, bytes]]) -> Any:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http",
        "headers": HEADERS + headers,
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def request(
    host: Host,
    method: str,
    path: str,
    *,
    query: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> tuple[int, dict[str, str], bytes]:
    """Send an HTTP request. Raises `Gone` if the host is killed before it has responded."""
    line = HttpLine(host)
    sent = [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
    if host.world.token is not None and "authorization" not in (headers or {}):
        sent.append((b"authorization", f"Bearer {host.world.token}".encode()))
    if body:
        sent.append((b"content-type", b"application/json"))
        sent.append((b"content-length", b"%d" % len(body)))
    scope = http_scope(method, path, urlencode(query or {}, doseq=True), sent)
    line.client_send({"type": "http.request", "body": body, "more_body": False})
    host.serve(line, host.http, scope)
    status, answer_headers, answer = 0, {}, b""
    try:
        while True:
            event = await line.client_receive()
            if event["type"] == "http.response.start":
                status = event["status"]
                answer_headers = {n.decode(): v.decode() for n, v in event["headers"]}
            else:
                answer += event.get("body", b"")
                if not event.get("more_body"):
                    return status, answer_headers, answer
    finally:
        line.hang_up()


class _Source:
    """A source like that of the gateway's own WebSocket transport, over a simulated connection."""

    answers_pings = False

    def __init__(self, line: Line) -> None:
        self._line = line
        self.received_at = trio.current_time()

    async def receive(self) -> str:
        event = await self._line.receive()
        if event["type"] != "websocket.receive":
            raise TransportClosed("the client is gone")
        self.received_at = trio.current_time()
        text: str = event["text"]
        return text


class _Sink:
    """A sink like that of the gateway's own WebSocket transport: it accepts what fits into the
    buffer, so the fan-out can write to it."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._rest: list[dict[str, Any]] = []

    def send(self, messages: Sequence[Message]) -> bool:
        assert not self._rest, "send without flush"
        self._rest = [
            {"type": "websocket.send", "text": text.decode()}
            for message in messages
            for text in message.texts
        ]
        while self._rest and self._line.offer(self._rest[0]):
            del self._rest[0]
        return not self._rest

    def ping(self) -> bool:
        return True

    async def flush(self) -> None:
        while self._rest:
            if self._line.deserted:
                raise TransportClosed("the client is gone")
            await self._line.send(self._rest[0])
            del self._rest[0]

    async def close(self, close_code: CloseCode) -> None:
        with trio.move_on_after(1):
            await self._line.send({"type": "websocket.close", "code": close_code.code})

    def abort(self) -> None:
        self._line.host_is_gone()


@define(eq=False, slots=False)
class Watcher:
    """One client. `kind` is its means of watching."""

    name: str
    kind: str
    jobs: list[str]
    world: World
    rng: random.Random
    mode: str = "latest"
    reference: ReferenceClient = field(factory=ReferenceClient)
    stalled_until: float = 0.0
    observer: Observer = field(init=False)
    stale: bool = False
    connected: bool = False
    line: Line | None = None
    host: Host | None = None
    since: float = 0.0
    """When it received `welcome`."""
    accepts_immediately: bool = False
    """Whether it uses the sink of the gateway's own WebSocket transport, not that of an ASGI
    server."""
    watch: JobStates = field(init=False)
    """The implementation of the client's rule in `gateway watch`, which must agree."""
    _subscribed_on: Line | None = None
    """The connection on which it has subscribed."""
    _changed_at: float = 0.0
    """When it last changed its subscriptions."""
    _ids: int = 0
    _unsubscribed: set[str] = field(factory=set)
    """Jobs from which it is unsubscribed at the moment."""
    _unsubscribed_by: dict[str, int] = field(factory=dict)
    """The jobs that it has unsubscribed from on this connection, with the number of the command; 0:
    it was answered."""

    def __attrs_post_init__(self) -> None:
        self.observer = Observer(self.name)
        self.accepts_immediately = self.rng.random() < 0.6
        self.watch = JobStates(self.jobs)

    def note(self, text: str) -> None:
        self.world.note(f"{self.name} {text}")

    @property
    def token(self) -> str | None:
        """The token that it sends; None if none is required."""
        return self.world.token

    @property
    def rate_factor(self) -> float:
        return 10 if self.world.scenario.restless else 1

    @property
    def streamed_jobs(self) -> list[str]:
        """The jobs in its stream, since `streaming_since`."""
        return [job for job in self.jobs if job not in self._unsubscribed]

    @property
    def streaming_since(self) -> float | None:
        """Since when it has had a stream of the jobs that it watches; None: it has none now."""
        streams = ("websocket", "sse", "set", "set_sse")
        if not self.connected or self.line is None or self.kind not in streams:
            return None
        return max(self.since, self.stalled_until, self._changed_at)

    scope: trio.CancelScope | None = None

    async def run(self) -> None:
        """Run until its `scope` is cancelled."""
        with trio.CancelScope() as self.scope:
            await self._run()

    async def _run(self) -> None:
        watch: Callable[[Host], Any] = getattr(self, f"_{self.kind}")
        failures = 0
        while True:
            host = self.world.some_host(self.rng)
            if host is not None:
                try:
                    await watch(host)
                    failures = 0
                except Gone as gone:
                    self.connected = False
                    self.note(f"lost {host.name}: {gone.code}")
                    if not returns_after(gone.code):
                        raise Violated(f"the end: {self.name} was sent away: {gone}") from gone
                finally:
                    self.line = None
            failures += 1
            await trio.sleep(self.rng.uniform(0.05, min(0.1 * 2**failures, 1.0)))

    def hang_up(self) -> None:
        if self.line is not None:
            self.line.hang_up()

    async def _until_unstalled(self) -> None:
        if self.stalled_until > trio.current_time():
            await trio.sleep_until(self.stalled_until)

    def _check_answered(self, deadline: trio.CancelScope, host: Host, what: str) -> None:
        """Checks that there was a response before the deadline, unless the node was paused."""
        if deadline.cancelled_caught:
            if host.process.paused_until > trio.current_time() - ANSWER_WITHIN:
                raise Gone(1006)
            raise Violated(f"no hang: {what} of {self.name} has no answer")

    def _show(self, job: str, frame: dict[str, Any], how: str) -> None:
        state = frame["state"]
        self.note(f"{how} {job} {frame['epoch']}:{frame['seq']} {brief(state)}")
        self.world.checks.shown(
            self.observer, job, frame["epoch"], frame["seq"], state, how=f"{how} of {self.name}"
        )
        wrong = self.world.group_model.shown(job, frame["epoch"], frame["seq"], state)
        if wrong is not None:
            raise Violated(f"{wrong}, by {how} of {self.name}")

    # -- WebSocket -------------------------------------------------------------

    async def _websocket(self, host: Host) -> None:
        line = self.line = Line(host)
        self._unsubscribed_by.clear()
        self.host = host
        scope = {
            "type": "websocket", "path": "/ws", "root_path": "", "headers": HEADERS,
            "subprotocols": ["progress.v1"] if self.rng.random() < 0.8 else [],
            "client": ("127.0.0.1", 50_000),
        }  # fmt: skip

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if self.accepts_immediately:
                await send({"type": "websocket.accept"})
                await receive()
                headers = {"host": "localhost", "origin": "http://localhost"}
                admission = await admit(headers, path="/ws", node=host.node)
                await admission.serve(_Source(line), _Sink(line), node=host.node, address="")
            else:
                await serve_asgi_websocket(scope, receive, send, node=host.node)
            await send({"type": "websocket.close", "code": 1006})

        line.client_send({"type": "websocket.connect"})
        self._node_was_stale = host.node.stale_reason is not None
        host.serve(line, app, scope)
        try:
            with trio.move_on_after(ANSWER_WITHIN) as deadline:
                await line.client_receive()  # accept
            self._check_answered(deadline, host, "a WebSocket")
            positions = self._positions()
            self.note(f"connects to {host.name} with {positions}")
            hello: dict[str, Any] = {"type": "hello", "positions": positions}
            if self.token is not None:
                hello["token"] = self.token
            if self.rng.random() < 0.3:
                hello["max_hz"] = self.rng.choice([1, 5, 30])
            self._send_command(line, hello)
            self._subscribe_to_all(line)
            while True:
                await self._until_unstalled()
                event = await line.client_receive()
                if event["type"] == "websocket.close":
                    raise Gone(event["code"])
                await trio.sleep(self.rng.uniform(0.0005, 0.01))
                for text in event["text"].split("\n"):
                    self._handle_frame(line, json.loads(text))
                if self.rng.random() < 0.01 * self.rate_factor and not self.world.quiescing:
                    self._change_subscriptions(line)
        finally:
            line.hang_up()

    def _positions(self) -> dict[str, Any]:
        """Begins a connection; returns the positions for its `hello`."""
        return self._some_of(self.reference.begin())

    def _some_of(self, positions: dict[str, Any]) -> dict[str, Any]:
        """Returns at least one of the positions: a client sends as many as fit into a message."""
        if len(positions) < 2 or self.rng.random() < 0.7:
            return positions
        return dict(list(positions.items())[: self.rng.randint(1, len(positions) - 1)])

    def _subscribe_to_all(self, line: Line) -> None:
        """Subscribe to the jobs that it watches."""
        self._subscribe(line, [job for job in self.jobs if job not in self._unsubscribed])

    def _send_command(self, line: Line, command: dict[str, Any]) -> None:
        line.client_send({"type": "websocket.receive", "text": json.dumps(command)})

    def _subscribe(self, line: Line, jobs: list[str]) -> None:
        self._ids += 1
        self._subscribed_on = line
        self._changed_at = trio.current_time()
        for job in jobs:
            self._unsubscribed_by.pop(job, None)
            self.reference.asks(job, self._ids)
        kind = "sync_subscriptions" if self.rng.random() < 0.5 else "subscribe"
        if set(jobs) != set(self.jobs) - self._unsubscribed:
            kind = "subscribe"
        self._send_command(line, {"type": kind, "id": self._ids, "jobs": jobs, "mode": self.mode})

    def _change_subscriptions(self, line: Line) -> None:
        job = self.rng.choice(self.jobs)
        self.note(f"flips {job}")
        if job in self._unsubscribed:
            self._unsubscribed.discard(job)
            self._subscribe(line, [job])
        elif len(self._unsubscribed) < len(self.jobs) - 1:
            self._unsubscribed.add(job)
            self.reference.leaves(job)
            self.watch._positions.pop(job, None)
            self._ids += 1
            self._unsubscribed_by[job] = self._ids
            if self.rng.random() < 0.5:
                self._send_command(line, {"type": "unsubscribe", "id": self._ids, "jobs": [job]})
            else:
                command = {"type": "sync_subscriptions", "id": self._ids, "mode": self.mode}
                self._send_command(line, command | {"jobs": self.streamed_jobs})

    def resubscribe(self) -> None:
        """Subscribe to all its jobs again."""
        if self.line is not None and self._unsubscribed and self._subscribed_on is self.line:
            jobs, self._unsubscribed = sorted(self._unsubscribed), set()
            self._subscribe(self.line, jobs)
        self._unsubscribed = set()

    def _handle_frame(self, line: Line, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "welcome":
                self.connected = True
                self.since = trio.current_time()
                self.stale = bool(frame.get("stale"))
                self._check_welcome()
            case "feed":
                self.stale = frame["stale"]
                self.note(f"stale: {self.stale}")
            case "subscriptions":
                if frame["id"] is not None:
                    self.reference.answered(frame["id"])
                    answered = [
                        job for job, id_ in self._unsubscribed_by.items() if id_ <= frame["id"]
                    ]
                    self._unsubscribed_by.update(dict.fromkeys(answered, 0))
                if frame["denied"]:
                    raise Violated(f"the end: {self.name} is denied {frame['denied']}")
            case "progress":
                self._progress(line, frame)
            case "ping":
                self._send_command(line, {"type": "pong"})
            case "error":
                raise Violated(f"protocol: {self.name} is told {frame}")

    _node_was_stale: bool = False
    """Whether the node was stale when this client connected."""

    def _check_welcome(self) -> None:
        if self._node_was_stale and self.host and self.host.node.stale_reason and not self.stale:
            raise Violated(f"fresh: the welcome of the stale {self.host.name} does not say so")

    def _progress(self, line: Line | None, frame: dict[str, Any]) -> None:
        job = frame["job"]
        if self._unsubscribed_by.get(job) == 0:
            raise Violated(f"contiguity: {self.name} has left {job}, and is sent {frame}")
        if job in self._unsubscribed:
            return
        verdict = self.reference.take(frame)
        if verdict != "ignored":
            ((_, parsed),) = parse_frames(json.dumps(frame))
            if self.watch.apply(parsed) != (verdict == "accepted"):  # type: ignore[arg-type]  # a frame of this type
                raise Violated(f"the client's rule: gateway watch differs about {frame}")
        if verdict == "violation":
            raise Violated(f"contiguity: {self.name} was sent {frame}")
        if verdict == "accepted":
            self._show(job, frame, "frame")

    # -- SSE -------------------------------------------------------------------

    async def _sse(self, host: Host) -> None:
        line = self.line = HttpLine(host)
        self.host = host
        query = self._query()
        headers = []
        if self._last_id:
            # A page, whose streams change their jobs, only says that it had a stream before.
            last_id = self._last_id if self.rng.random() < 0.7 else NO_POSITIONS
            headers.append((b"last-event-id", last_id.encode()))
        if self.token is not None:
            headers.append((b"authorization", f"Bearer {self.token}".encode()))
        line.client_send({"type": "http.request", "body": b"", "more_body": False})
        self.note(f"streams from {host.name} after {self._last_id}")
        self._node_was_stale = host.node.stale_reason is not None
        host.serve(line, host.http, http_scope("GET", "/api/events", query, headers))
        try:
            while True:
                await self._until_unstalled()
                event = await line.client_receive()
                if event["type"] == "http.response.start":
                    if event["status"] != 200:
                        raise Gone(1013)
                    continue
                for block in event["body"].decode().split("\n\n"):
                    fields = dict(row.split(": ", 1) for row in block.split("\n") if ": " in row)
                    if "data" in fields:
                        self._handle_sse_event(fields)
                if not event.get("more_body"):
                    raise Gone(1001)
        finally:
            line.hang_up()

    def _query(self) -> str:
        """Begin a stream; returns its query."""
        self.reference.begin()
        return urlencode({"job": self.jobs, "mode": self.mode}, doseq=True)

    def _handle_event(self, frame: dict[str, Any]) -> None:
        """Handle a frame that is not a state."""

    _last_id: str = ""

    def _handle_sse_event(self, fields: dict[str, str]) -> None:
        frame = json.loads(fields["data"])
        match frame["type"]:
            case "welcome":
                self.connected = True
                self.since = trio.current_time()
                self.stale = bool(frame.get("stale"))
                self._check_welcome()
            case "feed":
                self.stale = frame["stale"]
            case "progress":
                self._progress(None, frame)
            case _:
                self._handle_event(frame)
        self._last_id = fields.get("id", self._last_id)

    # -- requests ---------------------------------------------------------------

    async def _get(self, host: Host) -> None:
        await self._reads(host, wait=False)

    async def _poll(self, host: Host) -> None:
        await self._reads(host, wait=True)

    async def _reads(self, host: Host, *, wait: bool) -> None:
        self.connected = True
        for job in self.jobs:
            await self._until_unstalled()
            headers = {}
            tag = self._tags.get(job)
            if tag and self.rng.random() < 0.8:
                headers["if-none-match"] = tag
            query = {"wait": "20"} if wait else {}
            began = trio.current_time()
            with trio.move_on_after(ANSWER_WITHIN) as deadline:
                status, response_headers, body = await request(
                    host, "GET", f"/api/jobs/{job}", query=query, headers=headers
                )
            self._check_answered(deadline, host, f"GET {job}")
            how = f"GET of {self.name}"
            if status == 200:
                document = json.loads(body)
                self._tags[job] = response_headers["etag"]
                self._show(job, document, "poll" if wait else "get")
                self.world.checks.read(job, document["state"], since=began, how=how)
                self.reference.shown[job] = document["state"]
            elif status == 404:
                self.note(f"get {job} 404")
                self.reference.shown[job] = None
                self._tags.pop(job, None)
                self.world.checks.read(job, None, since=began, how=how)
            elif status != 304:
                self.note(f"get {job} {status}")
                if status != 503:
                    raise Violated(f"no trouble: GET {job} answers {status} {body!r}")
        if not wait:
            await trio.sleep(self.rng.uniform(0.2, 2.0) / self.rate_factor)

    _tags: dict[str, str] = field(factory=dict)

    async def _list(self, host: Host) -> None:
        self.connected = True
        await self._until_unstalled()
        began = trio.current_time()
        with trio.move_on_after(ANSWER_WITHIN) as deadline:
            status, _, body = await request(host, "GET", "/api/jobs", query={"limit": "100"})
        self._check_answered(deadline, host, "a list")
        if status == 200:
            found = {row["job"]: row for row in json.loads(body)["jobs"]}
            for job in self.jobs:
                if job in found:
                    self._show(job, found[job], "list")
                    self.world.checks.read(
                        job, found[job]["state"], since=began, how=f"list of {self.name}"
                    )
                    self.reference.shown[job] = found[job]["state"]
                else:
                    self.reference.shown[job] = None
                    self.world.checks.read(job, None, since=began, how=f"list of {self.name}")
        else:
            self.note(f"list {status}")
            if status != 503:
                raise Violated(f"no trouble: a list answers {status} {body!r}")
        await trio.sleep(self.rng.uniform(0.2, 2.0) / self.rate_factor)


def brief(state: dict[str, Any] | None) -> str:
    """A state in short form, for the trace."""
    if state is None:
        return "unknown"
    parts = [f"#{state['attempt']}", state["status"], f"{state.get('percent')}%", state["health"]]
    return " ".join(parts) + (f" {state['message']}" if "message" in state else "")
