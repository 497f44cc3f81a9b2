"""The spans in OpenTelemetry: from a worker's span to the delivery's, and when there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind

from gateway import Gateway, Job, MemoryBroker, Node, serve_gateway
from gateway.brokers.redis.broker import RedisBroker
from gateway.integrations.opentelemetry import current_traceparent
from gateway.model.state import Update
from gateway.worker.publisher import publish_one
from gateway.worker.redis import RedisPublisher
from tests.brokers.redis.server import Server, session_server
from tests.fakes import FakeSource, PromptSink
from tests.spans import Spans, session_spans
from tests.traceparents import PARENT, SPAN, TRACE, UNSAMPLED

from .client import WebSocketClient, is_final, open_client
from .conftest import eventually

tracer = trace.get_tracer("tests")


@pytest.fixture
def spans() -> Spans:
    return session_spans()


@pytest.fixture
async def on_redis() -> AsyncIterator[tuple[Server, int]]:
    """A Redis, and the port of a node on it."""
    server = session_server()
    broker = RedisBroker(server.url)
    async with trio.open_nursery() as nursery:
        gateway: Gateway = await nursery.start(serve_gateway, "127.0.0.1:0", broker)
        yield server, gateway.addresses[0][1]
        nursery.cancel_scope.cancel()
    broker.close()


async def watch(client: WebSocketClient, job: str) -> None:
    """Subscribes, and waits for the state of an unknown job."""
    await client.receive_type("welcome")
    await client.request("subscribe", jobs=[job])
    assert (await client.receive_type("progress"))["state"] is None


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_delivery_span_is_a_child_of_the_workers_span(
    spans: Spans, on_redis: tuple[Server, int]
) -> None:
    redis, port = on_redis

    def work() -> tuple[SpanContext, SpanContext]:
        with tracer.start_as_current_span("upload") as outer:
            job = Job("video:42", url=redis.url, traceparent=current_traceparent)
            with job, tracer.start_as_current_span("encode") as inner:
                job.update(percent=50)
                with job._sender._changed:
                    assert job._sender._changed.wait_for(lambda: not job._report.queued, 10)
            return outer.get_span_context(), inner.get_span_context()

    async with open_client(port) as client, open_client(port) as other:
        for each in (client, other):
            await watch(each, "video:42")
        outer, inner = await trio.to_thread.run_sync(work)
        end = await client.receive_until(
            lambda received: "state" in received and is_final(received["state"])
        )
        await eventually(lambda: len(spans.deliveries) == end["seq"])
        text = b"".join(frame.payload for frame in client.frames)

    seqs = [attributes(span)["progress.seq"] for span in spans.deliveries]
    assert seqs == list(range(1, end["seq"] + 1))
    for span in spans.deliveries:
        assert span.kind is SpanKind.CONSUMER
        assert span.context.trace_id == outer.trace_id
        assert span.parent is not None
        assert span.parent.is_remote
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time < span.end_time
    parents = [span.parent.span_id for span in spans.deliveries if span.parent]
    assert inner.span_id in parents
    assert parents[-1] == outer.span_id  # in which it ended
    assert attributes(spans.deliveries[-1]) == {
        "messaging.system": "progress_gateway",
        "messaging.operation.name": "deliver",
        "messaging.operation.type": "process",
        "messaging.destination.name": "progress",
        "messaging.message.id": f"{end['epoch']}-{end['seq']}",
        "progress.job": "video:42",
        "progress.seq": end["seq"],
        "progress.watchers": 2,
    }
    assert b"traceparent" not in text
    assert TRACE.encode() not in text
    assert f"{outer.trace_id:032x}".encode() not in text


async def test_events_not_sampled_or_watched_have_no_span(
    spans: Spans, on_redis: tuple[Server, int]
) -> None:
    redis, port = on_redis
    publisher = RedisPublisher(redis.url)  # its fields are not checked

    async def publish(job: str, **fields: Any) -> None:
        await trio.to_thread.run_sync(publish_one, publisher, job, fields)

    async with open_client(port) as client:
        await watch(client, "a")
        untold = [UNSAMPLED, "x", "ü", SPAN[:-1], None]
        for percent, traceparent in enumerate(untold, start=1):
            traced = {} if traceparent is None else {"traceparent": traceparent}
            await publish("a", percent=percent, **traced)
        await publish("unwatched", percent=1, traceparent=SPAN)
        await publish("a", percent=50, traceparent=SPAN)
        await eventually(lambda: bool(spans.deliveries))
        await client.receive_until(lambda received: received.get("seq") == len(untold) + 1)
    (span,) = spans.deliveries
    assert (attributes(span)["progress.job"], attributes(span)["progress.seq"]) == ("a", 6)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    publisher.close()


async def test_the_span_ends_when_the_clients_have_been_written_to(spans: Spans) -> None:
    broker = MemoryBroker()
    node = Node(broker)
    sinks = [PromptSink() for _ in range(5)]
    too_early: list[int] = []

    def look(span: ReadableSpan) -> None:
        seq = attributes(span)["progress.seq"]
        if not all(sink.frames_of("progress")[-1]["seq"] == seq for sink in sinks):
            too_early.append(seq)

    spans.seen = look
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        for sink in sinks:
            source = FakeSource()
            nursery.start_soon(node.serve, source, sink)
            await source.send(type="subscribe", jobs=["a"])
        await eventually(lambda: all(sink.frames_of("progress") for sink in sinks))
        for percent in range(1, 31):  # each in its own order
            await broker.publish("a", Update(percent=percent, traceparent=SPAN))
            await eventually(lambda: len(spans.deliveries) == percent)  # noqa: B023 - at once
        nursery.cancel_scope.cancel()
    assert not too_early


PROGRAM = """
import sys
sys.modules |= {blocked}
import trio
import trio.testing
from gateway import serve_gateway

class TraceWatcher:
    marked = 0

    def notify(self, subscription):
        self.marked += 1

async def main():
    watcher = TraceWatcher()
    async with trio.open_nursery() as nursery:
        gateway = await nursery.start(serve_gateway, "127.0.0.1:0")
        gateway.node.hub.subscribe("a", watcher)
        await trio.testing.wait_all_tasks_blocked()
        await gateway.publish("a", percent=1, traceparent={traceparent})
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert watcher.marked == 2, watcher.marked

trio.run(main)
print("gateway.node.tracing" in sys.modules, sys.modules.get("opentelemetry") is not None)
"""


@pytest.mark.parametrize(
    ("traceparent", "blocked", "loaded"),
    [
        (None, {}, "False False"),
        (SPAN, {}, "True True"),
        (SPAN, {"opentelemetry": None}, "False False"),
    ],
)
def test_opentelemetry_is_imported_at_the_first_traced_event(
    traceparent: str | None, blocked: dict[str, None], loaded: str
) -> None:
    program = PROGRAM.format(traceparent=repr(traceparent), blocked=blocked)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stdout.strip(), result.returncode) == (loaded, 0), result.stderr
