"""The Grafana dashboard."""

from __future__ import annotations

from typing import Any

__all__ = ["dashboard"]


def _rate(metric: str, *, by: str | None = None) -> str:
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}[$__rate_interval]))"


def _quantiles(histogram: str) -> dict[str, str]:
    buckets = _rate(f"{histogram}_bucket", by="le")
    return {f"p{q}": f"histogram_quantile(0.{q}, {buckets})" for q in (50, 99)}


PANELS = (
    ("Connections", "short", {"{{instance}}": "progress_gateway_connections"}),
    (
        "Connections opened, refused and closed",
        "ops",
        {
            "opened": _rate("progress_gateway_connections_opened_total"),
            "refused {{code}}": _rate("progress_gateway_connections_refused_total", by="code")
            + " > 0",
            "HTTP {{status}}": _rate("progress_gateway_http_errors_total", by="status") + " > 0",
            "{{code}}": _rate("progress_gateway_connections_closed_total", by="code") + " > 0",
        },
    ),
    (
        "Topics and subscriptions",
        "short",
        {
            "topics": "sum(progress_gateway_topics)",
            "topics free": "sum(progress_gateway_topics_free)",
            "subscriptions": "sum(progress_gateway_subscriptions)",
        },
    ),
    (
        "Subscriptions opened",
        "ops",
        {"{{from}}": _rate("progress_gateway_subscriptions_opened_total", by="from")},
    ),
    (
        "Events read from the feed",
        "ops",
        {"{{instance}}": "rate(progress_gateway_feed_events_total[$__rate_interval])"},
    ),
    (
        "Messages sent, and events conflated",
        "ops",
        {
            "{{kind}}": _rate("progress_gateway_messages_sent_total", by="kind"),
            "conflated": _rate("progress_gateway_events_conflated_total"),
            "writes": _rate("progress_gateway_writes_total"),
        },
    ),
    ("Bytes to clients", "Bps", {"sent": _rate("progress_gateway_sent_bytes_total")}),
    (
        "Age of updates when they are read from the feed",
        "s",
        _quantiles("progress_gateway_event_age_seconds"),
    ),
    ("Delivery delay", "s", _quantiles("progress_gateway_delivery_delay_seconds")),
    ("Queue wait", "s", _quantiles("progress_gateway_queue_wait_seconds")),
    ("Write duration", "s", _quantiles("progress_gateway_write_duration_seconds")),
    ("Ping round trip", "s", _quantiles("progress_gateway_ping_round_trip_seconds")),
    (
        "Probe",
        "s",
        {
            "round trip {{instance}}": "progress_gateway_probe_round_trip_seconds",
            "pending {{instance}}": "progress_gateway_probe_pending_seconds",
        },
    ),
    ("Feed lag", "short", {"{{instance}}": "progress_gateway_feed_lag_events"}),
    (
        "Ready and stale",
        "short",
        {
            "ready {{instance}}": "progress_gateway_ready",
            "stale {{instance}}": "progress_gateway_stale",
        },
    ),
    (
        "Expired leases and feed resets",
        "ops",
        {
            "leases expired": _rate("progress_gateway_leases_expired_total"),
            "feed resets": _rate("progress_gateway_feed_resets_total"),
        },
    ),
    (
        "Updates over HTTP",
        "ops",
        {"{{result}}": _rate("progress_gateway_updates_total", by="result")},
    ),
    (
        "Commands and protocol errors",
        "ops",
        {
            "{{type}}": _rate("progress_gateway_commands_total", by="type"),
            "error: {{code}}": _rate("progress_gateway_protocol_errors_total", by="code"),
        },
    ),
    ("Memory", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job="gateway"}'}),
    (
        "CPU",
        "percentunit",
        {"{{instance}}": 'rate(process_cpu_seconds_total{job="gateway"}[$__rate_interval])'},
    ),
)
"""A panel of the dashboard: title, unit, and a query for each legend."""


def dashboard() -> dict[str, Any]:
    """Grafana's JSON of `PANELS`, two in a row."""
    panels = [
        {
            "id": number + 1,
            "title": title,
            "type": "timeseries",
            "datasource": {"type": "prometheus", "uid": "${source}"},
            "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
                for index, (legend, query) in enumerate(queries.items())
            ],
        }
        for number, (title, unit, queries) in enumerate(PANELS)
    ]
    source = {"name": "source", "type": "datasource", "query": "prometheus"}
    return {
        "title": "progress-gateway",
        "uid": "progress-gateway",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
