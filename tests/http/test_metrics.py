"""The Prometheus metrics are well formed, and count events."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from gateway import Gateway, serve_gateway
from gateway.auth.factory import open_authenticator
from gateway.http.metrics import Metrics
from gateway.observability.counters import SAMPLE_EVERY, Histogram
from gateway.server import Internal
from tests.auth.signing import SECRET, sign
from tests.e2e.client import connect, frame, open_client
from tests.e2e.conftest import eventually

ROOT = Path(__file__).parents[2]


async def scrape(port: int, **headers: str) -> tuple[int, dict[str, float]]:
    """Returns the status, and each sample by its name and labels."""
    lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    async with connect(port) as raw:
        await raw.send(f"GET /metrics HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n".encode())
        status, answered, body = await raw.receive_response()
    if status != 200:
        return status, {}
    assert answered["content-type"].startswith("text/plain; version=")
    samples = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={text}" for name, text in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return status, samples


async def test_metrics_count_events(gateway: Gateway) -> None:
    port = gateway.addresses[0][1]
    body = b'{"percent": 1}'
    for _ in range(2):
        async with connect(port) as raw:
            head = b"POST /api/jobs/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
            await raw.send(head % len(body) + body)
            assert (await raw.receive_response())[0] == 200
    async with open_client(port) as client:
        await client.receive_type("welcome")
        await client.request("subscribe", jobs=["a", "b"])
        _, samples = await scrape(port)
        assert samples["progress_gateway_connections"] == 1
        assert samples["progress_gateway_subscriptions"] == 2
        assert samples["progress_gateway_ready"] == 1
        assert samples["progress_gateway_stale"] == 0
        assert samples["progress_gateway_updates_total{result=applied}"] == 1
        assert samples["progress_gateway_updates_total{result=unchanged}"] == 1
        assert samples["progress_gateway_feed_events_total"] >= 1
        assert samples["progress_gateway_event_age_seconds_count"] >= 1
        assert samples["progress_gateway_event_age_seconds_bucket{le=+Inf}"] >= 1
        assert samples["progress_gateway_messages_sent_total{kind=snapshot}"] == 2
        assert samples["progress_gateway_messages_sent_total{kind=gap}"] == 0
        assert samples["progress_gateway_sent_bytes_total"] > 100
        assert 2 <= samples["progress_gateway_writes_total"] <= 4
        assert samples["progress_gateway_queue_wait_seconds_count"] >= 0
        assert samples["progress_gateway_commands_total{type=subscribe}"] == 1
        assert samples["progress_gateway_subscriptions_opened_total{from=snapshot}"] == 2
        assert samples["progress_gateway_feed_lag_events"] == 0
        assert samples["progress_gateway_probe_round_trip_seconds"] > 0
        assert samples["process_resident_memory_bytes"] > 0
        await client.raw.send(frame(b"", 2))
        assert await client.close_code() == 1003
    await eventually(lambda: gateway.node.statistics().connections == 0)
    _, samples = await scrape(port)
    assert samples["progress_gateway_connections_opened_total{transport=websocket}"] == 1
    assert samples["progress_gateway_connections_closed_total{code=1003,transport=websocket}"] == 1
    assert samples["progress_gateway_connections_closed_total{code=1011,transport=websocket}"] == 0
    assert samples["progress_gateway_connection_duration_seconds_count"] == 1


async def test_metrics_have_the_time_from_event_to_socket(gateway: Gateway) -> None:
    await gateway.publish("old", percent=1)
    port = gateway.addresses[0][1]
    async with open_client(port) as client:
        await client.receive_type("welcome")
        await client.request("subscribe", jobs=["old", "a"], mode="every")
        for percent in range(2 * SAMPLE_EVERY + 1):
            await gateway.publish("a", percent=percent)
            await client.receive_type("progress")
    delivered = gateway.node.counters.delivery_delays
    assert sum(delivered.counts) == pytest.approx(2, abs=1)
    assert 0 <= delivered.total < 5


async def test_refused_connections_are_counted(gateway: Gateway) -> None:
    async with open_client(gateway.addresses[0][1], path="/nowhere") as client:
        assert await client.close_code() == 4504
    _, samples = await scrape(gateway.addresses[0][1])
    assert samples["progress_gateway_connections_refused_total{code=4504}"] == 1
    assert samples["progress_gateway_connections_refused_total{code=4003}"] == 0
    assert gateway.node.counters.connections_opened == {}


@pytest.fixture
async def with_tokens() -> AsyncIterator[Gateway]:
    async with trio.open_nursery() as nursery:
        authenticator, internal = open_authenticator(secret=SECRET), Internal("127.0.0.1:0")
        serve = partial(
            serve_gateway, "127.0.0.1:0", authenticator=authenticator, internal=internal
        )
        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()


async def test_metrics_can_be_restricted_to_the_internal_address(with_tokens: Gateway) -> None:
    assert (await scrape(with_tokens.addresses[0][1]))[0] == 404
    assert (await scrape(with_tokens.internal_addresses[0][1]))[0] == 200


async def test_metrics_on_the_public_address_need_a_token() -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_gateway, "127.0.0.1:0", authenticator=open_authenticator(secret=SECRET)
        )
        gateway: Gateway = await nursery.start(serve)
        port = gateway.addresses[0][1]
        assert (await scrape(port))[0] == 401
        token = sign({"exp": time.time() + 60, "watch": []})
        assert (await scrape(port, authorization=f"Bearer {token}"))[0] == 200
        nursery.cancel_scope.cancel()


def test_a_histogram_is_formatted_for_prometheus() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1, 5, 100):
        histogram.observe(value)
    histogram.observe_all([2, 2, 2])
    assert histogram.counts == [2, 4, 1]
    assert histogram.total == 112.5


@pytest.mark.parametrize(
    "page", ["docs/grafana.json", "docs/operations.md", "docs/alerts.yml", "docs/alerts.md"]
)
async def test_metrics_in_alerts_exist(gateway: Gateway, page: str) -> None:
    """Each metric in a panel or an alert exists."""
    written = Metrics(gateway.node).page().decode()
    names = set(re.findall(r"^# TYPE (\w+)", written, re.MULTILINE))
    text = (ROOT / page).read_text()
    used = set(re.findall(r"\b(?:gateway|process)_[a-z_]+[a-z]\b", text))
    for name in used:
        assert name in names or re.sub(r"_(bucket|count|sum)$", "", name) in names, name
