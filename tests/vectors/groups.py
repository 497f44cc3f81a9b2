"""Runs the steps of `vectors/groups.json` with the reducer.

As a program (`python -m tests.vectors.groups`) it writes the results of the reducer into the steps
that have none yet, as `tests.vectors.reducer` does.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gateway.model.children import groups_above
from gateway.model.groups import Contributions, inherited_request
from gateway.model.reducer import expire_lease, reduce
from gateway.model.state import Record, Request, RequestUpdate, Update
from gateway.protocol.commands import parse_update

from .reducer import EPOCH, VECTORS

__all__ = ["answer_of", "in_python", "update_of"]


def in_python(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the results of the reducer for each step, in the form of the file."""
    records: dict[str, Record] = {}
    contributions = Contributions()
    answers = []
    for step in steps:
        job, now = step["job"], step["at"]
        reason: str | None = None
        if step.get("forget"):
            del records[job]
            changed = dict(contributions.drop_job(job, records.get, now=now))
        elif step.get("silence"):
            expired = expire_lease(records[job])
            if expired is not None:
                records[job] = expired
            taken = contributions.count_job(job, records[job], records.get, now=now, expired=True)
            changed = dict(taken)
        else:
            update = update_of(step)
            children = contributions.of(job).values()
            result = reduce(records.get(job), update, now=now, epoch=EPOCH, children=children)
            records[job], reason = result.record, result.reason
            if result.restarted:
                contributions.restart(job)
            changed = dict(contributions.count_job(job, result.record, records.get, now=now))
            if result.renews:
                changed |= {job: result.record}
        records.update(changed)
        for name, record in changed.items():
            inherited = inherited_request(name, record, records.get)
            if inherited is not None:
                records[name] = reduce(record, inherited, now=now, epoch=EPOCH).record
        found = {
            name: (job_record.position.seq, job_record.state)
            for name, job_record in records.items()
        }
        answers.append(answer_of(job, reason, found))
    return answers


def update_of(step: dict[str, Any]) -> Update:
    """Returns the update, or the request, of a step."""
    if "request" in step:
        text = json.dumps(step["request"], separators=(",", ":"))
        return RequestUpdate(request=msgspec.json.decode(text, type=Request))
    return parse_update(json.dumps(step["update"]).encode())


def answer_of(job: str, reason: str | None, found: dict[str, tuple[int, Any]]) -> dict[str, Any]:
    """Returns the part of a step that is expected: of the job, and of all groups above it."""
    jobs: dict[str, Any] = {}
    for name in (job, *(group for group, _ in groups_above(job))):
        seq, state = found.get(name, (0, None))
        if state is not None:
            state = msgspec.json.decode(msgspec.json.encode(state))
        jobs[name] = {"seq": seq, "state": state}
    return {"reason": reason, "jobs": jobs}


def _fill() -> None:
    path = VECTORS / "groups.json"
    vectors = json.loads(path.read_text("utf-8"))
    for case in vectors["cases"]:
        for step, answer in zip(case["steps"], in_python(case["steps"]), strict=True):
            step.setdefault("expect", answer)
    path.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    _fill()
