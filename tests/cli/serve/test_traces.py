"""Spans with the setup of docs/operations.md, from each of several server processes; and the
`traceparent` in the environment of a command."""

from __future__ import annotations

import re
import signal
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from tests.brokers.redis.server import session_server
from tests.ops.documented import adapted, documented
from tests.traceparents import MALFORMED, PARENT, SPAN, TRACE
from tests.worker.fake_gateway import FakeGateway

from ..processes import GATEWAY, Running
from ..test_publish import publish
from .test_processes import Supervised, one_of_each

INSTRUMENT = str(Path(sysconfig.get_path("scripts"), "opentelemetry-instrument"))


@contextmanager
def collector() -> Iterator[tuple[str, list[ResourceSpans]]]:
    """Yields the URL of a receiver of spans (OTLP over HTTP), and the spans that it has
    received."""
    came: list[ResourceSpans] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            came.extend(ExportTraceServiceRequest.FromString(body).resource_spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", came
        finally:
            server.shutdown()
            thread.join()


async def test_each_server_process_exports_all_its_spans() -> None:
    redis = session_server().url
    with collector() as (url, came):
        text = adapted(documented("Traces", "sh"), (r"http://127\.0\.0\.1:4318", url))
        export: dict[str, Any] = dict(re.findall(r"(OTEL_\w+)=(\S+)", text))
        with Supervised(redis=redis, gateway=(INSTRUMENT, *GATEWAY), **export) as processes:
            port = processes.serving()
            async with one_of_each(port, 2) as clients:
                for client in clients.values():
                    await client.request("subscribe", jobs=["a"])
                    await client.receive_type("progress")
                gateway = f"http://127.0.0.1:{port}"
                received = publish(
                    "a", "--percent", "7", PROGRESS_GATEWAY_URL=gateway, TRACEPARENT=SPAN
                )
                assert received.returncode == 0
                for client in clients.values():
                    assert (await client.receive_type("progress"))["state"]["percent"] == 7
            # Before the SDK would send them, which is after 5 s.
            processes.tell(signal.SIGTERM)
            assert processes.end() == 0
    spans = [span for request in came for scope in request.scope_spans for span in scope.spans]
    assert [span.name for span in spans] == ["deliver progress"] * 2
    for span in spans:
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    resources = [
        {attribute.key: attribute.value.string_value for attribute in of.resource.attributes}
        for of in came
    ]
    assert {resource["service.name"] for resource in resources} == {"gateway"}
    assert len({resource["service.instance.id"] for resource in resources}) == 2


@pytest.mark.parametrize(
    ("variable", "passed_on"), [(SPAN, SPAN), *((text, None) for text in MALFORMED[:4])]
)
def test_the_traceparent_of_the_environment_is_used(
    fake_gateway: FakeGateway, variable: str, passed_on: str | None
) -> None:
    received = publish(
        "a", "--percent", "1", PROGRESS_GATEWAY_URL=fake_gateway.url, TRACEPARENT=variable
    )
    assert received.returncode == 0
    environment = {"PROGRESS_GATEWAY_URL": fake_gateway.url, "TRACEPARENT": variable}
    with Running(*GATEWAY, "run", "b", "--", "true", env=environment) as running:
        assert running.end() == 0
    assert {request.fields.get("traceparent") for request in fake_gateway.received} == {passed_on}
    assert {request.job for request in fake_gateway.received} == {"a", "b"}
