"""HTTP/1.1 on our own port: the limits of a request apply to every method and path, few requests
begin at a time, and each address has a token bucket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from itertools import chain

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from gateway import Gateway, Limits, serve_gateway
from gateway.transports.connection_limits import ConnectionLimiter
from gateway.transports.start_limiter import StartLimiter
from tests.e2e.client import PATIENCE, connect
from tests.e2e.test_http_client import get, post

LIMITS = Limits(
    body_timeout=0.3, max_body=4096, max_batch_body=4096, close_timeout=0.3, shutdown_timeout=0.5
)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(serve_gateway, "127.0.0.1:0", None, LIMITS))
        nursery.cancel_scope.cancel()


@pytest.fixture
def port(gateway: Gateway) -> int:
    return gateway.addresses[0][1]


# Bounds


@pytest.mark.parametrize("path", ["/healthz", "/api/jobs", "/page.js", "/nothing", "/api/jobs/a"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "BREW"])
async def test_a_body_has_a_deadline_and_a_limit(port: int, method: str, path: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    for chunks, status in ((b"1\r\nx\r\n", 408), (b"800\r\n" + b"x" * 2048 + b"\r\n", 413)):
        async with connect(port) as raw:
            with trio.fail_after(PATIENCE):
                await raw.send(head.encode() + chunks * (1 if status == 408 else 3))
                got, headers, body = await raw.receive_response()
                assert (got, headers["content-type"]) == (status, "application/problem+json")
                assert json.loads(body)["status"] == status
                assert await raw.receive_rest() == b""


@pytest.mark.parametrize(("number", "status"), [(100, 200), (101, 431), (3_900, 431)])
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_number_of_headers_is_limited(
    gateway: Gateway, port: int, number: int, status: int, at_once: bool
) -> None:
    lines = [b"a:b\r\n"] * (number - 1)
    async with connect(port) as raw:
        await raw.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
        for some in [b"".join(lines)] if at_once else [b"".join(lines[:98]), *lines[98:105]]:
            await raw.send(some)
        await raw.send(b"\r\n")
        assert (await raw.receive_response())[0] == (status if at_once or number < 3_900 else 431)
        if status != 200:
            assert gateway.node.counters.http_errors[431] == 1


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://elsewhere.example/healthz", 200),
        ("http://elsewhere.example", 200),
        ("/healthz?", 200),
        ("*", 404),
        ("ftp://elsewhere.example/healthz", 400),
        ("healthz", 400),
        ("localhost:80", 400),
    ],
)
async def test_all_forms_of_a_request_target_are_parsed(
    port: int, target: str, status: int
) -> None:
    async with connect(port) as raw:
        await raw.send(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        assert (await raw.receive_response())[0] == status


# The fast path responds like the application.


@pytest.mark.parametrize(
    ("job", "body"),
    [
        ("a", b'{"percent":1}'),
        ("a", b'{"percent":101}'),
        ("a", b"{"),
        ("a/../b", b"{}"),
        ("a/b:c@d", b'{"status":"running"}'),
        ("x" * 201, b"{}"),
        ("unknown/a", b"{}"),
    ],
)
async def test_direct_and_routed_responses_are_equal(port: int, job: str, body: bytes) -> None:
    answers = []
    async with connect(port) as raw:
        for request in (
            post(job, body),
            post(job.replace("a", "%61", 1), body),  # escaped paths are routed
            post(job, body, x_a="b"),
            post(job, body, origin="http://localhost"),
        ):
            await raw.send(request)
            status, headers, answer = await raw.receive_response()
            document = json.loads(answer)
            for volatile in ("epoch", "seq", "applied", "reason"):
                document.pop(volatile, None)
            headers.pop("date")
            headers.pop("content-length")
            answers.append((status, headers, document))
    assert answers == [answers[0]] * 4


@pytest.mark.parametrize("path", ["/api/jobs/a", "/healthz"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("connection", ["", "connection: close\r\n", "connection: keep-alive\r\n"])
async def test_the_connection_header_is_respected(
    port: int, path: str, version: str, connection: str
) -> None:
    method = "POST" if "jobs" in path else "GET"
    body = '{"lease":30}' if "jobs" in path else ""
    request = (
        f"{method} {path} HTTP/{version}\r\nhost: localhost\r\n{connection}"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    kept = version == "1.1" and "close" not in connection
    async with connect(port) as raw:
        await raw.send(request)
        status, headers, _ = await raw.receive_response()
        assert status == 200
        assert (headers.get("connection") == "close") is not kept
        if kept:
            await raw.send(request)
            assert (await raw.receive_response())[0] == 200
        else:
            assert await raw.receive_rest() == b""


async def test_a_response_to_head_has_no_body(port: int) -> None:
    async with connect(port) as raw:
        await raw.send(get("/client.js").replace(b"GET", b"HEAD"))
        status, headers = await raw.receive_head()
        assert (status, int(headers["content-length"]) > 0) == (200, True)
        await raw.send(get("/healthz"))
        assert (await raw.receive_response())[0] == 200


# Turns


async def test_a_limited_number_enters_per_scheduler_pass(autojump_clock: MockClock) -> None:
    start_limiter = StartLimiter(3)
    entered: list[list[int]] = [[]]
    """By pass."""

    class Passes(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            entered.append([])

    async def enter(number: int) -> None:
        await start_limiter.wait_to_start()
        entered[-1].append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_limiter.run)
        trio.lowlevel.add_instrument(Passes())
        for again in range(2):
            for number in range(10):
                nursery.start_soon(enter, 10 * again + number)
            while sum(map(len, entered)) < 10 * (again + 1):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert max(map(len, entered)) == 3
    assert sorted(chain.from_iterable(entered)) == list(range(20))


async def test_later_tasks_do_not_overtake_those_that_wait(autojump_clock: MockClock) -> None:
    start_limiter = StartLimiter(2)
    order: list[str] = []

    async def enter(name: str) -> None:
        await start_limiter.wait_to_start()
        order.append(name)

    for _ in range(2):
        await start_limiter.wait_to_start()
    async with trio.open_nursery() as nursery:
        for name in ("first", "second", "third", "fourth"):
            nursery.start_soon(enter, name)
            await wait_all_tasks_blocked()
        nursery.start_soon(start_limiter.run)
        while "later" not in order:
            nursery.start_soon(enter, "later")
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert {*order[:2]} == {"first", "second"}
    assert {*order[2:4]} == {"third", "fourth"}


async def test_a_cancelled_task_leaves_the_queue(autojump_clock: MockClock) -> None:
    start_limiter = StartLimiter(1)
    order: list[str] = []

    async def enter(name: str) -> None:
        await start_limiter.wait_to_start()
        order.append(name)

    await start_limiter.wait_to_start()
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as given_up:
            given_up.start_soon(enter, "given up")
            await wait_all_tasks_blocked()
            given_up.cancel_scope.cancel()
        nursery.start_soon(enter, "second")
        await wait_all_tasks_blocked()
        assert order == []
        nursery.start_soon(start_limiter.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert order == ["second"]


async def test_a_turn_is_not_held_while_running(autojump_clock: MockClock) -> None:
    start_limiter = StartLimiter(1)

    async def enter_and_stay() -> None:
        await start_limiter.wait_to_start()
        await trio.sleep(60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_limiter.run)
        for _ in range(5):
            nursery.start_soon(enter_and_stay)
        await trio.sleep(1)
        with trio.fail_after(1):
            await start_limiter.wait_to_start()
        nursery.cancel_scope.cancel()


# Allowances


async def test_an_address_has_one_token_bucket_for_all_connections(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(requests_per_second=10, request_burst=20)
    limiter = ConnectionLimiter(lambda: limits)
    start = trio.current_time()

    async def send_requests(address: str, times: int) -> None:
        for _ in range(times):
            bucket = limiter.request_bucket(address)
            await bucket.wait()
            bucket.consume(1, size=0)

    async with trio.open_nursery() as nursery:
        for host in range(4):  # of one IPv6 network
            nursery.start_soon(send_requests, f"2001:db8::{host + 1}", 30)
        await send_requests("192.0.2.1", 20)
        assert trio.current_time() == start
    assert trio.current_time() - start == pytest.approx(10, abs=1)


async def test_the_number_of_token_buckets_is_limited(autojump_clock: MockClock) -> None:
    limiter = ConnectionLimiter(Limits)
    for number in range(12_000):
        limiter.request_bucket(f"10.0.{number // 256}.{number % 256}")
    assert len(limiter._buckets) == 10_000


async def test_requests_wait_for_tokens() -> None:
    limits = Limits(requests_per_second=20, request_burst=1)
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:0", None, limits)
        async with connect(gateway.addresses[0][1]) as raw:
            began = trio.current_time()
            for _ in range(5):
                await raw.send(get("/healthz", x_forwarded_for="192.0.2.1"))
                assert (await raw.receive_response())[0] == 200
            assert trio.current_time() - began > 0.15
            for _ in range(50):  # without the header they are this machine's
                await raw.send(get("/healthz"))
                assert (await raw.receive_response())[0] == 200
        nursery.cancel_scope.cancel()
