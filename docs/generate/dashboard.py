"""A dashboard for Grafana, of what `/metrics` says."""

from __future__ import annotations

from typing import Any

__all__ = ["dashboard"]

PANELS = (
    ("Clients", "short", {"{{instance}}": "gateway_connections"}),
    (
        "Clients that come, and how they end",
        "ops",
        {
            "come": "sum(rate(gateway_connected_total[$__rate_interval]))",
            "{{code}}": "sum by (code) (rate(gateway_ended_total[$__rate_interval]))",
        },
    ),
    (
        "Jobs watched",
        "short",
        {"topics": "sum(gateway_topics)", "subscriptions": "sum(gateway_subscriptions)"},
    ),
    (
        "Events from the broker",
        "ops",
        {"{{instance}}": "rate(gateway_events_total[$__rate_interval])"},
    ),
    (
        "Age of an update when it is fanned out",
        "s",
        {
            f"p{quantile}": f"histogram_quantile(0.{quantile}, sum by (le) "
            "(rate(gateway_event_age_seconds_bucket[$__rate_interval])))"
            for quantile in (50, 99)
        },
    ),
    (
        "Updates over HTTP",
        "ops",
        {"{{result}}": "sum by (result) (rate(gateway_updates_total[$__rate_interval]))"},
    ),
    (
        "Ready, and stale",
        "short",
        {"ready {{instance}}": "gateway_ready", "stale {{instance}}": "gateway_stale"},
    ),
    (
        "Silence and loss",
        "ops",
        {
            "reaped": "sum(rate(gateway_reaped_total[$__rate_interval]))",
            "feed lost": "sum(rate(gateway_feed_lost_total[$__rate_interval]))",
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
