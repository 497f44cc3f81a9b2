"""The README's table shows the measured figures."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.harness import Outcome, Results
from bench.report import summary, write_readme


def medians_of(**figures: float) -> dict[str, object]:
    return {"median": figures, "rounds": [figures], "failed": None}


def test_workloads_are_rows_and_missing_values_are_empty() -> None:
    found = {
        "fanout": {
            "progress-gateway": medians_of(per_second=3_837_699, p99=175),
            "them": medians_of(per_second=4),
        },
        "idle": {
            "progress-gateway": medians_of(kib=39.68),
            "them": {"median": {}, "failed": "lost"},
        },
        "posts": {"progress-gateway in memory": medians_of(per_second=10_600, watched=9)},
        "start": {"progress-gateway": medians_of(serve_ms=512)},
    }
    assert summary({"workloads": found}) == (
        "| | **progress-gateway** | them |\n"
        "|---|---:|---:|\n"
        "| POSTs/s, without Redis | 10,600 |  |\n"
        "| – while 1,000 clients watch the job | 9 |  |\n"
        "| 1 job, 1,000 clients: events/s | 3,840,000 | 4 |\n"
        "| memory per connection, KiB | 39.7 |  |\n"
    )


def test_a_new_run_replaces_the_previous_table(tmp_path: Path) -> None:
    before = {"workloads": {"idle": {"progress-gateway": medians_of(kib=39.68)}}}
    (tmp_path / "results.json").write_bytes(msgspec.json.encode(before))
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{summary(before)}\nThe end.\n")
    figures = {"cpu": 21.0, "p99": 30.0}
    results = Results({"updates": {"progress-gateway": Outcome([figures])}}, load=0.0)
    write_readme(results, tmp_path, readme)
    text = readme.read_text()
    assert "39.7" not in text
    assert "| 20 updates/s to 1,000 clients: CPU, % | 21 |\n| – p99, ms | 30 |\n\nThe end." in text
    assert summary(msgspec.json.decode((tmp_path / "results.json").read_bytes())) in text

    readme.write_text("no table")
    with pytest.raises(ValueError, match="does not have"):
        write_readme(results, tmp_path, readme)
