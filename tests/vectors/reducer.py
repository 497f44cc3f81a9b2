"""Runs the steps of `vectors/reducer.json` with the reducer.

As a program (`python -m tests.vectors.reducer`) it writes the results of the reducer into the steps
that have none yet. It never changes a result: a step that is wrong is corrected by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from gateway.model.lease_times import lease_expires_at
from gateway.model.reducer import expire_lease, may_begin, reduce
from gateway.model.state import Record
from gateway.protocol.commands import parse_update

__all__ = ["VECTORS", "in_python"]

VECTORS = Path(__file__).parents[2] / "vectors"
EPOCH = 1


def in_python(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns what the reducer answers to each step, in the form of the file."""
    record: Record | None = None
    reported_at = 0.0
    answers: list[dict[str, Any]] = []
    for step in steps:
        now = step["at"]
        reason: str | None = None
        if "update" in step:
            update = parse_update(json.dumps(step["update"]).encode())
            if record is None and not may_begin(update):
                answers.append({"reason": "unknown", "seq": 0, "state": None})
                continue
            result = reduce(record, update, now=now, epoch=EPOCH)
            record, reason = result.record, result.reason
            if result.renews:
                reported_at = now
        else:
            at = lease_expires_at(record.state, reported_at=reported_at) if record else None
            expired = expire_lease(record) if record and at is not None and at <= now else None
            record, reason = expired or record, None if expired else "not_due"
        assert record is not None, "a case begins with an update that begins the job"
        state = msgspec.json.decode(msgspec.json.encode(record.state))
        answers.append({"reason": reason, "seq": record.position.seq, "state": state})
    return answers


def _fill() -> None:
    path = VECTORS / "reducer.json"
    vectors = json.loads(path.read_text("utf-8"))
    for case in vectors["cases"]:
        for step, answer in zip(case["steps"], in_python(case["steps"]), strict=True):
            step.setdefault("expect", answer)
    path.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    _fill()
