"""A dashboard for Grafana, of what `/metrics` says."""

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
    ("Clients", "short", {"{{instance}}": "gateway_connections"}),
    (
        "Clients that come, are turned away, and end",
        "ops",
        {
            "come": _rate("gateway_connected_total"),
            "refused {{code}}": _rate("gateway_refused_total", by="code") + " > 0",
            "HTTP {{status}}": _rate("gateway_problems_total", by="status") + " > 0",
            "{{code}}": _rate("gateway_ended_total", by="code") + " > 0",
        },
    ),
    (
        "Jobs watched",
        "short",
        {"topics": "sum(gateway_topics)", "subscriptions": "sum(gateway_subscriptions)"},
    ),
    (
        "Subscriptions, by where the client stood",
        "ops",
        {"{{from}}": _rate("gateway_subscribed_total", by="from")},
    ),
    (
        "Events from the broker",
        "ops",
        {"{{instance}}": "rate(gateway_events_total[$__rate_interval])"},
    ),
    (
        "Objects to clients, and events they were spared",
        "ops",
        {
            "{{kind}}": _rate("gateway_sent_total", by="kind"),
            "conflated": _rate("gateway_conflated_total"),
            "writes": _rate("gateway_writes_total"),
        },
    ),
    ("Bytes to clients", "Bps", {"sent": _rate("gateway_sent_bytes_total")}),
    ("Age of an update when it is fanned out", "s", _quantiles("gateway_event_age_seconds")),
    ("Age of an update when it is written", "s", _quantiles("gateway_delivery_seconds")),
    ("Waiting for the writer", "s", _quantiles("gateway_queue_seconds")),
    ("Writes that waited for the client", "s", _quantiles("gateway_write_seconds")),
    ("Heartbeat round trip", "s", _quantiles("gateway_heartbeat_seconds")),
    (
        "Canary",
        "s",
        {
            "round trip {{instance}}": "gateway_canary_round_trip_seconds",
            "out {{instance}}": "gateway_canary_out_seconds",
        },
    ),
    ("Events of the feed not read yet", "short", {"{{instance}}": "gateway_feed_behind"}),
    (
        "Ready, and stale",
        "short",
        {"ready {{instance}}": "gateway_ready", "stale {{instance}}": "gateway_stale"},
    ),
    (
        "Silence and loss",
        "ops",
        {"reaped": _rate("gateway_reaped_total"), "feed lost": _rate("gateway_feed_lost_total")},
    ),
    ("Updates over HTTP", "ops", {"{{result}}": _rate("gateway_updates_total", by="result")}),
    (
        "Commands, and violations",
        "ops",
        {
            "{{type}}": _rate("gateway_commands_total", by="type"),
            "violation: {{code}}": _rate("gateway_violations_total", by="code"),
        },
    ),
    ("Memory", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job="gateway"}'}),
    (
        "CPU",
        "percentunit",
        {"{{instance}}": 'rate(process_cpu_seconds_total{job="gateway"}[$__rate_interval])'},
    ),
)
"""Of the dashboard: title, unit, and a query for each legend."""


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
