"""What Prometheus reads: well formed, and it counts what happened."""

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
from gateway.auth.opening import open_gate
from gateway.metrics import Metrics
from gateway.server import Internal
from gateway.tally import TIMED, Histogram
from tests.auth.signing import SECRET, sign
from tests.e2e.client import connect, frame, open_client
from tests.e2e.conftest import eventually

ROOT = Path(__file__).parent.parent


async def scraped(port: int, **headers: str) -> tuple[int, dict[str, float]]:
    """The status, and each sample by its name and labels."""
    lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    async with connect(port) as raw:
        await raw.send(f"GET /metrics HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n".encode())
        status, answered, body = await raw.response()
    if status != 200:
        return status, {}
    assert answered["content-type"].startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f"{name}={text}" for name, text in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return status, found


async def test_it_counts_what_happened(gateway: Gateway) -> None:
    port = gateway.addresses[0][1]
    body = b'{"percent": 1}'
    for _ in range(2):
        async with connect(port) as raw:
            head = b"POST /api/jobs/a HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
            await raw.send(head % len(body) + body)
            assert (await raw.response())[0] == 200
    async with open_client(port) as client:
        await client.hear_type("welcome")
        await client.ask("subscribe", jobs=["a", "b"])
        _, found = await scraped(port)
        assert found["gateway_connections"] == 1
        assert found["gateway_subscriptions"] == 2
        assert found["gateway_ready"] == 1
        assert found["gateway_stale"] == 0
        assert found["gateway_updates_total{result=applied}"] == 1
        assert found["gateway_updates_total{result=unchanged}"] == 1
        assert found["gateway_events_total"] >= 1
        assert found["gateway_event_age_seconds_count"] >= 1
        assert found["gateway_event_age_seconds_bucket{le=+Inf}"] >= 1
        assert found["gateway_sent_total{kind=snapshot}"] == 2
        assert found["gateway_sent_total{kind=gap}"] == 0
        assert found["gateway_sent_bytes_total"] > 100
        assert 2 <= found["gateway_writes_total"] <= 4
        assert found["gateway_queue_seconds_count"] >= 0
        assert found["gateway_commands_total{type=subscribe}"] == 1
        assert found["gateway_subscribed_total{from=nowhere}"] == 2
        assert found["gateway_feed_behind"] == 0
        assert found["gateway_canary_round_trip_seconds"] > 0
        assert found["process_resident_memory_bytes"] > 0
        await client.raw.send(frame(b"", 2))
        assert await client.ending() == 1003
    await eventually(lambda: gateway.node.statistics().connections == 0)
    _, found = await scraped(port)
    assert found["gateway_connected_total{transport=websocket}"] == 1
    assert found["gateway_ended_total{code=1003,transport=websocket}"] == 1
    assert found["gateway_ended_total{code=1011,transport=websocket}"] == 0
    assert found["gateway_connection_seconds_count"] == 1


async def test_the_way_to_the_socket_is_timed(gateway: Gateway) -> None:
    await gateway.publish("old", percent=1)
    port = gateway.addresses[0][1]
    async with open_client(port) as client:
        await client.hear_type("welcome")
        await client.ask("subscribe", jobs=["old", "a"], mode="every")
        for percent in range(2 * TIMED + 1):
            await gateway.publish("a", percent=percent)
            await client.hear_type("progress")
    delivered = gateway.node.tally.delivered
    assert sum(delivered.counts) == pytest.approx(2, abs=1)
    assert 0 <= delivered.total < 5


async def test_who_is_turned_away_is_counted(gateway: Gateway) -> None:
    async with open_client(gateway.addresses[0][1], path="/nowhere") as client:
        assert await client.ending() == 4504
    _, found = await scraped(gateway.addresses[0][1])
    assert found["gateway_refused_total{code=4504}"] == 1
    assert found["gateway_refused_total{code=4003}"] == 0
    assert gateway.node.tally.connected == {}


@pytest.fixture
async def with_tokens() -> AsyncIterator[Gateway]:
    async with trio.open_nursery() as nursery:
        gate, internal = open_gate(secret=SECRET), Internal("127.0.0.1:0")
        serve = partial(serve_gateway, "127.0.0.1:0", gate=gate, internal=internal)
        yield await nursery.start(serve)
        nursery.cancel_scope.cancel()


async def test_it_can_be_kept_inside(with_tokens: Gateway) -> None:
    assert (await scraped(with_tokens.addresses[0][1]))[0] == 404
    assert (await scraped(with_tokens.internal_addresses[0][1]))[0] == 200


async def test_outside_a_token_is_needed() -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(serve_gateway, "127.0.0.1:0", gate=open_gate(secret=SECRET))
        gateway: Gateway = await nursery.start(serve)
        port = gateway.addresses[0][1]
        assert (await scraped(port))[0] == 401
        token = sign({"exp": time.time() + 60})
        assert (await scraped(port, authorization=f"Bearer {token}"))[0] == 200
        nursery.cancel_scope.cancel()


def test_a_histogram() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1, 5, 100):
        histogram.observe(value)
    histogram.observe(2, times=3)
    assert histogram.counts == [2, 4, 1]
    assert histogram.total == 112.5


@pytest.mark.parametrize(
    "page", ["docs/grafana.json", "docs/operations.md", "docs/alerts.yml", "docs/alerts.md"]
)
async def test_what_is_watched_exists(gateway: Gateway, page: str) -> None:
    """No panel and no alert is about a metric that is not there."""
    written = Metrics(gateway.node).page().decode()
    names = set(re.findall(r"^# TYPE (\w+)", written, re.MULTILINE))
    text = (ROOT / page).read_text()
    used = set(re.findall(r"\b(?:gateway|process)_[a-z_]+[a-z]\b", text))
    for name in used:
        assert name in names or re.sub(r"_(bucket|count|sum)$", "", name) in names, name
