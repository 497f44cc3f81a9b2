"""The connection of `gateway watch`, to a gateway that follows a script of the test.

Deadlines of ten seconds and more are tried on a clock that jumps, with the other side in
memory; everything else over real sockets.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio_websocket import ConnectionClosed, WebSocketConnection, serve_websocket

from gateway import Gateway
from gateway.cli.watch.client import Refused, WatchClient
from gateway.cli.watch.follow import FIRST_MAX_PAUSE, LONGEST_MAX_PAUSE, backoff, follow
from gateway.cli.watch.job_states import JobStates
from gateway.worker.publisher import Token

Script = Callable[[WebSocketConnection], Awaitable[None]]


class RecordingDisplay:
    """A display that records its calls."""

    def __init__(self) -> None:
        self.connections: list[str] = []
        self.reasons: list[str] = []
        self.troubles: list[str] = []
        self.frames: list[str] = []

    def on_connected(self, node: str) -> None:
        self.connections.append(node)

    def on_disconnected(self, reason: str, seconds: float) -> None:
        self.reasons.append(reason)

    def on_progress(self, frame: str, job: str) -> None:
        self.frames.append(frame)

    def on_job_set(self, frame: str) -> None:
        self.frames.append(frame)

    def on_gap(self, frame: str, job: str) -> None:
        self.frames.append(frame)

    def on_warning(self, text: str) -> None:
        self.troubles.append(text)


WELCOME = {"type": "welcome", "node": "n1", "ping_interval": 25.0, "retry": [0, 0.01]}


def progress(prev: int | None, seq: int, status: str = "running") -> dict[str, Any]:
    state = {"status": status, "attempt": 1, "health": "ok", "created_at": 1, "updated_at": 1}
    frame = {"type": "progress", "job": "a", "epoch": 5, "prev": prev, "seq": seq, "state": state}
    return frame | ({"snapshot": True} if prev is None else {})


async def send(ws: WebSocketConnection, *frames: dict[str, Any]) -> None:
    await ws.send_message("\n".join(json.dumps(frame) for frame in frames))


async def receive(ws: WebSocketConnection) -> dict[str, Any]:
    received: dict[str, Any] = json.loads(await ws.get_message())
    return received


@asynccontextmanager
async def gateway_that(*scripts: Script) -> AsyncIterator[str]:
    """Yields a server: its first connection runs the first script, the second the second one, and
    so on."""
    left = iter(scripts)

    async def serve(request: Any) -> None:
        ws = await request.accept(subprotocol="progress.v1")
        with suppress(ConnectionClosed):
            await next(left)(ws)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, serve, "127.0.0.1", 0, None))
        yield f"http://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


async def follow_one(url: str, token: Token = None) -> tuple[JobStates, RecordingDisplay]:
    job_states, display = JobStates(["a"]), RecordingDisplay()
    with trio.fail_after(20):
        await follow(url, job_states, mode="latest", token=token, display=display)
    return job_states, display


async def test_a_violation_is_answered_by_a_resync() -> None:
    commands = []

    async def script(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        commands.extend([await receive(ws), await receive(ws)])
        await send(ws, progress(None, 1), progress(7, 8))
        commands.extend([await receive(ws), await receive(ws)])
        await send(ws, progress(None, 9, "succeeded"))

    async with gateway_that(script) as url:
        job_states, display = await follow_one(url)
    assert commands == [
        {"type": "hello", "positions": {}},
        {"type": "sync_subscriptions", "jobs": ["a"], "mode": "latest"},
        {"type": "unsubscribe", "jobs": ["a"]},
        {"type": "subscribe", "jobs": ["a"], "mode": "latest"},
    ]
    assert job_states.violations == 1
    assert job_states.succeeded
    assert [json.loads(text)["seq"] for text in display.frames] == [1, 9]


async def test_a_hello_has_as_many_positions_as_fit_into_a_message() -> None:
    jobs = [f"{'x' * 40}:{number}" for number in range(5)]
    greetings = []

    async def first(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        await receive(ws)
        await send(ws, *(progress(None, 4) | {"job": job} for job in jobs))
        await ws.aclose(4000, "heartbeat timeout")

    async def second(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME | {"limits": {"message": 300}})
        greetings.append(await receive(ws))
        await send(ws, *(progress(None, 6, "succeeded") | {"job": job} for job in jobs))

    job_states = JobStates(jobs)
    async with gateway_that(first, second) as url:
        with trio.fail_after(20):
            await follow(url, job_states, mode="latest", token=None, display=RecordingDisplay())
    assert list(greetings[0]["positions"]) == jobs[:3]
    assert len(json.dumps(greetings[0], separators=(",", ":"))) <= 300
    assert job_states.succeeded


async def test_it_reconnects_with_its_position() -> None:
    greetings = []

    async def first(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        greetings.append(await receive(ws))
        await send(ws, progress(None, 4))
        await ws.aclose(4000, "heartbeat timeout")

    async def second(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        greetings.append(await receive(ws))
        await send(ws, progress(4, 6, "succeeded"))

    async with gateway_that(first, second) as url:
        job_states, received = await follow_one(url)
    assert [greeting["positions"] for greeting in greetings] == [{}, {"a": [5, 4]}]
    assert received.reasons == ["heartbeat timeout (4000)"]
    assert job_states.succeeded
    assert job_states.violations == 0


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 4100, 4500, 4502, 4504, 4999])
async def test_close_codes_that_forbid_a_reconnect_end_it(code: int) -> None:
    async def script(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        await ws.aclose(code, "because")

    async with gateway_that(script) as url:
        with pytest.raises(Refused, match=rf"because \({code}\)"):
            await follow_one(url)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000, 4499])
async def test_close_codes_that_allow_a_reconnect_are_followed_by_one(code: int) -> None:
    async def leaves(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        await ws.aclose(code, "for now")

    async def stays(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME, progress(None, 1, "succeeded"))
        await receive(ws)

    async with gateway_that(leaves, stays) as url:
        known, received = await follow_one(url)
    assert known.succeeded
    assert received.reasons == [f"for now ({code})"]


@pytest.mark.parametrize("code", [4100, 4500, 4502])
async def test_a_token_file_is_read_for_each_connection(tmp_path: Path, code: int) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    tokens = []

    async def wants_another(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        tokens.append((await receive(ws))["token"])
        file.write_text("second\n")
        await ws.aclose(code, "another token")

    async def takes_it(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        tokens.append((await receive(ws))["token"])
        await send(ws, progress(None, 1, "succeeded"))
        await receive(ws)

    async with gateway_that(wants_another, takes_it) as url:
        known, received = await follow_one(url, file)
    assert known.succeeded
    assert tokens == ["first", "second"]
    assert received.reasons == [f"another token ({code})"]


async def test_an_empty_token_file_is_retried(tmp_path: Path) -> None:
    file = tmp_path / "token"

    class Late(RecordingDisplay):
        def on_disconnected(self, reason: str, seconds: float) -> None:
            super().on_disconnected(reason, seconds)
            file.write_text("there")

    tokens = []

    async def script(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME)
        tokens.append((await receive(ws))["token"])
        await send(ws, progress(None, 1, "succeeded"))
        await receive(ws)

    job_states, display = JobStates(["a"]), Late()
    async with gateway_that(script) as url:
        with trio.fail_after(20):
            await follow(url, job_states, mode="latest", token=file, display=display)
    assert job_states.succeeded
    assert tokens == ["there"]
    (reason,) = display.reasons
    assert reason.startswith(f"no token in {file}: ")


async def test_pings_are_answered_and_an_invalid_frame_closes_the_connection() -> None:
    answers = []

    async def first(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME, {"type": "ping"})
        answers.extend([await receive(ws), await receive(ws), await receive(ws)])
        await ws.send_message("nonsense")
        await ws.get_message()

    async def second(ws: WebSocketConnection) -> None:
        await ws.send_message(b"binary")
        await ws.get_message()

    async def third(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME, {"type": "error", "code": "odd", "message": "well"})
        await send(ws, progress(None, 1, "succeeded"))
        await receive(ws)

    async with gateway_that(first, second, third) as url:
        _, display = await follow_one(url)
    assert {"type": "pong"} in answers
    assert len(display.reasons) == 2
    assert display.reasons[1] == "the gateway sent a binary message"
    assert display.troubles == ["odd: well"]


async def test_a_denied_job_ends_the_watch() -> None:
    async def script(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME, {"type": "subscriptions", "denied": {"a": "too_many_jobs"}})
        await receive(ws)

    async with gateway_that(script) as url:
        with pytest.raises(Refused, match="a cannot be watched: too_many_jobs"):
            await follow_one(url)


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "subscriptions", "denied": {"a": "node_full"}},
        {"type": "subscriptions", "denied": {"a": "share_full"}},
        {"type": "error", "code": "node_full", "message": "10000 sets are watched"},
    ],
)
async def test_a_full_gateway_is_retried(answer: dict[str, Any]) -> None:
    async def full(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME, answer)
        await receive(ws)

    async def with_room(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME, progress(None, 1, "succeeded"))
        await receive(ws)

    async with gateway_that(full, with_room) as url:
        known, received = await follow_one(url)
    assert known.succeeded
    [reason] = received.reasons
    assert "cannot be watched" in reason


async def test_a_denied_job_of_a_set_does_not_end_the_watch() -> None:
    async def script(ws: WebSocketConnection) -> None:
        denied = {"type": "subscriptions", "denied": {"x:1": "node_full"}}
        await send(ws, WELCOME, denied, progress(None, 1, "succeeded"))
        await receive(ws)

    async with gateway_that(script) as url:
        known, received = await follow_one(url)
    assert known.succeeded
    assert received.troubles == ["x:1 cannot be watched: node_full"]


async def test_a_permanently_denied_job_ends_the_watch_despite_others() -> None:
    denied = {"b": "node_full", "a": "invalid_job"}

    async def script(ws: WebSocketConnection) -> None:
        await send(ws, WELCOME, {"type": "subscriptions", "denied": denied})
        await receive(ws)

    async with gateway_that(script) as url:
        with pytest.raises(Refused, match="a cannot be watched: invalid_job"):
            await follow_one(url)


async def test_an_exception_of_the_consumer_is_not_a_connection_error(gateway: Gateway) -> None:
    class Broken(RecordingDisplay):
        def on_progress(self, frame: str, job: str) -> None:
            raise BrokenPipeError

    with pytest.raises(BaseExceptionGroup) as caught, trio.fail_after(20):
        await follow(gateway.url, JobStates(["a"]), mode="every", token=None, display=Broken())
    assert caught.group_contains(BrokenPipeError)


class Silent:
    """A stream that accepts everything that is sent, and receives nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, Any]] = []

    async def send_message(self, text: str) -> None:
        self.sent.append((trio.current_time(), json.loads(text)))


async def test_a_silent_server_is_pinged_and_then_disconnected(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client = WatchClient(JobStates(["a"]), mode="latest", token=None, display=RecordingDisplay())
    client.received_at = started = trio.current_time()
    silent = Silent()
    with pytest.raises(trio.TooSlowError):
        await client._keep_alive(silent)  # type: ignore[arg-type]  # a fake
    assert silent.sent == [(started + 25, {"type": "ping"})]
    assert trio.current_time() == started + 35


async def test_each_received_frame_moves_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    client = WatchClient(JobStates(["a"]), mode="latest", token=None, display=RecordingDisplay())
    client.received_at = started = trio.current_time()
    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._keep_alive, Silent())  # type: ignore[arg-type]  # a fake
            while True:
                await trio.sleep(20)
                client.received_at = trio.current_time()
    assert trio.current_time() == started + 100


@given(st.integers(0, 5000), st.floats(0, 30), st.floats(0, 30), st.floats(0, 0.999))
def test_pauses_are_within_the_retry_window(
    failures: int, low: float, width: float, chance: float
) -> None:
    pause = backoff(failures, (low, low + width), chance)
    assert low <= pause <= max(LONGEST_MAX_PAUSE, low + width)


def test_the_retry_window_is_not_doubled() -> None:
    """The window already spreads the clients; after a short outage none should wait for long."""
    ends = [backoff(n, (0.5, 5.0), 0.999_999) for n in range(7)]
    assert ends == pytest.approx([5, 5, 5, 5, 8, 16, 20], rel=1e-3)


def test_pauses_grow_with_full_jitter() -> None:
    window = 0.0, FIRST_MAX_PAUSE
    assert [backoff(n, window, 0.0) for n in range(9)] == [0.0] * 9
    ends = [backoff(n, window, 0.999_999) for n in range(9)]
    assert ends == sorted(ends)
    assert ends[0] == pytest.approx(FIRST_MAX_PAUSE, rel=1e-3)
    assert ends[-1] == pytest.approx(LONGEST_MAX_PAUSE, rel=1e-3)
