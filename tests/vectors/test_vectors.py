"""The vectors of `vectors/`, run by the Python and the Lua that the gateway has.

`web/tests/vectors.test.js` runs those that concern a browser.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.brokers.redis.codec import as_arguments, snapshot
from gateway.brokers.redis.scripts import FUNCTIONS
from gateway.cli.watch.frames import Progress, parse_frames
from gateway.cli.watch.job_states import JobStates
from gateway.model.errors import InvalidInput
from gateway.model.ids import is_job_id
from gateway.model.patterns import Patterns
from gateway.protocol.close_codes import CLOSE_CODES, reconnects_after
from gateway.protocol.commands import parse_update
from tests.brokers.redis.server import script_on_test_clock, session_server
from tests.brokers.redis.test_lua_groups import Lua
from tests.simulation.reference import ReferenceClient, returns_after
from tests.vectors import groups
from tests.vectors.reducer import VECTORS, in_python


def vectors(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((VECTORS / name).read_text("utf-8"))
    return found


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in vectors(name)["cases"]]


@pytest.mark.parametrize("case", cases("reducer.json"))
def test_python_reducer_matches_the_vectors(case: dict[str, Any]) -> None:
    answers = in_python(case["steps"])
    assert answers == [step["expect"] for step in case["steps"]]


@pytest.mark.parametrize("case", cases("reducer.json"))
def test_lua_reducer_matches_the_vectors(case: dict[str, Any]) -> None:
    client = session_server().client
    publish, expire = (
        client.script_load(script_on_test_clock(name)) for name in ("publish", "expire_leases")
    )
    keys = [f"progress:{name}" for name in ("feed", "leases", "recent", "counters")]
    keys += ["progress:last:a", "progress:log:a"]
    for step in case["steps"]:
        client.set("progress:feed:clock", repr(step["at"]))
        client.hset("progress:counters", "retention", 10**9)
        if "update" in step:
            update = parse_update(json.dumps(step["update"]).encode())
            answer = client.evalsha(publish, len(keys), *keys, "", "a", *as_arguments(update))
            reason = answer[3].decode() or None
        else:
            made = client.evalsha(expire, len(keys), *keys, "", 100, "a")
            reason = None if made else "not_due"
        event = snapshot("a", client.hgetall("progress:last:a"))
        state = msgspec.json.decode(msgspec.json.encode(event.state)) if event else None
        expected = step["expect"]
        assert (reason, event.position.seq if event else 0, state) == (
            expected["reason"],
            expected["seq"],
            expected["state"],
        )


@pytest.mark.parametrize("case", cases("groups.json"))
def test_python_groups_match_the_vectors(case: dict[str, Any]) -> None:
    answers = groups.in_python(case["steps"])
    assert answers == [step["expect"] for step in case["steps"]]


@pytest.mark.parametrize("case", cases("groups.json"))
def test_lua_groups_match_the_vectors(case: dict[str, Any]) -> None:
    lua = Lua(session_server())
    jobs = {name for step in case["steps"] for name in step["expect"]["jobs"]}
    for step in case["steps"]:
        lua.set_clock(step["at"])
        job, reason = step["job"], None
        if step.get("forget"):
            lua.forget(job)
        elif step.get("silence"):
            lua.silence(job)
        else:
            reason = lua.publish(job, groups.update_of(step))
        events = {name: lua.event(name) for name in jobs}
        found = {name: (event.position.seq, event.state) for name, event in events.items() if event}
        assert groups.answer_of(job, reason, found) == step["expect"]


@pytest.mark.parametrize("case", cases("client.json"))
def test_client_rule_matches_the_vectors(case: dict[str, Any]) -> None:
    job_states = JobStates(["a"])
    shown_state: dict[str, Any] | None = None
    for step in case["steps"]:
        positions = {
            job: list(at) for job, at in job_states.positions().items() if at[0] is not None
        }
        if "reconnect" in step:
            assert positions.get("a") == step["hello"]
            continue
        frame = step["frame"]
        if frame["state"] is not None:  # the file leaves out what does not matter here
            frame["state"] |= {"health": "ok", "lease": 30, "created_at": 0, "updated_at": 0}
        ((_, parsed),) = parse_frames(json.dumps(frame))
        assert isinstance(parsed, Progress)
        assert job_states.apply(parsed) == step["accepted"] != step["resync"]
        if step["accepted"]:
            shown_state = step["shown"]
        state = job_states.states.get("a")
        assert (state and state.message) == (shown_state and shown_state["message"])
        position = job_states.positions().get("a")
        assert (list(position) if position else None) == step["position"]


@pytest.mark.parametrize("case", cases("client.json"))
def test_client_rule_of_the_simulation_matches_the_vectors(case: dict[str, Any]) -> None:
    client = ReferenceClient()
    for step in case["steps"]:
        if "reconnect" in step:
            assert client.begin().get("a") == step["hello"]
            continue
        verdict = client.take(step["frame"])
        assert (verdict == "accepted", verdict == "violation") == (step["accepted"], step["resync"])
        known_job = client.known.get("a")
        position = [known_job.epoch, known_job.seq] if known_job else None
        assert (position, client.shown.get("a")) == (step["position"], step["shown"])


@pytest.mark.parametrize("case", vectors("close_codes.json")["cases"], ids=lambda c: str(c["code"]))
def test_close_codes_match_the_vectors(case: dict[str, Any]) -> None:
    table = {code.code: code.reconnect for code in CLOSE_CODES}
    assert table.get(case["code"], case["reconnect"]) == case["reconnect"]
    assert reconnects_after(case["code"]) == case["reconnect"]
    assert returns_after(case["code"]) == case["reconnect"]


def test_every_close_code_has_a_vector() -> None:
    known = {case["code"] for case in vectors("close_codes.json")["cases"]}
    assert {code.code for code in CLOSE_CODES} <= known


def test_python_ids_match_the_vectors() -> None:
    ids = vectors("ids.json")
    assert [text for text in ids["valid"] if not is_job_id(text)] == []
    assert [text for text in ids["invalid"] if is_job_id(text)] == []


def test_lua_ids_match_the_vectors() -> None:
    client = session_server().client
    client.function_load(FUNCTIONS, replace=True)
    ids = vectors("ids.json")
    for text in ids["valid"]:
        client.fcall("progress", 1, "progress", text)
    for text in ids["invalid"]:
        with pytest.raises(Exception, match="job must be a job id"):
            client.fcall("progress", 1, "progress", text)


def test_patterns_match_the_vectors() -> None:
    cases = vectors("patterns.json")
    for case in cases["cases"]:
        patterns = Patterns.parse(case["patterns"])
        assert [job for job in case["matches"] if job not in patterns] == []
        assert [job for job in case["others"] if job in patterns] == []
    for text in cases["invalid"]:
        with pytest.raises(InvalidInput):
            Patterns.parse([text])
