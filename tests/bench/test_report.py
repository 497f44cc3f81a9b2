"""The README's table says what was measured."""

from __future__ import annotations

from bench.report import summary


def of(**figures: float) -> dict[str, object]:
    return {"median": figures, "rounds": [figures], "failed": None}


def test_servers_are_rows_and_what_was_not_measured_is_left_open() -> None:
    found = {
        "fanout": {"progress-gateway": of(per_second=3_837_699, p99=175), "them": of(per_second=4)},
        "idle": {"progress-gateway": of(kib=39.68), "them": {"median": {}, "failed": "lost"}},
        "start": {"progress-gateway": of(serve_ms=512)},
    }
    assert summary({"workloads": found}) == (
        "| | 1 job, 1,000 clients: events/s | KiB a connection |\n"
        "|---|---:|---:|\n"
        "| **progress-gateway** | 3,840,000 | 39.7 |\n"
        "| them | 4 | – |\n"
    )
